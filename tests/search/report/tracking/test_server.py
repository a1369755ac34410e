"""`vattn ui` serves MLflow's page, or says why it cannot."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from search.ledger.file import Ledger
from search.report.tracking.server import serve
from tests.processes import free_port
from tests.search.report.ledgers import Trees
from tests.search.report.tracking.stores import content, write


def test_there_is_no_page_before_a_search_has_created_its_database(tmp_path: Path, events: Trees) -> None:
    write(tmp_path, events)

    with closing(Ledger(tmp_path / "ledger.jsonl")), pytest.raises(ValueError, match="try again in a minute"):
        serve(str(tmp_path), free_port())

    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]


@pytest.mark.medium
def test_a_port_that_cannot_be_served_on_is_named(tmp_path: Path, events: Trees) -> None:
    write(tmp_path, events)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 99_999):
            with pytest.raises(ValueError, match=rf"--port {port}: cannot be served on .*; name another"):
                serve(str(tmp_path), port)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_results_on_a_tracking_server_are_not_served_again(
    tmp_path: Path, events: Trees, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    write(tmp_path, [events[0] | {"spec": events[0]["spec"] | {"tracking": {"uri": uri}}}, *events[1:]])
    assert serve(str(tmp_path), 0, uri) == 1
    assert capsys.readouterr().out == ""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    store = f"sqlite:///{tmp_path}/server.db"
    server = subprocess.Popen([*command, "--backend-store-uri", store], cwd=tmp_path, start_new_session=True)

    try:
        while serve(str(tmp_path), 0, uri):
            assert server.poll() is None
        assert capsys.readouterr().out == (
            f"the results are on the tracking server {uri}: "
            f"{uri}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=vattn-s1\n"
        )
        assert len(content(tmp_path, uri)) == 6
    finally:
        os.killpg(server.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "uri", ["sqlite:////elsewhere/x.db", "file:///elsewhere", "http://me:secret@host", "postgresql://host/x"]
)
def test_a_ledger_cannot_choose_where_the_page_of_its_search_writes(uri: str, tmp_path: Path, events: Trees) -> None:
    write(tmp_path, [events[0] | {"spec": events[0]["spec"] | {"tracking": {"uri": uri}}}, *events[1:]])

    with pytest.raises(ValueError, match="its spec names another MLflow store") as refused:
        serve(str(tmp_path), 0)

    assert "--tracking" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]

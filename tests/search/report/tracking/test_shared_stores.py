"""Stores that several searches share: PostgreSQL, and a tracking server with users."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.report.tracking.server import serve
from search.report.tracking.tracker import catch_up
from tests.processes import free_port
from tests.search.events import event
from tests.search.report.ledgers import Trees
from tests.search.report.tracking.postgres import PASSWORD, postgres
from tests.search.report.tracking.stores import content, replay, write


@pytest.mark.medium
@pytest.mark.timeout(300)
def test_postgresql_holds_the_same_and_is_written_anew_after_it_was_away(
    tmp_path: Path, events: Trees, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with postgres() as uri:
        replay(tmp_path, events, uri=uri)
        # Another search in the same experiment is left alone.
        other = [events[0] | {"id": "s2"}, *events[1:6]]
        replay(tmp_path, other, uri=uri)
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("by-hand")
        assert experiment
        first, second = (
            client.search_runs([experiment.experiment_id], f"tags.search = '{search}'") for search in ("s1", "s2")
        )
        assert (len(first), len(second)) == (6, 2)
        assert "tags.search = 's1'" in experiment.tags["mlflow.sharedViewState.vattn-s1"]
        for run in first:
            if run.data.tags["kind"] == "search":
                client.delete_run(run.info.run_id)
        assert catch_up(tmp_path, uri, "auto", map(event, events))
        first = client.search_runs([experiment.experiment_id], "tags.search = 's1'")
        (parent,) = (run.info.run_id for run in first if run.data.tags["kind"] == "search")
        assert {run.data.tags.get("mlflow.parentRunId") for run in first} == {parent, None}
        assert len(client.list_artifacts(parent)) == 6
        # Without a place for artifacts, MLflow takes the working directory, which is gone after a job.
        assert experiment.artifact_location == (tmp_path / "artifacts").as_uri()
        assert not list(Path.cwd().iterdir())

    caplog.set_level(logging.WARNING)
    assert not catch_up(tmp_path, uri, "auto", map(event, events))
    assert "cannot be written to" in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_tracking_server_with_users_is_linked_without_their_passwords(
    tmp_path: Path, events: Trees, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("flask_wtf", reason="MLflow's extra auth is not installed")
    port = free_port()
    uri = f"http://admin:{PASSWORD}@127.0.0.1:{port}"
    write(tmp_path, events)
    (tmp_path / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{tmp_path}/auth.db\n"
        f"admin_username = admin\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "k"}
    server = subprocess.Popen(
        [*command, "--port", str(port), "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"],
        cwd=tmp_path, env=os.environ | environment, start_new_session=True,
    )  # fmt: skip

    try:
        while serve(str(tmp_path), 0, uri):
            assert server.poll() is None
        shown = capsys.readouterr().out
        assert f": http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning" in shown
        assert PASSWORD not in shown
        assert len(content(tmp_path, uri)) == 6
    finally:
        os.killpg(server.pid, signal.SIGKILL)

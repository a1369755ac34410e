"""What MLflow holds is what the ledger says, however often and from wherever it is replayed."""

import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from search.ledger.file import Ledger
from search.report.tracking.server import serve
from search.report.tracking.store import tracking_uri
from search.report.tracking.tracker import Tracker, catch_up
from search.report.tracking.training import flat, log_training
from vattn.base import Config

Events = list[dict[str, Any]]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow database: making one takes seconds, copying it does not."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri("auto", folder)).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def output(tmp_path: Path, database: Path) -> Path:
    shutil.copy(database, tmp_path)
    return tmp_path


def replay(output: Path, events: Events, **to: str) -> None:
    tracker = Tracker(output, **to)
    for event in events:
        tracker.apply(event)
    tracker.close()


def write(output: Path, events: Events) -> None:
    (output / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def process(code: str, *arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
    """Start a process that has the events of the ledger in the folder that is its first argument."""
    head = "import sys; from pathlib import Path; from search.ledger import read; from search.tracking import *;"
    head += "output = Path(sys.argv[1]); events = list(read(output / 'ledger.jsonl'));"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def version(database: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def content(output: Path, uri: str = "auto") -> dict[str, Any]:
    """Return by run name what a store holds, without the ids that a new store gives anew."""
    client = MlflowClient(tracking_uri(uri, output))
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    names = [run.info.run_name for run in found]
    assert len(set(names)) == len(names), "a run is there twice"
    return {
        str(run.info.run_name): {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {key: run.data.tags[key] for key in sorted(run.data.tags) if not key.startswith("mlflow.")},
            "metrics": {
                key: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, key))
                for key in sorted(run.data.metrics)
            },
            "child": "mlflow.parentRunId" in run.data.tags,
        }
        for run in found
    }


def test_a_replayed_ledger_is_a_parent_with_a_child_a_trial(output: Path, events: Events) -> None:
    replay(output, events)

    runs = content(output)
    assert {name: (run["status"], run["tags"].get("state")) for name, run in runs.items()} == {
        "by-hand": ("KILLED", None),
        "000 no attention, T8": ("FINISHED", "finished"),
        "001 tam a2 K3 @res2-5 b, T8": ("FINISHED", "finished"),
        "002 tam a2 K3 @res2-5 b, T8": ("KILLED", "stopped"),
        "003 sta a2 K3 @res2-5 b, T8": ("FAILED", "failed"),
        "004 sta a2 K3 @res2-5 b, T8": ("SCHEDULED", "interrupted"),
    }
    trial = runs["001 tam a2 K3 @res2-5 b, T8"]
    assert trial["child"]
    assert trial["params"] == {"model.frames": "8", "attention": "tam"}
    assert [(step, value) for step, _, value in trial["metrics"]["top1"]] == [(1, 0.5), (2, 0.75)]
    assert [(step, value) for step, _, value in trial["metrics"]["seconds"]] == [(1, 3.0), (2, 6.0)]
    assert [(step, value) for step, _, value in trial["metrics"]["gflops"]] == [(0, 0.4)]
    assert runs["002 tam a2 K3 @res2-5 b, T8"]["tags"]["reason"] == "below the front"
    volumes = [(step, pytest.approx(value)) for step, _, value in runs["by-hand"]["metrics"]["hypervolume"]]
    assert volumes == [(1, 0.4), (2, 0.55)]


def test_the_parent_holds_spec_front_and_pictures(output: Path, events: Events) -> None:
    replay(output, events)

    client = MlflowClient(tracking_uri("auto", output))
    experiment = client.get_experiment_by_name("by-hand")
    assert experiment
    parent = client.search_runs([experiment.experiment_id], "attributes.run_name = 'by-hand'")[0].info.run_id
    folder = output / "artifacts" / parent / "artifacts"
    assert sorted(path.name for path in folder.iterdir()) == ["front.json", "pareto.html", "pareto.png", "spec.yaml"]
    assert yaml.safe_load((folder / "spec.yaml").read_text()) == events[0]["spec"]
    assert [row["trial"] for row in json.loads((folder / "front.json").read_text())["front"]] == [0, 1]


def test_a_second_replay_changes_nothing(output: Path, events: Events) -> None:
    replay(output, events)
    before = content(output)

    replay(output, events)

    assert content(output) == before


def test_a_lost_database_is_rebuilt(output: Path, events: Events) -> None:
    replay(output, events)
    before = content(output)
    (output / "mlflow.db").unlink()

    replay(output, events)

    assert content(output) == before


# What a migration that was stopped leaves: a column or a table more than its version says, or less than a version.
@pytest.mark.parametrize(
    "half", ["UPDATE alembic_version SET version_num = '0a8213491aaa'", "DROP TABLE alembic_version"]
)
def test_a_database_that_is_half_made_is_made_anew(output: Path, events: Events, half: str) -> None:
    with closing(sqlite3.connect(output / "mlflow.db")) as database, database:
        database.execute(half)

    replay(output, events)

    assert len(content(output)) == 6


def test_a_journal_that_a_killed_process_left_is_not_applied_to_the_new_database(output: Path, events: Events) -> None:
    code = (
        "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1]); database.execute('PRAGMA cache_size = 1');"
        "database.execute('DELETE FROM alembic_version'); database.commit();"
        "database.executemany('INSERT INTO alembic_version VALUES (?)', [(str(n),) for n in range(9999)]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, output / "mlflow.db"], check=True)
    (output / "mlflow.db").unlink()
    assert (output / "mlflow.db-journal").stat().st_size > 0

    replay(output, events)

    assert len(content(output)) == 6
    assert sorted(path.name for path in output.iterdir()) == ["artifacts", "mlflow.db"]


@pytest.mark.parametrize("seconds", [0.7, *(pytest.param(n, marks=pytest.mark.slow) for n in (0.1, 1.5, 3.0))])
def test_a_process_that_is_killed_leaves_no_database_that_is_half_made(
    tmp_path: Path, database: Path, events: Events, seconds: float
) -> None:
    output, aside = tmp_path / "output", tmp_path / "aside"
    output.mkdir()
    aside.mkdir()
    write(output, events)
    writer = process("catch_up(output, 'auto', 'auto', events)", output, TMPDIR=str(aside))
    while not list(tmp_path.rglob("*.db")):
        assert writer.poll() is None
        time.sleep(0.02)
    time.sleep(seconds)
    writer.kill()
    writer.communicate()
    assert not (output / "mlflow.db").exists() or version(output / "mlflow.db") == version(database)

    replay(output, events)

    assert len(content(output)) == 6


@pytest.mark.parametrize("away", [shutil.move, shutil.copytree])
def test_a_folder_that_was_moved_or_copied_has_its_own_pictures(
    tmp_path: Path, database: Path, events: Events, away: Callable[[Path, Path], None]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copy(database, old)
    replay(old, events)
    before = content(old)
    away(old, new)
    kept = {path: path.stat().st_mtime_ns for path in old.rglob("*")}

    replay(new, events)

    assert content(new) == before
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == kept
    client = MlflowClient(tracking_uri("auto", new))
    (parent,) = client.search_runs(["1"], "attributes.run_name = 'by-hand'")
    assert (new / "artifacts" / parent.info.run_id / "artifacts" / "pareto.png").exists()


def test_a_resume_writes_what_is_new(output: Path, events: Events, database: Path) -> None:
    replay(output, events[:14])
    replay(output, events)
    in_two_parts = content(output)
    shutil.copy(database, output)

    replay(output, events)

    assert content(output) == in_two_parts


def test_a_search_that_ended_is_finished(output: Path, events: Events) -> None:
    end = [{"event": "finished", "trial": 4, "epoch": 1, "seconds": 1.0}, {"event": "ended", "reason": "budget"}]

    replay(output, events + [{"time": 1.8e9} | event for event in end], experiment="elsewhere")

    assert content(output)["by-hand"]["status"] == "FINISHED"
    assert content(output)["004 sta a2 K3 @res2-5 b, T8"]["status"] == "FINISHED"


def test_a_store_that_cannot_be_reached_is_one_warning(
    tmp_path: Path, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    with caplog.at_level(logging.WARNING, logger="search.report.tracking.store"):
        replay(tmp_path, events, uri=f"sqlite:///{tmp_path}/file/mlflow.db")

    assert len([record for record in caplog.records if record.name == "search.report.tracking.store"]) == 1
    assert "the search goes on" in caplog.text


def test_what_is_missing_at_the_end_is_written_when_the_store_is_back(
    output: Path, events: Events, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = output / "elsewhere"
    elsewhere.write_text("in the way")
    uri = f"sqlite:///{elsewhere}/runs.db"
    replay(output, events, uri=uri)
    assert not catch_up(output, uri, "auto", events)
    assert [
        record.message.rpartition("; ")[2] for record in caplog.records if record.name == "search.report.tracking.store"
    ] == [
        "the search goes on, and what is missing is written later, at the latest by --resume or `vattn ui`",
        "what is missing is written later, at the latest by --resume or `vattn ui`",
    ]
    elsewhere.unlink()
    elsewhere.mkdir()
    shutil.copy(database, elsewhere / "runs.db")

    assert catch_up(output, uri, "auto", events)

    replay(output, events)
    assert content(output, uri) == content(output)


def test_a_search_of_which_all_is_written_costs_no_import_of_mlflow(output: Path, events: Events) -> None:
    replay(output, events[:14])
    assert catch_up(output, "auto", "auto", events)
    write(output, events)

    looks = process("assert catch_up(output, 'auto', 'auto', events); assert 'mlflow' not in sys.modules", output)

    assert (looks.communicate()[1], looks.returncode) == ("", 0)
    assert len(content(output)) == 6


def test_a_full_disk_is_one_line(output: Path, events: Events) -> None:
    write(output, events)

    # Nothing behind the first 64 KiB of a file can be written.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
    writer = process(f"{limit} catch_up(output, 'auto', 'auto', events)", output)

    (line,) = writer.communicate()[1].splitlines()
    assert line.startswith(f"MLflow at sqlite:///{output}/mlflow.db cannot be written to: ")


class Recipe(Config):
    """Stands for a trial's config, of which a log needs the tree alone."""

    lr: float
    kinds: tuple[str, ...]


def test_a_training_is_one_run_however_often_it_is_resumed(output: Path) -> None:
    for epoch in (1, 2):
        with log_training("auto", Recipe(lr=0.5, kinds=("tam",)), output) as log:
            log({"epoch": epoch, "metrics": {"top1": epoch / 4}, "seconds": 3.0})

    runs = content(output)
    assert list(runs) == [output.name]
    assert runs[output.name]["status"] == "FINISHED"
    assert runs[output.name]["params"] == {"lr": "0.5", "kinds.0": "tam"}
    assert [(step, value) for step, _, value in runs[output.name]["metrics"]["top1"]] == [(1, 0.25), (2, 0.5)]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_training_that_broke_off_says_how(output: Path, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), log_training("auto", Recipe(lr=0.5, kinds=()), output):
        raise error

    assert content(output)[output.name]["status"] == status


def test_a_training_needs_no_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")

    with log_training(f"sqlite:///{tmp_path}/file/mlflow.db", Recipe(lr=0.5, kinds=()), tmp_path) as log:
        log({"epoch": 1, "metrics": {}, "seconds": 1.0})

    assert "the training goes on without it" in caplog.text


def test_there_is_no_page_before_a_search_has_made_its_database(tmp_path: Path, events: Events) -> None:
    write(tmp_path, events)

    with closing(Ledger(tmp_path / "ledger.jsonl")), pytest.raises(ValueError, match="try again in a minute"):
        serve(str(tmp_path), free_port())

    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]


def test_a_port_that_cannot_be_served_on_is_told(tmp_path: Path, events: Events) -> None:
    write(tmp_path, events)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 99_999):
            with pytest.raises(ValueError, match=rf"--port {port}: cannot be served on .*; name another"):
                serve(str(tmp_path), port)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_results_are_on_a_server_when_they_are(
    tmp_path: Path, events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    write(tmp_path, [events[0] | {"spec": events[0]["spec"] | {"tracking": {"uri": uri}}}, *events[1:]])
    assert serve(str(tmp_path), 0) == 1
    assert capsys.readouterr().out == ""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    store = f"sqlite:///{tmp_path}/server.db"
    server = subprocess.Popen([*command, "--backend-store-uri", store], cwd=tmp_path, start_new_session=True)

    try:
        while serve(str(tmp_path), 0):
            assert server.poll() is None
        assert capsys.readouterr().out == f"the results are on the tracking server {uri}\n"
        assert len(content(tmp_path, uri)) == 6
    finally:
        os.killpg(server.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_is_rebuilt_served_on_loopback_and_gone_with_its_command(tmp_path: Path, events: Events) -> None:
    write(tmp_path, events)
    (tmp_path / "mlflow.db").touch()  # as an MLflow that was killed leaves it
    port = free_port()
    code = f"import sys; from search.tracking import serve; sys.exit(serve({str(tmp_path)!r}, {port}))"
    command = subprocess.Popen([sys.executable, "-c", code])
    query = json.dumps({"experiment_ids": ["1"]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/search", query, {"Content-Type": "application/json"}
    )

    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                runs = json.load(answer)["runs"]
            break
        except OSError:
            assert command.poll() is None
            time.sleep(0.5)
    command.terminate()

    assert command.wait(30) == 0
    assert len(runs) == 6
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(request)


def test_flat_names_every_leaf() -> None:
    assert flat({"a": {"b": 1, "c": [2, {"d": None}]}, "e": []}) == {"a.b": 1, "a.c.0": 2, "a.c.1.d": None, "e": []}

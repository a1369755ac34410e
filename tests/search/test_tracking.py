"""What MLflow holds is what the ledger says, however often and from wherever it is replayed."""

import json
import logging
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from search.tracking import Tracker, flat, log_training, tracking_uri
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


def content(output: Path) -> dict[str, Any]:
    """Return by run name what a store holds, without the ids that a new store gives anew."""
    client = MlflowClient(tracking_uri("auto", output))
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

    with caplog.at_level(logging.WARNING, logger="search.tracking"):
        replay(tmp_path, events, uri=f"sqlite:///{tmp_path}/file/mlflow.db")

    assert len([record for record in caplog.records if record.name == "search.tracking"]) == 1
    assert "the search goes on" in caplog.text


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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_is_rebuilt_served_on_loopback_and_gone_with_its_command(tmp_path: Path, events: Events) -> None:
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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

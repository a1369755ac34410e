"""A training at full length in MLflow."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.ledger.history import History
from search.report.tracking.store import tracking_uri
from search.report.tracking.tracker import catch_up
from search.report.tracking.training import flat, log_beside, log_training
from tests.search.events import event
from tests.search.report.ledgers import Trees
from tests.search.report.tracking.stores import content, replay
from vattn.base import Config


class SomeConfig(Config):
    """Stands for a trial's config, of which only the tree is logged."""

    lr: float
    kinds: tuple[str, ...]


def test_a_training_is_one_run_however_often_it_is_resumed(output: Path) -> None:
    for epoch in (1, 2):
        with log_training("auto", SomeConfig(lr=0.5, kinds=("tam",)), output) as log:
            log({"epoch": epoch, "metrics": {"top1": epoch / 4}, "seconds": 3.0})

    runs = content(output)
    assert list(runs) == [output.name]
    assert runs[output.name]["status"] == "FINISHED"
    assert runs[output.name]["params"] == {"lr": "0.5", "kinds.0": "tam"}
    assert [(step, value) for step, _, value in runs[output.name]["metrics"]["top1"]] == [(1, 0.25), (2, 0.5)]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_training_that_ended_early_has_the_status_of_its_end(
    output: Path, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), log_training("auto", SomeConfig(lr=0.5, kinds=()), output):
        raise error

    assert content(output)[output.name]["status"] == status


def test_a_training_needs_no_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")

    with log_training(f"sqlite:///{tmp_path}/file/mlflow.db", SomeConfig(lr=0.5, kinds=()), tmp_path) as log:
        log({"epoch": 1, "metrics": {}, "seconds": 1.0})

    assert "the training continues without it" in caplog.text


@pytest.mark.medium
def test_a_training_appears_beside_its_search_and_leaves_it_whole(output: Path, events: Trees) -> None:
    replay(output, events)
    history, folder = History.of(map(event, events)), output / "full"
    for epoch in (1, 2):
        with log_beside("auto", folder, history, output, 1) as log:
            log({"epoch": epoch, "metrics": {"top1": 0.8 + epoch / 100}, "seconds": 3.0})

    client = MlflowClient(tracking_uri("auto", output))
    runs = client.search_runs(["1"])
    (parent,) = [run for run in runs if run.data.tags["kind"] == "search"]
    (training,) = [run for run in runs if run.data.tags["kind"] == "training"]
    assert training.info.run_name == "82.0 % · trained 2 epochs · full · trial 1"
    assert training.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (training.data.tags["trial"], training.data.params["attention"]) == ("1", "tam")
    assert catch_up(output, "auto", "auto", map(event, events))
    assert len(client.search_runs(["1"])) == 7


def test_a_search_without_a_database_of_its_own_gets_no_training(tmp_path: Path, events: Trees) -> None:
    with log_beside("auto", tmp_path / "full", History.of(map(event, events)), tmp_path, 1) as log:
        log({"epoch": 1, "metrics": {"top1": 0.5}, "seconds": 3.0})

    assert list(tmp_path.iterdir()) == []


def test_flat_names_every_leaf() -> None:
    assert flat({"a": {"b": 1, "c": [2, {"d": None}]}, "e": []}) == {"a.b": 1, "a.c.0": 2, "a.c.1.d": None, "e": []}

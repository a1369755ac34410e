"""A training at full length in MLflow."""

from pathlib import Path

import pytest

from search.report.tracking.training import flat, log_training
from tests.search.report.tracking.stores import content
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


def test_flat_names_every_leaf() -> None:
    assert flat({"a": {"b": 1, "c": [2, {"d": None}]}, "e": []}) == {"a.b": 1, "a.c.0": 2, "a.c.1.d": None, "e": []}

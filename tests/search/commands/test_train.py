"""`vattn train` on real Ray gives the same numbers as `fit`, and continues after an interruption."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

from tests.vattn_command import start, vattn
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.training.fit import fit

CONFIG: dict[str, Any] = {
    "data": {
        "kind": "motion", "train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
        "store": {"size": 32},
    },
    "model": {
        "frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
        "attention": [{"kind": "tsm"}],
    },
    "train": {"epochs": 2, "batch": 16, "lr": 0.05},
}  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file whose data are already generated and decoded."""
    folder = tmp_path_factory.mktemp("training")
    prepare(TrialConfig.parse(CONFIG).data, folder)
    folders = {"root": str(folder / "data" / "motion"), "cache": str(folder / "cache")}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"data": CONFIG["data"] | folders}))
    return path


def stderr_of_refused(*words: object) -> str:
    """Run `vattn train`, check that it ends with status 2 and no traceback, and return its stderr."""
    done = vattn("train", *words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_training_with_one_worker_gives_the_same_metrics_and_weights_as_fit(file: Path, tmp_path: Path) -> None:
    config, output = TrialConfig.parse(yaml.safe_load(file.read_text())), tmp_path / "out"
    alone = list(fit(config, prepare(config.data, tmp_path), tmp_path / "alone"))

    done = vattn("train", file, "--out", output)

    assert done.returncode == 0, done.stderr
    assert json.loads((output / "metrics.json").read_text()) == alone[-1].metrics
    weights = (torch.load(folder / "model.pt", weights_only=True) for folder in (output, tmp_path / "alone"))
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    # The output folder now holds a training: the same config needs --resume, and a different config is refused.
    assert "go on with --resume" in stderr_of_refused(file, "--out", output)
    assert "must be as when the training" in stderr_of_refused(
        file, "--out", output, "--resume", "--set", "train.lr=0.1"
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_checkpoint_that_cannot_be_written_is_one_line_and_a_resume_continues(file: Path, tmp_path: Path) -> None:
    # A folder at the path of the temporary file makes the write fail, as a full disk does.
    (tmp_path / ".part-checkpoint.pt").mkdir()

    done = vattn("train", file, "--out", tmp_path)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.match(
        r".*checkpoint\.pt: cannot be written: .*; make room and go on with --resume", done.stderr.splitlines()[-1]
    )
    (tmp_path / ".part-checkpoint.pt").rmdir()
    resumed = vattn("train", file, "--out", tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.medium
def test_a_number_of_workers_that_does_not_divide_the_batch_is_refused(file: Path, tmp_path: Path) -> None:
    assert "train.batch: must be divisible by the 3 workers" in stderr_of_refused(
        file, "--out", tmp_path, "--workers", 3
    )
    assert "--workers: must be at least 1 (got 0)" in stderr_of_refused(file, "--out", tmp_path, "--workers", 0)


@pytest.mark.medium
def test_gpus_that_a_worker_cannot_use_are_refused(file: Path, tmp_path: Path) -> None:
    line = stderr_of_refused(file, "--out", tmp_path, "--workers", 2, "--gpus", 0.5)

    assert line == (
        "--gpus: must be 1 or 0 with several workers, because NCCL cannot run two workers of a trial on one GPU; use "
        "--workers 2 --gpus 1 (got 0.5)\n"
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_ends_a_training_of_two_workers_with_status_130_and_a_resume_finishes_it(
    file: Path, tmp_path: Path
) -> None:
    words = ("train", file, "--out", tmp_path, "--workers", 2, "--set", "train.epochs=20")
    process = start(*words)
    deadline = time.monotonic() + 200
    while not (tmp_path / "checkpoint.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)

    assert process.returncode == 130, text
    assert "Traceback" not in text
    resumed = vattn(*words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("train")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "seconds")]
    assert sorted(steps) == list(range(1, 21))

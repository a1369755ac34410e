"""Two workers of Ray Train: their results arrive at once, and their failures end a training or do not."""

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cluster.training
from cluster.connect import connected
from cluster.placement import Resources
from cluster.training import TrainingError, run, train
from tests.processes import descendants
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.data.cache import CacheWriter
from vattn.errors import StorageError, UserError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

TWO = Resources(workers=2, cpus=1, gpus=0)


def trial(epochs: int) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion", "train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
                 "store": {"size": 32}},
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
        "train": {"epochs": epochs, "batch": 16, "lr": 0.01},
    })  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(trial(1).data, tmp_path_factory.mktemp("motion")).resolve()


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    with connected("local"):
        yield


def arrivals(config: TrialConfig, cache: Path, folder: Path) -> list[tuple[float, dict[str, Any]]]:
    """Train, and return the results with the times when they arrived."""
    return [(time.monotonic(), result) for result in train(config, cache, folder, TWO)]


def test_results_arrive_when_an_epoch_ends_and_a_resume_reports_no_old_ones(cache: Path, tmp_path: Path) -> None:
    config = trial(12)
    first = arrivals(config, cache, tmp_path)
    # As if the training had been cut off after epoch 10.
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save(state | {"epochs": state["epochs"][:10]}, tmp_path / "checkpoint.pt")
    began = time.monotonic()

    resumed = arrivals(config, cache, tmp_path)

    # Epochs take about 0.1 s; by default Ray Train's controller would hand out one result every 2 s.
    assert (first[-1][0] - first[0][0]) / 11 < 1
    assert [result["epoch"] for _, result in resumed] == list(range(1, 13))
    assert resumed[9][0] - began < resumed[10][0] - resumed[9][0]  # before the workers start, which takes seconds
    assert all(result["seconds"] < 2 for _, result in resumed[11:])
    assert arrivals(config, cache, tmp_path)[-1][1] == resumed[-1][1]  # no epoch is left: no worker starts


def test_the_error_of_one_worker_ends_the_training_once_and_is_shown(tmp_path: Path) -> None:
    # One of 16 clips has a label that no class has, so the step of one worker fails, and the other worker waits.
    random, writer = np.random.default_rng(0), CacheWriter(tmp_path)
    for number in range(18):
        pixels = random.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
        label = 99 if number == 0 else number % 16
        writer.add(number, f"{number}.mp4", label, "train" if number < 16 else "val", pixels)
    writer.finish([])
    began = time.monotonic()

    with pytest.raises(TrainingError, match=r"(?s)^worker [01] failed:.*IndexError: Target 99 is out of bounds"):
        list(train(trial(2), tmp_path, tmp_path / "out", TWO))

    assert time.monotonic() - began < 60


def test_errors_of_the_user_are_one_line_and_not_tried_again(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    # The single step of the first epoch changes the weights after its loss is computed.
    lost = trial(2).model_copy(update={"train": trial(2).train.model_copy(update={"lr": 1e30})})
    no_weights = trial(2).model_copy(
        update={"train": trial(2).train.model_copy(update={"init": str(tmp_path / "weights.pt")})}
    )

    with pytest.raises(
        TrainingError, match=r"^the training loss is \w+ in epoch 2; try a lower train\.lr \(got 1e\+30\)$"
    ):
        list(train(lost, cache, tmp_path / "lost", TWO))
    with pytest.raises(UserError, match=r"^train\.init: [^\n]*weights\.pt is not a state dict[^\n]*$"):
        list(train(no_weights, cache, tmp_path / "weights", TWO))


@pytest.mark.slow
def test_a_checkpoint_that_two_workers_cannot_write_is_one_line(cache: Path, tmp_path: Path) -> None:
    (tmp_path / ".part-checkpoint.pt").mkdir()  # in the way of the file, as a full disk would be

    with pytest.raises(StorageError, match=r"^[^\n]*checkpoint\.pt: cannot be written: [^\n]*--resume$"):
        list(train(trial(2), cache, tmp_path, TWO))


def test_a_training_goes_on_after_a_worker_was_killed(cache: Path, tmp_path: Path) -> None:
    results = train(trial(30), cache, tmp_path, TWO)
    epochs = [next(results)["epoch"]]

    os.kill(descendants("ray::RayTrainWorker")[1], signal.SIGKILL)

    assert epochs + [result["epoch"] for result in results] == list(range(1, 31))


@pytest.mark.slow
def test_a_worker_that_hangs_is_one_failure_after_the_time_limit(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.training, "TIMEOUT", 5)
    interrupt = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as thread:
        failure = thread.submit(run, trial(1000), cache, tmp_path, TWO, [])
        until = time.monotonic() + 100
        while not (tmp_path / "checkpoint.pt").exists():
            assert time.monotonic() < until
            time.sleep(0.05)

        os.kill(descendants("ray::RayTrainWorker")[1], signal.SIGSTOP)
        message = failure.result(60)["error"]
    signal.signal(signal.SIGINT, interrupt)  # Ray Train leaves its own behind

    assert re.match(r"worker [01] waited 5 s for another worker, which hangs or is far slower;", message)

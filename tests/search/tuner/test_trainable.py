"""The processes of one-worker trials, on a local Ray with a GPU that does not exist."""

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import ray
import torch

from cluster import connect  # noqa: F401  # Ray reads the environment that it sets
from search.ledger.events import Failed, SearchBegan
from search.ledger.file import NAME, Ledger, read
from search.spec.validation import parse
from search.tuner.state import Search
from search.tuner.task import Task
from search.tuner.trainable import InlineTrial
from search.tuner.tune import tune_search
from vattn.data import prepare

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

TRIAL: dict[str, Any] = {
    "data": {
        "kind": "motion", "train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
        "store": {"size": 32},
    },
    "model": {
        "frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
        "attention": {"choice": [[], [{"kind": "tsm"}]]},
    },
    "train": {"epochs": 2, "batch": 16, "lr": 0.05},
}  # fmt: skip


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local Ray whose GPU breaks in the process that trains while the marker file exists."""
    file = tmp_path_factory.mktemp("gpu") / "breaks"

    def install() -> None:
        backward, broken = torch.Tensor.backward, False

        def backward_on_a_gpu(*arguments: Any, **options: Any) -> None:
            nonlocal broken
            if file.exists():
                file.unlink()
                broken = True
            if broken:  # every later call in this process fails too
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
            backward(*arguments, **options)

        torch.Tensor.backward = backward_on_a_gpu

    # One CPU: the trials run one after another, in the same process.
    ray.init(
        num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False,
        runtime_env={"worker_process_setup_hook": install},
    )  # fmt: skip
    yield file
    ray.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the data, with the clip cache in ``cache``."""
    folder = tmp_path_factory.mktemp("data")
    spec = parse(tree(folder), Path("spec.yaml"))
    prepare(spec.data, folder)
    return folder


def tree(folder: Path) -> dict[str, Any]:
    data = TRIAL["data"] | {"root": str(folder / "data" / "motion"), "cache": str(folder / "cache")}
    return {
        "schema": 1,
        "name": "processes",
        "trial": TRIAL | {"data": data},
        "search": {"budget": {"trials": 2}, "sampler": {"kind": "random"}},
    }


@ray.remote
def first_result(task: Task) -> dict[str, Any]:
    with patch("torch.cuda.is_available", return_value=True):  # as on a node with GPUs
        return InlineTrial(dict(task)).train()


@pytest.mark.skipif(torch.cuda.is_available(), reason="only without a GPU does its use fail")
@pytest.mark.parametrize("gpus", [0, 1])
def test_a_trial_uses_a_gpu_of_its_node_only_if_it_asked_for_one(
    gpus: int, marker: Path, data: Path, tmp_path: Path
) -> None:
    spec = parse(tree(data), Path("spec.yaml"))
    config = spec.trial_config(next(spec.space.one_at_a_time())[1])
    cache = prepare(spec.data, data).resolve()
    task = Task(
        number=0, config=json.dumps(config.tree()), cache=str(cache), folder=str(tmp_path), tested=False, known=0
    )

    result = ray.get(first_result.options(num_cpus=1, num_gpus=gpus).remote(task))

    if gpus:
        assert "CUDA" in result["error"] or "NVIDIA" in result["error"]
    else:
        assert result["epoch"] == 1


def test_a_process_whose_gpu_broke_is_replaced_and_no_trial_is_lost(marker: Path, data: Path, tmp_path: Path) -> None:
    spec, interrupt = parse(tree(data), Path("spec.yaml")), signal.getsignal(signal.SIGINT)
    marker.touch()
    with closing(Ledger(tmp_path / NAME)) as ledger:
        search = Search(spec, tmp_path, prepare(spec.data, data).resolve(), ledger, [])
        search.record(SearchBegan(id="s", name=spec.name, spec=spec.tree(), versions={}))

        tune_search(search, dict)

        trials = ledger.history.trials
    signal.signal(signal.SIGINT, interrupt)
    assert {number: trial.state for number, trial in trials.items()} == {0: "finished", 1: "finished"}
    (failure,) = (event for event in read(tmp_path / NAME) if isinstance(event, Failed))
    assert not failure.final
    assert failure.error.splitlines()[-1].endswith("CUDA error: an illegal memory access was encountered")
    assert len(trials[failure.trial].starts) == 2

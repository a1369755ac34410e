"""The processes of one-worker trials, on a local Ray with a GPU that does not exist."""

import json
import os
import re
import signal
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import ray
import torch

from cluster import connect  # noqa: F401  # Ray reads the environment that it sets
from cluster.devices import FAKE_MEMORY
from search.ledger.events import Failed, SearchBegan
from search.ledger.file import NAME, Ledger, read
from search.spec.validation import parse
from search.tuner.state import Search
from search.tuner.task import Task
from search.tuner.trainable import InlineTrial
from search.tuner.tune import tune_search
from vattn.data import prepare
from vattn.training.fit import fit

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
    """A local Ray whose GPU breaks in the process that trains while the marker file exists.

    While the file ``memory`` beside it exists, the GPU has room for that number of bytes of outputs of convolutions,
    divided among the processes by their shares of the GPU. The file ``lacked`` gets the number of each process in which
    it was not enough.
    """
    file = tmp_path_factory.mktemp("gpu") / "breaks"
    memory = file.parent / "memory"

    def install() -> None:
        convolve, used = torch.nn.Conv2d.forward, 0

        def free(size: int) -> None:
            nonlocal used
            used -= size

        def convolve_on_a_gpu(self: torch.nn.Conv2d, input: torch.Tensor) -> torch.Tensor:
            nonlocal used
            output = convolve(self, input)
            if memory.exists():
                used += (size := output.untyped_storage().nbytes())
                weakref.finalize(output.untyped_storage(), free, size)
                share = ray.get_runtime_context().get_assigned_resources()["GPU"]
                if used > share * int(memory.read_text()):
                    with (file.parent / "lacked").open("a") as processes:
                        print(os.getpid(), file=processes)
                    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
            return output

        torch.nn.Conv2d.forward = convolve_on_a_gpu

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

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(FAKE_MEMORY, "80")
        # One CPU: the trials run one after another, in the same process.
        ray.init(
            address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False,
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
    with patch("torch.cuda.is_available", return_value=True), patch.dict(os.environ):  # as on a node with GPUs
        del os.environ[FAKE_MEMORY]
        return InlineTrial(dict(task)).train()


@ray.remote
def result_without_cuda(task: Task) -> dict[str, Any]:
    with patch.dict(os.environ):
        del os.environ[FAKE_MEMORY]
        return InlineTrial(dict(task)).train()


def task(data: Path, folder: Path, gpus: float) -> Task:
    spec = parse(tree(data), Path("spec.yaml"))
    config = spec.trial_config(next(spec.space.one_at_a_time())[1])
    cache = prepare(spec.data, data).resolve()
    (folder / NAME).touch()  # without a ledger, the disk of the search would seem to be gone
    return Task(
        number=0, config=json.dumps(config.tree()), cache=str(cache), folder=str(folder / "trials" / "0000"),
        tested=False, known=0, gpus=gpus, remote="", workers=1, limited=False,
    )  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="only without a GPU does its use fail")
@pytest.mark.parametrize("gpus", [0, 1])
def test_a_trial_uses_a_gpu_of_its_node_only_if_it_asked_for_one(
    gpus: int, marker: Path, data: Path, tmp_path: Path
) -> None:
    result = ray.get(first_result.options(num_cpus=1, num_gpus=gpus).remote(task(data, tmp_path, gpus)))

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="only without a GPU does its use fail")
def test_a_gpu_that_torch_cannot_use_ends_the_search_and_does_not_train_on_the_cpu(
    marker: Path, data: Path, tmp_path: Path
) -> None:
    result = ray.get(result_without_cuda.options(num_cpus=1, num_gpus=1).remote(task(data, tmp_path, 1)))

    assert re.match(r"node [\d.]+: Ray assigned GPU 0, but torch .*; install torch with CUDA", result["halt"])


def test_a_trial_without_enough_memory_is_tried_alone_then_with_recomputation_then_in_parts(
    marker: Path, data: Path, tmp_path: Path
) -> None:
    """Two models are trained, the second with twice the frames and so twice the memory.

    The simulated GPU has room for less than the first needs, and more than it needs with recomputation.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    changed = tree(data)
    changed["resources"] = {"gpus": "auto"}
    changed["trial"] = changed["trial"] | {"train": TRIAL["train"] | {"epochs": 1}}
    changed["trial"]["model"] = TRIAL["model"] | {"attention": [], "frames": {"choice": [2, 4]}}
    spec = parse(changed, Path("spec.yaml"))
    cache = prepare(spec.data, data).resolve()
    (marker.parent / "memory").write_text("540000")
    with closing(Ledger(tmp_path / NAME)) as ledger:
        search = Search(spec, tmp_path, cache, ledger, [])
        search.record(SearchBegan(id="s", name=spec.name, spec=spec.tree(), versions={}))

        tune_search(search, dict)

        trials = ledger.history.trials
    (marker.parent / "memory").unlink()
    signal.signal(signal.SIGINT, interrupt)
    by_frames = {trial.config["model"]["frames"]: trial for trial in trials.values()}
    assert {frames: trial.state for frames, trial in by_frames.items()} == {2: "finished", 4: "finished"}
    assert [start.gpus for start in by_frames[2].starts] == [0.05, 1.0, 1.0]
    assert [start.gpus for start in by_frames[4].starts] == [0.05, 1.0, 1.0, 1.0]
    two, four = by_frames[2].memory, by_frames[4].memory
    assert two is not None
    assert four is not None
    assert (two.alone, two.recompute, two.accumulate, two.changes_result) == (True, True, 1, False)
    assert (four.alone, four.recompute, four.accumulate, four.changes_result) == (True, True, 2, True)
    # Recomputation leaves the numbers as they are; batch norm sees parts of a step.
    for frames, is_same in ((2, True), (4, False)):
        trial = by_frames[frames]
        (undisturbed,) = fit(spec.trial_config(trial.config), cache, tmp_path / f"undisturbed{frames}")
        assert (undisturbed.metrics == trial.reports[0].metrics) is is_same
    failures = [event for event in read(tmp_path / NAME) if isinstance(event, Failed)]
    assert {"out of memory" in failure.error for failure in failures} == {True}
    assert not any(failure.final for failure in failures)
    processes = (marker.parent / "lacked").read_text().split()
    assert len(processes) == len(set(processes)) == len(failures)  # none trains again after its memory was too small

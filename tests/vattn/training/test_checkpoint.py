"""Which checkpoint a run resumes from."""

import itertools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.errors import UserError
from vattn.training.checkpoint import FILE, PARTIAL_FILE, Epoch, exists, finished, load, remove, state_of
from vattn.training.fit import fit
from vattn.training.saver import THREAD
from vattn.training.state_file import write_state

CPU = torch.device("cpu")
CONFIG = TrialConfig.parse({
    "data": {"kind": "motion", "train_clips": 4, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
             "store": {"size": 32}},
    "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
              "attention": [{"kind": "tsm"}], "head": {"dropout": 0.3}},
    "train": {"epochs": 2, "batch": 16, "lr": 0.05, "checkpoint_minutes": 1e-9, "checkpoint_seconds": 0},
})  # fmt: skip
#: steps of an epoch: 64 clips in batches of 16
STEPS = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(CONFIG.data, tmp_path_factory.mktemp("motion"))


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    list(fit(CONFIG, cache, folder))
    return folder


class CutError(Exception):
    pass


@contextmanager
def cut_off(at: int) -> Iterator[None]:
    """Raise CutError in step number ``at``, from 0, of the optimizer. Each checkpoint is written before the next.

    A checkpoint is skipped while another is being written: the forward passes, of evaluations too, wait for it.
    """
    steps = itertools.count()

    def hook(*_: object) -> None:
        if next(steps) == at:
            raise CutError

    handles = [
        register_optimizer_step_pre_hook(hook),  # pyright: ignore[reportArgumentType]
        register_module_forward_pre_hook(wait_for_checkpoint),
    ]
    try:
        with pytest.raises(CutError):
            yield
    finally:
        for handle in handles:
            handle.remove()


def wait_for_checkpoint(*_: object) -> None:
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join()


def cut(cache: Path, folder: Path, at: int) -> Path:
    """Train in ``folder`` and end before the step number ``at``."""
    with cut_off(at):
        list(fit(CONFIG, cache, folder))
    return folder


def change(path: Path, **values: Any) -> None:
    torch.save(torch.load(path, weights_only=True) | values, path)


def check_same_weights(folder: Path, whole: Path) -> None:
    states = [torch.load(run / "model.pt", weights_only=True) for run in (folder, whole)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def resumed_steps(cache: Path, folder: Path) -> int:
    """Finish the training in ``folder``; return the number of steps that it took."""
    steps = itertools.count()

    def hook(*_: object) -> None:
        next(steps)

    handle = register_optimizer_step_pre_hook(hook)  # pyright: ignore[reportArgumentType]
    try:
        list(fit(CONFIG, cache, folder))
    finally:
        handle.remove()
    return next(steps)


@pytest.mark.parametrize("at", [2, STEPS + 2])
def test_a_run_continues_within_its_epoch(cache: Path, whole: Path, tmp_path: Path, at: int) -> None:
    cut(cache, tmp_path, at)

    assert resumed_steps(cache, tmp_path) == 2 * STEPS - at
    check_same_weights(tmp_path, whole)
    assert not (tmp_path / PARTIAL_FILE).exists()


@pytest.mark.parametrize("at", [2, STEPS + 2])
@pytest.mark.parametrize("written_by", ["two workers", "a GPU"])
def test_the_epoch_starts_again_for_another_number_of_workers_or_type_of_device(
    cache: Path, whole: Path, tmp_path: Path, at: int, written_by: str
) -> None:
    cut(cache, tmp_path, at)
    (own,) = torch.load(tmp_path / PARTIAL_FILE, weights_only=True)["halfway"]
    with_gpu = own | {"random": [*own["random"], torch.zeros(16, dtype=torch.uint8)]}
    change(tmp_path / PARTIAL_FILE, halfway=[own, own] if written_by == "two workers" else [with_gpu])

    assert resumed_steps(cache, tmp_path) == 2 * STEPS - at // STEPS * STEPS
    check_same_weights(tmp_path, whole)


def test_a_partial_epoch_that_has_ended_since_is_ignored(cache: Path, whole: Path, tmp_path: Path) -> None:
    cut(cache, tmp_path, 2)
    shutil.copy(tmp_path / PARTIAL_FILE, tmp_path / "copy")
    cut(cache, tmp_path, 3)  # within the second epoch
    shutil.move(tmp_path / "copy", tmp_path / PARTIAL_FILE)

    assert resumed_steps(cache, tmp_path) == STEPS
    check_same_weights(tmp_path, whole)


def test_a_file_of_an_earlier_version_continues_within_its_epoch(cache: Path, whole: Path, tmp_path: Path) -> None:
    # It wrote the state within an epoch over the state at the epoch's start.
    cut(cache, tmp_path, STEPS + 2)
    (tmp_path / PARTIAL_FILE).rename(tmp_path / FILE)

    assert resumed_steps(cache, tmp_path) == STEPS - 2
    check_same_weights(tmp_path, whole)


def test_a_file_of_an_earlier_version_is_refused_for_another_number_of_workers(cache: Path, tmp_path: Path) -> None:
    cut(cache, tmp_path, STEPS + 2)
    (tmp_path / PARTIAL_FILE).rename(tmp_path / FILE)
    (own,) = torch.load(tmp_path / FILE, weights_only=True)["halfway"]
    change(tmp_path / FILE, halfway=[own, own])

    with pytest.raises(UserError, match=r"checkpoint\.pt: .* by 2 workers on cpu, .*; go on with .* \(got 1 on cpu\)"):
        next(fit(CONFIG, cache, tmp_path))


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_the_step_counters_of_adamw_stay_on_the_cpu(tmp_path: Path) -> None:
    # AdamW reads them at each step, which would wait for a GPU; the meta device stands for one.
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    write_state(state_of(CONFIG, net, optimizer, [Epoch(1, {"top1": 0.5}, 1.0)], []), tmp_path / FILE)
    on_device = nn.Linear(2, 2, device="meta")
    resumed = torch.optim.AdamW(on_device.parameters())

    load(tmp_path, CONFIG, on_device, resumed, torch.device("meta"), 1)

    for state in resumed.state.values():
        assert state["step"].device == CPU
        assert state["exp_avg"].device.type == "meta"


def test_finished_epochs_are_read_without_the_network(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    epoch = Epoch(1, {"top1": 0.5}, 1.0)
    assert (exists(tmp_path), finished(tmp_path, CONFIG)) == (False, [])

    write_state(state_of(CONFIG, net, torch.optim.AdamW(net.parameters()), [epoch], []), tmp_path / FILE)

    assert (exists(tmp_path), finished(tmp_path, CONFIG)) == (True, [epoch])
    remove(tmp_path)
    assert not exists(tmp_path)


def test_the_callers_time_with_earlier_epochs_is_not_part_of_the_next_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(fit(CONFIG, cache, tmp_path))
    clock = itertools.count()
    waited = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) * 1e-3 + waited)
    epochs = fit(CONFIG, cache, tmp_path)
    next(epochs)

    waited = 1000.0

    assert next(epochs).seconds < 1000


def test_initial_weights_may_move_if_their_content_is_the_same(tmp_path: Path) -> None:
    first, moved, other = (tmp_path / name for name in ("first.pt", "moved.pt", "other.pt"))
    torch.save({"a": torch.zeros(1)}, first)
    torch.save({"a": torch.ones(1)}, other)

    def starting(weights: Path, **changes: Any) -> TrialConfig:
        return CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"init": str(weights), **changes})})

    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters())
    state = state_of(starting(first), net, optimizer, [Epoch(1, {"top1": 0.5}, 1.0)], [])
    write_state(state, tmp_path / FILE)
    first.rename(moved)

    assert len(finished(tmp_path, starting(moved))) == 1
    for config in (starting(other), starting(moved, lr=0.06), CONFIG, starting(tmp_path / "none.pt")):
        with pytest.raises(UserError, match="was written by another config"):
            finished(tmp_path, config)

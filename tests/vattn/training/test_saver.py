"""Checkpoints are written while the training goes on."""

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.search.room import room_for
from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.errors import StorageError, UserError
from vattn.files import part_of
from vattn.training.checkpoint import FILE, Epoch, exists, finished, load, remove
from vattn.training.fit import fit
from vattn.training.saver import Saver


def trial(seconds: float, epochs: int = 3) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion", "train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
                 "store": {"size": 32}},
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
        "train": {"epochs": epochs, "batch": 16, "lr": 0.05, "checkpoint_seconds": seconds},
    })  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(trial(0).data, tmp_path_factory.mktemp("motion"))


class Gate:
    """A part of the state that blocks the thread that writes it until ``go`` is set."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        self.reached.set()
        assert self.go.wait(30)
        return dict, ()


class GatedNet(nn.Linear):
    def __init__(self, gate: Gate) -> None:
        super().__init__(2, 2)
        self._gate = gate

    def get_extra_state(self) -> Gate:
        return self._gate


def started(folder: Path) -> tuple[Saver, GatedNet, Gate]:
    """Start to write a checkpoint of a network with the weights 1, and return when its thread writes."""
    gate = Gate()
    saver, net = Saver(folder, trial(0)), GatedNet(gate)
    nn.init.ones_(net.weight)
    saver.save(net, torch.optim.SGD(net.parameters(), lr=0.1), [Epoch(1, {"top1": 0.5}, 1.0)], [])
    assert gate.reached.wait(30)
    return saver, net, gate


def test_a_checkpoint_has_the_state_at_its_begin_and_no_other_is_due_meanwhile(tmp_path: Path) -> None:
    saver, net, gate = started(tmp_path)

    nn.init.zeros_(net.weight)  # as the next step of the training would

    assert not saver.is_due(0.0)
    assert not exists(tmp_path)
    gate.go.set()
    saver.wait()
    assert saver.is_due(0.0)
    assert not saver.is_due(1000.0)
    state = torch.load(tmp_path / FILE, weights_only=False)
    torch.testing.assert_close(state["model"]["weight"], torch.ones(2, 2))


def test_a_checkpoint_that_is_removed_while_it_is_written_does_not_appear(tmp_path: Path) -> None:
    saver, _, gate = started(tmp_path)

    remove(tmp_path)

    gate.go.set()
    saver.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_is_one_error_after_it(tmp_path: Path) -> None:
    saver, _, gate = started(tmp_path)
    with room_for(100):
        gate.go.set()
        saver.close()

    with pytest.raises(StorageError, match=r"checkpoint\.pt: cannot be written: .*; make room and go on with --resume"):
        saver.check()

    saver.check()
    assert not part_of(tmp_path / FILE).exists()


def test_a_full_disk_ends_a_training_at_the_next_step(cache: Path, tmp_path: Path) -> None:
    epochs = fit(trial(0), cache, tmp_path)

    with room_for(1000), pytest.raises(StorageError, match=r"checkpoint\.pt: cannot be written"):
        list(epochs)


def test_epochs_of_a_slow_disk_write_after_a_time_but_the_first_and_the_last(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vattn.training.saver.SPACING", 1e9)  # as if a write took hours
    whole = list(fit(trial(0), cache, tmp_path / "whole"))
    config = trial(1e6)
    list(itertools.islice(fit(config, cache, tmp_path / "cut"), 2))
    assert [epoch.number for epoch in finished(tmp_path / "cut", config)] == [1]

    resumed = list(fit(config, cache, tmp_path / "cut"))

    assert [epoch.number for epoch in finished(tmp_path / "cut", config)] == [1, 2, 3]
    assert [epoch.metrics for epoch in resumed] == [epoch.metrics for epoch in whole]
    states = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "cut")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_how_often_a_checkpoint_is_written_is_no_part_of_the_identity() -> None:
    # The identity of this config before the key existed.
    assert trial_id(trial(5)) == trial_id(trial(30)) == "def44089cc003027"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not complete", b"some text"])
def test_a_damaged_checkpoint_is_named_with_a_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    with pytest.raises(UserError, match=r"checkpoint\.pt: is damaged and cannot be read; remove it to train .* \(got "):
        finished(tmp_path, trial(0))


def test_a_truncated_checkpoint_is_named_with_a_way_out(cache: Path, tmp_path: Path) -> None:
    list(itertools.islice(fit(trial(0), cache, tmp_path), 1))
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    net = nn.Linear(1, 1)

    with pytest.raises(UserError, match=r"checkpoint\.pt: is damaged"):
        load(tmp_path, trial(0), net, torch.optim.SGD(net.parameters()), torch.device("cpu"), 1)

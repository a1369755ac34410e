"""Checkpoints of a training: the state that a resumed run needs.

A training has at most two files in its folder. Both are dicts with the same keys: ``config`` and its ``identity``,
``model`` and ``optimizer`` (state dicts), ``epochs`` (the finished ones, as dicts of `Epoch`), ``halfway``, and
``start``, the hash of the file in ``train.init`` (empty without one). Earlier versions wrote neither ``config`` nor
``start``.

* ``checkpoint.pt`` is the state after a finished epoch; its ``halfway`` is empty. Not every epoch writes one: see
  ``train.checkpoint_seconds``.
* ``partial_epoch.pt`` is the state within a later epoch. ``halfway`` has one dict of `WorkerState` for each worker, in
  the order of ranks. It is valid for the same number of workers and the same type of device only, because it holds
  random states. Any other run continues from ``checkpoint.pt``, or, if there is none, from the initial weights. The
  file is removed when the next ``checkpoint.pt`` is written.

Earlier versions wrote both states to ``checkpoint.pt``. Such a file, with states in ``halfway``, is still read.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vattn.canonical import MAX_DIFFERENCES, canonical_trial, differences, trial_id
from vattn.config import TrialConfig
from vattn.errors import UserError
from vattn.files import digest, part_of
from vattn.training.optimization import ScaledOptimizer
from vattn.training.state_file import read_state_file, write_state

#: file with the state after the last finished epoch
FILE = "checkpoint.pt"
#: file with the state within the epoch after that
PARTIAL_FILE = "partial_epoch.pt"


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: number from 1, validation metrics and training loss, duration in seconds (wall clock).

    ``length`` is the number of epochs that the training was to have, on which its learning rates depend; 0: unknown.
    """

    number: int
    metrics: dict[str, float]
    seconds: float
    length: int = 0


class Progress(NamedTuple):
    """The progress of an epoch on one worker: number of steps, sum of the losses of its clips, number of clips."""

    step: int
    total: Tensor
    seen: int


@dataclass(frozen=True)
class WorkerState:
    """What one worker needs to resume within an epoch: its progress, its random state, the seconds so far."""

    step: int
    total: float
    seen: int
    random: list[Tensor]
    seconds: float

    @classmethod
    def of(cls, progress: Progress, device: torch.device, seconds: float) -> "WorkerState":
        random = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
        return cls(progress.step, float(progress.total), progress.seen, random, seconds)

    def fits(self, device: torch.device) -> bool:
        """Return whether the random state is that of ``device``'s type: a GPU adds its own to the CPU's."""
        return len(self.random) == (2 if device.type == "cuda" else 1)

    def restore(self, device: torch.device) -> Progress:
        """Restore the random state, and return the progress."""
        torch.set_rng_state(self.random[0].cpu())
        if device.type == "cuda":
            torch.cuda.set_rng_state(self.random[1].cpu(), device)
        return Progress(self.step, torch.tensor(self.total, device=device), self.seen)


def state_of(
    config: TrialConfig, net: nn.Module, optimizer: torch.optim.Optimizer | ScaledOptimizer, done: list[Epoch],
    states: list[WorkerState],
) -> dict[str, Any]:  # fmt: skip
    """Return a checkpoint: after an epoch if ``states`` is empty, otherwise within one, with the states of all workers.

    Its tensors are those of ``net`` and ``optimizer``, not copies.
    """
    return {
        "identity": trial_id(config),
        "config": config.tree(),
        "start": _start_of(config),
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epochs": [asdict(epoch) for epoch in done],
        "halfway": [asdict(worker) for worker in states],
    }


def load(
    folder: Path,
    config: TrialConfig,
    net: nn.Module,
    optimizer: torch.optim.Optimizer | ScaledOptimizer,
    device: torch.device,
    world: int,
) -> tuple[list[Epoch], list[WorkerState]]:
    """Load the latest usable checkpoint of ``folder`` into ``net`` and ``optimizer``, if there is one.

    Return the finished epochs, and the states of the workers if the checkpoint was written within an epoch.

    Raises:
        UserError: a checkpoint is damaged or was written by another config, or an earlier version wrote it within an
            epoch, with another number of workers or on another type of device.
    """
    epochs = len(finished(folder, config))
    for name in (PARTIAL_FILE, FILE):
        path = folder / name
        if not path.exists():
            continue
        # On the CPU: `load_state_dict` moves what belongs on the device. AdamW's step counters stay on the CPU, where
        # reading them does not wait for the GPU.
        state = _read(path, config)
        states = [WorkerState(**row) for row in state["halfway"]]
        fits = not states or (len(states) == world and all(worker.fits(device) for worker in states))
        if name == PARTIAL_FILE and (len(state["epochs"]) < epochs or not fits):
            continue
        if not fits:
            kind = "cuda" if len(states[0].random) > 1 else "cpu"
            raise UserError(
                f"was written within an epoch by {len(states)} workers on {kind}, each with its own random numbers",
                file=path,
                way_out="go on with the same number and device, or train into another folder",
                found=f"{world} on {device.type}",
            )
        net.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return [Epoch(**row) for row in state["epochs"]], states
    return [], []


def finished(folder: Path, config: TrialConfig) -> list[Epoch]:
    """Return the finished epochs in the checkpoint of ``folder``, without reading the weights.

    Raises:
        UserError: the checkpoint is damaged, or was written by another config.
    """
    path = folder / FILE
    return [Epoch(**row) for row in _read(path, config, mmap=True)["epochs"]] if path.exists() else []


def config_of(folder: Path) -> TrialConfig | None:
    """Return the config of the training in ``folder``; None if an earlier version wrote its checkpoint.

    Raises:
        UserError: the checkpoint is damaged.
    """
    path = next(path for name in (FILE, PARTIAL_FILE) if (path := folder / name).exists())
    state = read_state_file(path, mmap=True)
    return TrialConfig.parse(state["config"]) if isinstance(state, dict) and "config" in state else None


def go_on_as(folder: Path, old: TrialConfig, new: TrialConfig) -> None:
    """Let the training of ``old`` in ``folder`` go on as one of ``new``, which may have another number of epochs only.

    A checkpoint that is one of ``new`` already is left as it is: the call can be repeated after it was interrupted.

    Raises:
        UserError: a checkpoint is damaged, or of neither config.
        StorageError: it cannot be written.
    """
    for name in (PARTIAL_FILE, FILE):
        path = folder / name
        if path.exists() and read_state_file(path, mmap=True).get("identity") != trial_id(new):
            state = _read(path, old)
            write_state(state | {"identity": trial_id(new), "config": new.tree()}, path)


def exists(folder: Path) -> bool:
    """Return whether ``folder`` has a checkpoint."""
    return any((folder / name).exists() for name in (FILE, PARTIAL_FILE))


def remove(folder: Path) -> None:
    """Remove the checkpoints in ``folder``, if there are any, and the one that is being written."""
    for path in (folder / PARTIAL_FILE, folder / FILE):
        part_of(path).unlink(missing_ok=True)  # first: an unfinished file cannot take the place of ``path`` any more
        path.unlink(missing_ok=True)


def _read(path: Path, config: TrialConfig, mmap: bool = False) -> dict[str, Any]:
    state = read_state_file(path, mmap=mmap)
    if isinstance(state, dict) and (state.get("identity") == trial_id(config) or _has_moved(state, config)):
        return state
    rule = "was written by another config"
    if isinstance(state, dict) and "config" in state:
        changed = differences(canonical_trial(TrialConfig.parse(state["config"])), canonical_trial(config))
        rule += f": {'; '.join(changed[:MAX_DIFFERENCES])}" if changed else ""
    raise UserError(rule, file=path, way_out="train into another folder, or remove it")


def _has_moved(state: dict[str, Any], config: TrialConfig) -> bool:
    """Return whether a checkpoint is of the same training, whose initial weights were at another place."""
    if not state.get("start") or config.train.weights is None or not config.train.weights.is_file():
        return False
    old = TrialConfig.parse(state["config"])
    as_now = old.model_copy(update={"train": old.train.model_copy(update={"init": config.train.init})})
    return trial_id(as_now) == trial_id(config) and state["start"] == _start_of(config)


def _start_of(config: TrialConfig) -> str:
    """Return the hash of the file of the initial weights; "" if there is none."""
    weights = config.train.weights
    if weights is None or not weights.is_file():
        return ""
    stat = weights.stat()
    return _hashed(weights, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _hashed(path: Path, size: int, modified: int) -> str:
    return digest(path)

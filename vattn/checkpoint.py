"""Checkpoints of a training: what a resumed run needs, within an epoch or after one."""

import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vattn.canonical import trial_id
from vattn.config import TrainConfig, TrialConfig
from vattn.errors import UserError
from vattn.files import replacing, writing


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: number from 1, validation metrics and training loss, duration in seconds (wall clock)."""

    number: int
    metrics: dict[str, float]
    seconds: float


class Progress(NamedTuple):
    """The progress of an epoch on one worker: number of steps, sum of the losses of its clips, number of clips."""

    step: int
    total: Tensor
    seen: int

    def mean(self, train: TrainConfig, number: int) -> float:
        """Return the mean loss of a clip in epoch ``number``.

        Raises:
            FloatingPointError: it is not finite.
        """
        mean = float(self.total) / self.seen
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the training loss is {mean} in epoch {number}; try a lower train.lr (got {train.lr})"
            )
        return mean


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

    def restore(self, device: torch.device) -> Progress:
        """Restore the random state, and return the progress."""
        torch.set_rng_state(self.random[0].cpu())
        if device.type == "cuda":
            torch.cuda.set_rng_state(self.random[1].cpu(), device)
        return Progress(self.step, torch.tensor(self.total, device=device), self.seen)


def save(
    path: Path, config: TrialConfig, net: nn.Module, optimizer: torch.optim.Optimizer, done: list[Epoch],
    states: list[WorkerState],
) -> None:  # fmt: skip
    """Write a checkpoint: the network, the optimizer, the finished epochs and, within an epoch, the workers' states.

    Raises:
        StorageError: the file cannot be written.
    """
    state = {
        "identity": trial_id(config),
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epochs": [asdict(epoch) for epoch in done],
        "halfway": [asdict(worker) for worker in states],
    }
    write_state(state, path)


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write a file so that ``path`` has either its old or its new content, even if the process is killed.

    Raises:
        StorageError: the file cannot be written.
    """
    content = io.BytesIO()  # torch.save to a file reports a full disk as a RuntimeError instead of an OSError
    torch.save(state, content)
    with writing(path, "make room and go on with --resume"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(content.getbuffer())


def load(
    path: Path, config: TrialConfig, net: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, world: int
) -> tuple[list[Epoch], list[WorkerState]]:
    """Load a checkpoint into ``net`` and ``optimizer``, if there is one.

    Return the finished epochs, and the states of the workers if the checkpoint was written within an epoch.

    Raises:
        UserError: the checkpoint was written by another config, or within an epoch by another number of workers.
    """
    if not path.exists():
        return [], []
    state = torch.load(path, map_location=device, weights_only=True)
    if state["identity"] != trial_id(config):
        raise UserError("was written by another config", file=path, way_out="train into another folder, or remove it")
    workers = len(state["halfway"])
    if workers not in (0, world):
        raise UserError(
            f"was written within an epoch by {workers} workers, each with its own random numbers",
            file=path,
            way_out="go on with as many",
            found=world,
        )
    net.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**row) for row in state["epochs"]], [WorkerState(**row) for row in state["halfway"]]

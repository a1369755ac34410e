"""The task of a training process: plain values that Ray Tune can send."""

import json
from pathlib import Path
from typing import TypedDict

from search.ledger.history import Trial
from search.tuner.shares import Shares
from vattn.config import DataConfig, TrialConfig
from vattn.data.config import PLACES


class Task(TypedDict):
    """What one training process does."""

    number: int
    """the number of the training"""
    config: str
    """its complete config as JSON text, because Ray Tune would flatten a tree"""
    cache: str
    """the clip cache"""
    folder: str
    """the folder of its checkpoint and its trained weights"""
    tested: bool
    """whether it is scored on the test split after its last epoch"""
    known: int
    """number of epochs that are not reported again"""
    gpus: float
    """number of GPUs of each worker, or the share of one"""
    remote: str
    """URL of the store to which its files are copied; empty if all machines share the folder"""
    workers: int
    """number of workers with which it begins, if their number follows the cluster and there is room for them"""
    limited: bool
    """whether the process may use no more of the GPU's memory than this share"""


def task_of(
    trial: Trial, data: DataConfig, output: Path, cache: Path, shares: Shares, remote: str = "", workers: int = 1
) -> Task:
    """Return the task of a training whose initial weights are chosen.

    Args:
        trial: the training.
        data: the data of the search; where its files are now, as they may have moved since the proposal.
        output: the output folder of the search.
        cache: the clip cache.
        shares: the GPUs of a training.
        remote: URL of the store of the search; empty if it has none.
        workers: number of workers with which it begins.
    """
    places = {name: getattr(data, name) for name in PLACES}
    config = trial.run_config | {"data": trial.run_config["data"] | places}
    alone = trial.memory is not None and trial.memory.alone
    gpus = shares.of(TrialConfig.parse(config), alone)
    if trial.source is not None:
        weights = trial_folder(output, trial.source) / "model.pt"
        config = config | {"train": config["train"] | {"init": str(weights)}}  # after its memory was predicted
    return Task(
        number=trial.number,
        config=json.dumps(config),
        cache=str(cache),
        folder=str(trial_folder(output, trial.number)),
        tested=trial.confirms is not None,
        # The last recorded epoch is reported again: the decision that follows it may not be recorded.
        known=max(trial.epoch - 1, 0),
        gpus=gpus,
        remote=remote,
        workers=workers,
        limited=shares.is_auto,
    )


def trial_folder(output: Path, number: int) -> Path:
    """Return the folder of a training's checkpoint and trained weights."""
    return output / "trials" / f"{number:04d}"

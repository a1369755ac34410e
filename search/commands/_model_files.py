"""Files of trained models that stand on their own, beside the weights of a training or of a trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.commands._versions import versions
from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.trained.file import BEST_FILE, FILE, origin_of_weights, write_model
from vattn.training.best import FILE as BEST
from vattn.training.best import best
from vattn.training.checkpoint import Epoch
from vattn.weights import read_checkpoint

#: weights of the last epoch of a training
LAST = "model.pt"


def write_model_files(folder: Path, config: TrialConfig, epochs: Sequence[Epoch], clips: Mapping[str, int]) -> None:
    """Write ``model.safetensors`` and ``best.safetensors`` from the weights in the folder of a finished training.

    Args:
        folder: has ``model.pt`` and ``best.pt``.
        config: the config of the training.
        epochs: its finished epochs.
        clips: number of clips of each split.

    Raises:
        StorageError: a file cannot be written.
    """
    for weights, file, epoch, which in (
        (LAST, FILE, epochs[-1], "last epoch"), (BEST, BEST_FILE, best(epochs), "best epoch"),
    ):  # fmt: skip
        if (folder / weights).is_file():
            about = {"weights": which, "epoch": epoch.number, "epochs": config.train.epochs, "metrics": epoch.metrics,
                     "split": "val", "clips": dict(clips)}  # fmt: skip
            write_trained(folder / file, config, folder / weights, about)


def write_trained(file: Path, config: TrialConfig, weights: Path, about: Mapping[str, Any]) -> None:
    """Write the model of a config with the weights in a file; ``about`` is added to its provenance."""
    provenance = {
        **about, "identity": trial_id(config), "seed": config.train.seed, "ema": config.train.ema,
        "data": config.data.kind, "started_from": origin_of_weights(config), "versions": versions(),
    }  # fmt: skip
    write_model(file, config, config.data.labels(), read_checkpoint(weights).state, provenance)

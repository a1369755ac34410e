"""Trained models that stand on their own: one file has weights, class names, config, preprocessing and provenance."""

from pathlib import Path

import torch

from vattn.files import at_home
from vattn.trained.detector import Segment, TrainedDetector
from vattn.trained.file import FILE, ModelFile, read_model, write_model
from vattn.trained.model import Prediction, Trained, TrainedModel

__all__ = [
    "ModelFile", "Prediction", "Segment", "Trained", "TrainedDetector", "TrainedModel", "load", "load_classifier",
    "read_model", "write_model",
]  # fmt: skip


def load(file: str | Path, device: torch.device | None = None) -> TrainedModel | TrainedDetector:
    """Return the trained model in a file.

    Args:
        file: a model.safetensors, or the output folder of a training.
        device: where it computes; None: the GPU if there is one.

    Raises:
        UserError: there is no such file, or it is none of a trained model.
    """
    content = _read(file)
    return (TrainedDetector if content.config.task == "detection" else TrainedModel)(content, device)


def load_classifier(file: str | Path, device: torch.device | None = None) -> TrainedModel:
    """Return what `load` returns; raise UserError for a detector too."""
    return TrainedModel(_read(file), device)


def _read(file: str | Path) -> ModelFile:
    path = at_home(file)
    return read_model(path / FILE if path.is_dir() else path)

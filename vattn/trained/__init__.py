"""Trained models that stand on their own: one file has weights, class names, config, preprocessing and provenance."""

from pathlib import Path

import torch

from vattn.files import at_home
from vattn.trained.detector import Segment, TrainedDetector
from vattn.trained.file import FILE, ModelFile, read_model, write_model
from vattn.trained.model import Prediction, Trained, TrainedModel

__all__ = [
    "ModelFile", "Prediction", "Segment", "Trained", "TrainedDetector", "TrainedModel", "load", "load_any",
    "load_detector", "read_model", "write_model",
]  # fmt: skip


def load(file: str | Path, device: torch.device | None = None) -> TrainedModel:
    """Return the trained classifier in a file.

    Args:
        file: a model.safetensors, or the output folder of a training.
        device: where it computes; None: the GPU if there is one.

    Raises:
        UserError: there is no such file, it is none of a trained model, or it is a detector.
    """
    return TrainedModel(_read(file), device)


def load_detector(file: str | Path, device: torch.device | None = None) -> TrainedDetector:
    """Return the trained detector in a file; arguments and errors are those of `load`, but a classifier is refused."""
    return TrainedDetector(_read(file), device)


def load_any(file: str | Path, device: torch.device | None = None) -> TrainedModel | TrainedDetector:
    """Return what `load` or `load_detector` returns."""
    content = _read(file)
    return (TrainedDetector if content.config.task == "detection" else TrainedModel)(content, device)


def _read(file: str | Path) -> ModelFile:
    path = at_home(file)
    return read_model(path / FILE if path.is_dir() else path)

"""Trained models that stand on their own: one file has weights, class names, config, preprocessing and provenance."""

from vattn.trained.file import ModelFile, read_model, write_model
from vattn.trained.model import Prediction, Trained, TrainedModel, load

__all__ = ["ModelFile", "Prediction", "Trained", "TrainedModel", "load", "read_model", "write_model"]

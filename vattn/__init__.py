"""One video model and how to train it. Plain torch: no Ray, Optuna or MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vattn.trained import TrainedDetector, TrainedModel


def load(file: str | Path) -> "TrainedModel | TrainedDetector":
    """Return a trained model, which returns the classes of a video: ``vattn.load("model.safetensors")("clip.mp4")``.

    A detector returns the segments of its actions.

    See `vattn.trained.load`. Raises `vattn.errors.UserError`, a ValueError, for a file that is no trained model.
    """
    # Torch takes seconds to import, and not everyone who imports this package needs it.
    from vattn.trained import load as load_model

    return load_model(file)

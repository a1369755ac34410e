"""One video model and how to train it. Plain torch: no Ray, Optuna or MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vattn.trained import TrainedDetector, TrainedModel


def load(file: str | Path) -> "TrainedModel":
    """Return a trained model, which returns the classes of a video: ``vattn.load("model.safetensors")("clip.mp4")``.

    See `vattn.trained.load`. Raises `vattn.errors.UserError`, a ValueError, for a file that is no trained model.
    """
    # Torch takes seconds to import, and not everyone who imports this package needs it.
    from vattn.trained import load as load_model

    return load_model(file)


def load_detector(file: str | Path) -> "TrainedDetector":
    """Return a trained detector, which returns the segments of the actions in a video.

    See `vattn.trained.load_detector`. Raises `vattn.errors.UserError`, a ValueError, for a file that is none.
    """
    from vattn.trained import load_detector as load_it

    return load_it(file)

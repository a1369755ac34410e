"""What a training's weights expect of pixels: the meaning of ``data.normalize: auto``."""

from functools import lru_cache
from pathlib import Path

from vattn.config import TrialConfig
from vattn.errors import UserError
from vattn.files import at_home
from vattn.normalization import WORDS, Statistics, named
from vattn.weights.families import recognise
from vattn.weights.files import read_checkpoint


def stated(config: TrialConfig) -> Statistics:
    """Return the statistics of a config; with ``auto`` those of its backbone, whatever a file of weights says."""
    given = config.data.normalize
    if given == "auto":
        return config.model.backbone.statistics()
    return given if isinstance(given, Statistics) else WORDS[given]


def statistics(config: TrialConfig, checkpoint: Path | None = None) -> Statistics:
    """Return how pixels are normalised.

    With ``auto``, the first of these decides that knows: the weights in ``checkpoint``, ``train.init`` and
    ``backbone.weights``, then the kind of the backbone. Weights of a training here do not know.
    """
    if config.data.normalize == "auto":
        backbone = config.model.backbone
        files = [checkpoint, config.train.weights]
        files += [] if backbone.weights in ("none", "default") else [at_home(backbone.weights)]
        for file in files:
            known = _of_file(file) if file else None
            if known and len(known.mean) == backbone.input_channels:
                return known
    return stated(config)


def recorded(config: TrialConfig, checkpoint: Path | None = None) -> TrialConfig:
    """Return the config with ``data.normalize`` as its weights need it, where ``auto`` alone would not say it.

    So what is recorded of a training gives the same numbers when the file of weights is gone.
    """
    needed = statistics(config, checkpoint)
    if needed.same(stated(config)):
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"normalize": named(needed)})})


def _of_file(file: Path) -> Statistics | None:
    """Return what the weights in a file expect; None if they do not say. A wrong file is refused where it is loaded."""
    try:
        status = file.stat()
        return _of_version(file, status.st_mtime_ns, status.st_size)
    except (OSError, UserError):
        return None


@lru_cache(maxsize=64)
def _of_version(file: Path, modified: int, size: int) -> Statistics | None:
    return recognise(read_checkpoint(file)).statistics

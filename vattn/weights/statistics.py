"""What a training's weights expect of pixels: the meaning of ``data.normalize: auto``."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from vattn.backbones import BackboneConfig
from vattn.config import DataConfig, TrialConfig
from vattn.errors import UserError
from vattn.normalization import WORDS, Statistics, named
from vattn.weights.families import recognise
from vattn.weights.files import read_checkpoint


def stated(data: DataConfig, backbone: BackboneConfig) -> Statistics:
    """Return the statistics of a config; with ``auto`` those of its backbone, whatever a file of weights says."""
    given = data.normalize
    if given == "auto":
        return backbone.statistics()
    return given if isinstance(given, Statistics) else WORDS[given]


def statistics(config: TrialConfig, checkpoint: Path | None = None) -> Statistics:
    """Return how the pixels of a training are normalised, or those of an evaluation of the weights in ``checkpoint``.

    It is `expected` with the weights in ``checkpoint`` and ``train.init``.
    """
    return expected(config.data, config.model.backbone, [checkpoint, config.train.weights])


def expected(data: DataConfig, backbone: BackboneConfig, files: Sequence[Path | None]) -> Statistics:
    """Return how pixels are normalised.

    With ``auto``, the first of these that states its statistics decides: the weights in ``files``, those of
    ``backbone.weights``, the kind of the backbone. Weights of a training here do not state any.
    """
    if data.normalize == "auto":
        for file in [*files, backbone.weights_file]:
            known = _of_file(file) if file else None
            if known and len(known.mean) == backbone.input_channels:
                return known
    return stated(data, backbone)


def recorded(config: TrialConfig, checkpoint: Path | None = None) -> TrialConfig:
    """Return the config with ``data.normalize`` as its weights need it, where ``auto`` alone would not say it.

    So what is recorded of a training gives the same numbers when the file of weights is gone.
    """
    needed = statistics(config, checkpoint)
    if needed.same(stated(config.data, config.model.backbone)):
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

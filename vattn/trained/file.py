"""The file of a trained model: safetensors, whose metadata say everything that a prediction needs.

Metadata are texts:

* ``format``: ``vattn``; ``version``: of this description, 1;
* ``labels``: names of the classes, a JSON list; ``classes``: their number;
* ``config``: the `TrialConfig` of the training as JSON, without the places of files: ``data.root``, ``model.backbone
  .weights``, ``train.init`` and ``train.distill`` are left out, and ``data.classes`` is given;
* ``normalize``: what the weights expect of pixels, a `vattn.normalization.Statistics` as JSON;
* ``provenance``: a JSON mapping of where the model comes from.

The tensors are the whole state dict: parameters and buffers, such as the statistics of batch norms. Nothing in such a
file can run code.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vattn.config import TrialConfig
from vattn.data.layouts import LayoutConfig
from vattn.errors import UserError
from vattn.files import at_home, writing
from vattn.normalization import Statistics, named
from vattn.weights import Checkpoint, State, read_checkpoint
from vattn.weights.statistics import statistics
from vattn.weights.write import write_weights

SUFFIX = ".safetensors"
#: names of the files that a training writes: after its last epoch, and after its best one
FILE = f"model{SUFFIX}"
BEST_FILE = f"best{SUFFIX}"
VERSION = "1"
#: ``data.root`` of a data set whose place is not known
UNKNOWN_ROOT = "/data.root-is-not-in-this-file"
#: longest metadata of one kind, characters; names of classes, and characters of one of them
_MAX_TEXT, _MAX_LABELS, _MAX_LABEL = 10_000_000, 100_000, 1000
#: mappings and lists inside of each other
_MAX_DEPTH = 64
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\u2028\\u2029]")
_WAY_OUT = "name a model.safetensors of `vattn train` or `vattn export`"


@dataclass(frozen=True)
class ModelFile:
    """What a file of a trained model says besides its weights."""

    file: Path
    config: TrialConfig
    labels: tuple[str, ...]
    provenance: Mapping[str, Any]
    checkpoint: Checkpoint


def write_model(
    file: Path, config: TrialConfig, labels: Sequence[str], state: State, provenance: Mapping[str, Any]
) -> None:
    """Write a trained model.

    Args:
        file: the file, which is complete or unchanged.
        config: the config of its training.
        labels: names of the classes.
        state: the state dict of its network.
        provenance: where it comes from, as plain values.

    Raises:
        StorageError: it cannot be written.
    """
    expected = statistics(config)
    tree = _portable(config, len(labels), expected).tree()
    metadata = {
        "format": "vattn", "version": VERSION, "classes": str(len(labels)), "labels": json.dumps(list(labels)),
        "config": json.dumps(tree), "normalize": expected.model_dump_json(), "provenance": json.dumps(provenance),
    }  # fmt: skip
    with writing(file, "make room, or name another place"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_weights(state, metadata, file)


def is_model(file: Path) -> bool:
    """Return whether a path has the suffix of a trained model."""
    return file.suffix == SUFFIX


def read_model(file: Path) -> ModelFile:
    """Return what a file of a trained model holds.

    Raises:
        UserError: there is no such file, it is damaged, or it does not say what a prediction needs.
    """
    checkpoint = read_checkpoint(file)
    metadata = checkpoint.metadata
    if missing := [key for key in ("labels", "config") if key not in metadata]:
        known = "has weights only" if metadata.get("format") == "vattn" else "is no trained model of this program"
        raise UserError(f"{known}: its metadata have no {' and no '.join(missing)}", file=file, way_out=_WAY_OUT)
    if metadata.get("version") != VERSION:
        raise UserError(
            f"is of version {_shown(metadata.get('version', 'unknown'))}, and only version {VERSION} can be read",
            file=file,
            way_out="update vattn",
        )
    labels = _labels(_json(file, metadata, "labels"), file)
    tree = _json(file, metadata, "config")
    try:
        config = TrialConfig.parse(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"is not a config of this version of vattn: {_shown(place)}: {_shown(first['msg'])}", file=file,
            path="metadata config", way_out=_WAY_OUT,
        ) from None  # fmt: skip
    provenance = _json(file, metadata, "provenance") if "provenance" in metadata else {}
    if not isinstance(provenance, dict):
        raise UserError("must be a mapping", file=file, path="metadata provenance", way_out=_WAY_OUT)
    return ModelFile(file, config, labels, provenance, checkpoint)


def _portable(config: TrialConfig, classes: int, expected: Statistics) -> TrialConfig:
    """Return a config without places of files, without what only its training needed, with statistics of pixels."""
    places: dict[str, Any] = {
        "root": "auto", "cache": "auto", "local": "none", "resident": "auto", "normalize": named(expected),
    }  # fmt: skip
    if isinstance(config.data, LayoutConfig):
        places |= {"root": UNKNOWN_ROOT, "classes": classes}
    if config.data.augment.mirror != "auto":
        augment = config.data.augment
        places["augment"] = augment.model_copy(update={"mirror": "auto"})
    init = config.train.init if config.train.weights is None else "scratch"
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=places),
            "model": config.model.without_weights(),
            "train": config.train.model_copy(update={"init": init, "distill": "none"}),
        }
    )


def origin_of_weights(config: TrialConfig) -> dict[str, Any]:
    """Return what `_portable` leaves out of a config: names of the files that its training started from."""
    train, backbone = config.train, config.model.backbone
    origin: dict[str, Any] = {}
    if train.weights:
        origin["init"] = train.weights.name
    if backbone.weights != "none":
        origin["backbone_weights"] = at_home(backbone.weights).name
    if train.distill != "none":
        origin["distill"] = {"loss": train.distill.loss, "digest": train.distill.digest}
    return origin


def _json(file: Path, metadata: Mapping[str, str], key: str) -> Any:
    text = metadata[key]
    try:
        if len(text) > _MAX_TEXT:
            raise ValueError(f"has more than {_MAX_TEXT:,} characters")
        value = json.loads(text)
        if _depth(value) > _MAX_DEPTH:
            raise ValueError(f"is nested more than {_MAX_DEPTH} deep")
    except RecursionError:
        raise UserError(f"is nested more than {_MAX_DEPTH} deep", file=file, path=f"metadata {key}") from None
    except ValueError as error:
        reason = str(error) if str(error).startswith(("has more", "is nested")) else "is not JSON, or was cut off"
        raise UserError(reason, file=file, path=f"metadata {key}", way_out=_WAY_OUT) from None
    return value


def _depth(value: Any) -> int:
    """Return how deep mappings and lists are inside of each other, up to one more than is allowed."""
    level, depth = [value], 0
    while level and depth <= _MAX_DEPTH:
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
    return depth


def _labels(names: Any, file: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or not 1 <= len(names) <= _MAX_LABELS:
        raise UserError("must be a JSON list of names", file=file, path="metadata labels", way_out=_WAY_OUT)
    wrong = [name for name in names if not isinstance(name, str) or len(name) > _MAX_LABEL or _CONTROL.search(name)]
    if wrong:
        raise UserError(
            f"must be names without control characters, of at most {_MAX_LABEL} characters", file=file,
            path="metadata labels", way_out=_WAY_OUT, found=_shown(str(wrong[0])),
        )  # fmt: skip
    return tuple(names)


def _shown(text: str) -> str:
    """Return a text of a stranger as a part of one line."""
    return _CONTROL.sub("?", text)[:200]

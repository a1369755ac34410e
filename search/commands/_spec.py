"""Arguments shared by the commands that take a spec or a config."""

import json
import re
from argparse import Namespace
from pathlib import Path

import spaces
from search.parser import did_you_mean
from vattn.errors import UserError
from vattn.trained.file import is_model


def spec_file(name: str) -> Path:
    """Return the path of a spec. A bare name that is no file is a ready spec: spaces/library/quickstart.yaml."""
    return _ready(Path(name), Path(spaces.__path__[0]) / "library")


def config_file(name: Path) -> Path:
    """Return the path of a config. A bare name that is no file is a recipe: spaces/library/recipes/tam_ssv1.yaml."""
    return _ready(name, Path(spaces.__path__[0]) / "library" / "recipes")


def _ready(name: Path, folder: Path) -> Path:
    """Return the file of a name in ``folder``; other names are paths. Raises UserError for a name with a typo."""
    if name.exists() or name.name != str(name):
        return name
    file = folder / f"{name}.yaml"
    if not file.is_file() and (hint := did_you_mean(str(name), (ready.stem for ready in folder.glob("*.yaml")))):
        raise UserError(f"no such file, and no ready one{hint}", file=name)
    return file if file.is_file() else name


def checkpoint_of(arguments: Namespace) -> Path:
    """Return the file of the weights: that of ``--checkpoint``, or the trained model in the place of a config.

    Raises UserError if there is neither.
    """
    if arguments.checkpoint is not None:
        return arguments.checkpoint
    if is_model(arguments.config):
        return arguments.config
    raise UserError("is missing", path="--checkpoint", way_out="name the weights, or a model.safetensors as the config")


def data_overrides(arguments: Namespace) -> list[str]:
    """Return the values of the config that ``--set`` and ``--data`` change, as A.B=V."""
    return arguments.set + ([] if arguments.data is None else [f"data.root={json.dumps(arguments.data)}"])


def overrides(arguments: Namespace) -> list[str]:
    """Return the values of the spec that ``--set`` and ``--output`` change, as A.B=V."""
    return arguments.set + ([] if arguments.output is None else [f"output={json.dumps(arguments.output)}"])


def parse_views(text: str) -> dict[str, int]:
    """Return the clips and crops that a text such as "10x3" asks for; raise UserError if it has another form."""
    match = re.fullmatch(r"([1-9]\d?|100)x([13])", text)
    if match is None:
        rule = "must be clips x crops, 1 to 100 and 1 or 3, such as 10x3"
        raise UserError(rule, path="--views", found=text)
    return {"clips": int(match[1]), "crops": int(match[2])}

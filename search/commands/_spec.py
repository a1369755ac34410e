"""Arguments shared by the commands that take a spec or a config."""

import json
from argparse import Namespace
from pathlib import Path

import spaces
from vattn.errors import UserError
from vattn.trained.file import is_model


def spec_file(name: str) -> Path:
    """Return the path of a spec. A bare name that is no file is a ready spec: spaces/library/quickstart.yaml."""
    ready = Path(spaces.__path__[0]) / "library" / f"{name}.yaml"
    return ready if not Path(name).exists() and Path(name).name == name and ready.is_file() else Path(name)


def config_file(name: Path) -> Path:
    """Return the path of a config. A bare name that is no file is a recipe: spaces/library/recipes/tam_ssv1.yaml."""
    recipe = Path(spaces.__path__[0]) / "library" / "recipes" / f"{name}.yaml"
    return recipe if not name.exists() and name.name == str(name) and recipe.is_file() else name


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

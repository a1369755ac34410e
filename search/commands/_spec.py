"""Arguments shared by the commands that take a spec."""

import json
from argparse import Namespace
from pathlib import Path

import spaces


def spec_file(name: str) -> Path:
    """Return the path of a spec. A bare name that is no file is a ready spec: spaces/library/quickstart.yaml."""
    ready = Path(spaces.__path__[0]) / "library" / f"{name}.yaml"
    return ready if not Path(name).exists() and Path(name).name == name and ready.is_file() else Path(name)


def overrides(arguments: Namespace) -> list[str]:
    """Return the values of the spec that ``--set`` and ``--output`` change, as A.B=V."""
    return arguments.set + ([] if arguments.output is None else [f"output={json.dumps(arguments.output)}"])

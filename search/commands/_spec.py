"""What the commands share that take a spec."""

import json
from argparse import Namespace
from pathlib import Path

import spaces


def spec_file(name: str) -> Path:
    """Return the file of that name, or the ready spec: ``quickstart`` is spaces/library/quickstart.yaml."""
    ready = Path(spaces.__path__[0]) / "library" / f"{name}.yaml"
    return ready if not Path(name).exists() and Path(name).name == name and ready.is_file() else Path(name)


def overrides(arguments: Namespace) -> list[str]:
    """Return the changes of a spec that the command line asks for; ``--output`` is one of them."""
    return arguments.set + ([] if arguments.output is None else [f"output={json.dumps(arguments.output)}"])

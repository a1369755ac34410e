"""Data sets for the tests of layouts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vattn.config import AnyData, DataConfig

#: (path, name of the class, split) of each row of a manifest.
Rows = set[tuple[str, str, str]]


def config(kind: str, root: Path, **options: Any) -> DataConfig:
    """Return the config that a spec with these fields gives."""
    return TypeAdapter(AnyData).validate_json(json.dumps({"kind": kind, "root": str(root)} | options))


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write text files below ``root``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def table(data: DataConfig) -> list[dict[str, Any]]:
    """Return the rows of the manifest."""
    return data.manifest(Path(data.root)).to_pylist()


def rows(data: DataConfig) -> Rows:
    """Return path, name of the class and split of each row of the manifest."""
    names = dict(enumerate(data.labels()))
    return {(row["path"], names[row["label"]], row["split"]) for row in table(data)}

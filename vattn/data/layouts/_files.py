"""Finds and reads the lists and videos of data sets. A path in a message is ``data.root`` unless a field names it."""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vattn.errors import UserError

#: Suffixes of video files, lower case.
VIDEOS = frozenset(
    (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".gif")
)


def videos_by_stem(root: Path) -> dict[str, list[str]]:
    """Return the video files below ``root``, as paths below it, by their names without the suffix."""
    videos: dict[str, list[str]] = defaultdict(list)
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            if suffix.lower() in VIDEOS:
                videos[stem].append(os.path.relpath(os.path.join(folder, name), root))  # noqa: PTH118
    return {stem: sorted(paths) for stem, paths in videos.items()}


def find(root: Path, names: Iterable[str], what: str) -> Path:
    """Return the first of ``names`` (paths below ``root``) that exists; raise UserError if none does."""
    names = list(names)
    for name in names:
        if (root / name).exists():
            return root / name
    raise UserError(f"{root}: has no {what}", path="data.root", way_out=f"put it there as {' or '.join(names)}")


def list_file(root: Path, file: str, key: str) -> Path:
    """Return the path of the list that the field ``data.KEY`` names; raise UserError if it does not exist."""
    path = root / Path(file).expanduser()
    if not path.exists():
        raise UserError(
            f"{root / file} does not exist", path=f"data.{key}", way_out="name a file below the root", found=file
        )
    return path


def read_names(root: Path, file: str) -> tuple[str, ...]:
    """Return the names of classes, one a line, in the file that ``data.names`` names."""
    return tuple(line for _, line in read_lines(list_file(root, file, "names")))


def read_text(path: Path) -> str:
    """Return the text of a list; raise UserError if it cannot be read as text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as text ({error})", path="data.root", way_out="put the owners' file there"
        ) from error


def read_json(path: Path, wanted: type) -> Any:
    """Return the content of a JSON file; raise UserError if it is not a ``wanted``."""
    try:
        tree = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: is not JSON ({error})", path="data.root", way_out="put the owners' file there"
        ) from error
    if not isinstance(tree, wanted):
        raise UserError(
            f"{path}: must hold a {wanted.__name__}", path="data.root", way_out="put the owners' file there"
        )
    return tree


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, line) for each line that is not empty, stripped; a place is ``train.txt:3``."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line := line.strip():
            yield f"{path.name}:{number}", line


def read_csv(path: Path, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, row) for each row of a CSV file with a header; raise UserError if a column is missing."""
    reader = csv.DictReader(read_text(path).splitlines())
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}", path="data.root", found=reader.fieldnames)
    for row in reader:
        yield f"{path.name}:{reader.line_num}", {name: value or "" for name, value in row.items() if name}

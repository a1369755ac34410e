"""Finds and reads the lists and videos of data sets. A path in a message is ``data.root`` unless a field names it."""

import csv
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vattn.data.decode import is_litter
from vattn.data.names import VIDEOS
from vattn.errors import UserError
from vattn.files import at_home

#: The split for each usual name of it.
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "dev": "val", "eval": "val", "test": "test", "testing": "test",
}  # fmt: skip
_SPLIT = re.compile(rf"({'|'.join(sorted(_SPLITS, reverse=True))})(?:[ _-]?(?:set|split|data|videos|clips|frames))?")
#: A line of a list of names that begins with a number.
_NUMBERED = re.compile(r"([0-9]{1,9})[\s,;:.)]+\S.*")
#: Characters that separate columns in tables that are not read.
_OTHER_DELIMITERS = ";\t|"
#: The way out of a file that is not UTF-8.
UTF8 = "save it as UTF-8 text; if it is Latin-1, iconv -f LATIN1 -t UTF-8 does so"


def whole_number(text: str) -> int | None:
    """Return the number that a text of decimal digits stands for; None for other texts, and from 1e9 on."""
    digits = re.fullmatch(r"0*([0-9]{1,9})", text)
    return int(digits[1]) if digits else None


def split_of(name: str) -> str | None:
    """Return the split, train, val or test, for a usual name of it, in any capitals; None for other names."""
    match = _SPLIT.fullmatch(name.strip().casefold())
    return _SPLITS[match[1]] if match else None


def lists_below(folder: Path, pattern: str) -> list[Path]:
    """Return the files in a folder whose names match a pattern such as ``*.csv``, sorted; hidden ones are skipped."""
    return sorted(path for path in folder.glob(pattern) if not is_litter(path.name))


def videos_by_stem(root: Path) -> dict[str, list[str]]:
    """Return the video files below ``root``, as paths below it, by their names without the suffix.

    Linked folders are followed, but each folder is listed once, so that links may form a loop.
    """
    videos: dict[str, list[str]] = defaultdict(list)
    listed: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in listed:
            folders.clear()
            continue
        listed.add(real)
        # In a fixed order, linked folders last, so that the paths are the same on each file system.
        folders[:] = sorted(
            (name for name in folders if not is_litter(name)),
            key=lambda name: (os.path.islink(os.path.join(folder, name)), name),  # noqa: PTH114, PTH118
        )
        for name in names:
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            if suffix.lower() in VIDEOS and not is_litter(name):
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
    path = root / at_home(file)
    if not os.path.exists(path):  # noqa: PTH110  # pathlib's raises for names that are too long
        raise UserError(
            f"{root / file} does not exist", path=f"data.{key}", way_out="name a file below the root", found=file
        )
    return path


def read_names(root: Path, file: str) -> tuple[str, ...]:
    """Return the names of classes, one a line, in the file that ``data.names`` names.

    Raises UserError if its lines are numbered in another order than that in which they stand.
    """
    path = list_file(root, file, "names")
    lines = [line for _, line in read_lines(path)]
    numbers = [int(match[1]) for line in lines if (match := _NUMBERED.fullmatch(line))]
    if numbers != sorted(numbers) and sorted(numbers) in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        raise UserError(
            f"{path}: must have the names in the order of their labels",
            path="data.names",
            way_out="sort its lines by their numbers",
            found=", ".join(lines[:2]),
        )
    return tuple(lines)


def read_text(path: Path) -> str:
    """Return the text of a list; raise UserError if it cannot be read as text."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error})", path="data.root", way_out="put the owners' file there"
        ) from error
    if b"\0" in data:
        raise UserError(f"{path}: must be UTF-8 text, and has bytes of 0 as UTF-16 has", path="data.root", way_out=UTF8)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: must be UTF-8 text, and line {line} has the byte 0x{data[error.start]:02x}",
            path="data.root",
            way_out=UTF8,
        ) from error


def read_json(path: Path, wanted: type) -> Any:
    """Return the content of a JSON file; raise UserError if it is not a ``wanted``."""
    try:
        tree = json.loads(read_text(path))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
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
    for number, line in enumerate(re.split(r"\r\n|\n|\r", read_text(path)), start=1):
        if line := line.strip():
            yield f"{path.name}:{number}", line


def read_cells(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, cells) for each row of a CSV file that is not empty, the header first.

    Blanks at the beginning of a cell are left out. Raises UserError if the file is not CSV with commas.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True, strict=True)
    header = True
    try:
        for cells in reader:
            if not cells:
                continue
            if header:
                header, cells = False, [cell.strip() for cell in cells]
                _check_delimiter(path, cells)
            yield f"{path.name}:{reader.line_num}", cells
    except csv.Error as error:
        raise UserError(
            f"{path}: is not CSV ({error}, line {reader.line_num})",
            path="data.root",
            way_out="cells with commas or quotes are in quotes, and quotes in them are doubled",
        ) from error
    if header:
        raise UserError(f"{path}: is empty", path="data.root", way_out="its first line names the columns")


def _check_delimiter(path: Path, header: list[str]) -> None:
    for delimiter in _OTHER_DELIMITERS:
        if len(header) == 1 and delimiter in header[0]:
            name = "tabs" if delimiter == "\t" else f"'{delimiter}'"
            raise UserError(
                f"{path}: columns must be separated by commas, and are by {name}",
                path="data.root",
                way_out="save it as CSV with commas",
            )


def read_csv(path: Path, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, row) for each row of a CSV file with a header; raise UserError if a column is missing."""
    rows = read_cells(path)
    _, header = next(rows)
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}", path="data.root", found=", ".join(header))
    for place, cells in rows:
        yield place, dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))

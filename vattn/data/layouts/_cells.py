"""Reads tables, CSV as text, and then interprets their cells."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pa_parquet

from vattn.data.layouts._classes import numbered
from vattn.data.layouts._files import UTF8, read_cells
from vattn.errors import UserError

#: A cell: text in CSV, a text or a number in Parquet, None where it is empty.
Cell = str | int | float | None

#: Largest number of a frame.
MAX_FRAME = 1_000_000_000
#: What programs write in columns of numbers where there is none, lower case.
_MISSING = frozenset(("nan", "na", "n/a", "#n/a", "null", "none", "<na>"))

_PLAIN = re.compile(r"(-?(?:0|[1-9][0-9]{0,17}))(?:\.0*)?")
#: Sign, and digits without leading zeros.
_DIGITS = re.compile(r"(-?)0*([0-9]+)(?:\.0*)?")
_FRACTION = re.compile(r"-?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?")
_SEVERAL_NUMBERS = re.compile(r"[\[(]?\s*[0-9]+(?:(?:\s*[,;|]\s*|\s+)[0-9]+)+\s*[\])]?")
_BETWEEN = re.compile(r"\s*[,;|]\s*")


class Table(NamedTuple):
    """A table as it is written."""

    path: Path
    header: list[str]
    places: list[str]
    """of each row"""
    malformed: dict[int, str]
    """what is wrong with a whole row, by its index"""
    is_text: bool
    """whether all cells are text, so that what looks like a number may be one"""
    cells_of: Callable[[int], list[Cell]]
    """returns the cells of a column by its position"""

    def column(self, name: str) -> list[Cell]:
        """Return the cells of a column that the header has once."""
        return self.cells_of(self.header.index(name))


def read_header(path: Path) -> list[str]:
    """Return the names of the columns of a table that `read_table` can read."""
    if path.suffix.lower() == ".csv":
        return next(read_cells(path))[1]
    return pa_parquet.ParquetFile(path).schema_arrow.names


def read_table(path: Path) -> Table:
    """Read a .csv or .parquet file; raise UserError if it has another form."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        (_, header), *rows = read_cells(path)
        malformed = {
            number: f"has {len(cells)} cells, and the first line {len(header)}"
            for number, (_, cells) in enumerate(rows)
            if len(cells) < len(header) or any(cells[len(header) :])
        }
        return Table(
            path, header, [place for place, _ in rows], malformed, True,
            lambda at: [cells[at] or None if at < len(cells) else None for _, cells in rows],
        )  # fmt: skip
    if suffix != ".parquet":
        raise UserError(
            "must be a .csv or a .parquet file", path="data.file", way_out="save it as CSV with commas", found=path.name
        )
    try:
        table = pa_parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}", path="data.file") from error
    places = [f"{path.name}[{number}]" for number in range(len(table))]
    names = table.column_names
    return Table(path, names, places, {}, False, lambda at: _of_arrow(path, names[at], table.column(at)))


def labels_of(path: Path, cells: Sequence[Cell], is_text: bool) -> tuple[list[int | str | None], dict[int, str]]:
    """Return the class of each row, all numbers or all names, and the problems of rows by their index.

    Text is read as numbers if all of it is plain whole numbers. Numbers with leading zeros are names.
    """
    texts = {cell for cell in cells if isinstance(cell, str)}
    several = {text for text in texts if _is_several(text, texts)}
    problems = {
        row: f"several labels for a clip are not supported: {cell}" for row, cell in enumerate(cells) if cell in several
    }
    single = texts - several
    numbers = {text: _number(text) for text in single if text.lower() not in _MISSING} if is_text else {}
    fractions = [cell for cell in cells if isinstance(cell, float)]
    if numbers and None in numbers.values() and all(_FRACTION.fullmatch(text) for text in numbers):
        fractions += sorted(text for text in numbers if not _DIGITS.fullmatch(text))
        _refuse_two_forms(path, numbers)
    if fractions:
        raise UserError(
            f"{path}: labels must be names or whole numbers",
            path="data.label",
            way_out="name the column of the classes",
            found=fractions[0],
        )
    if numbers and None not in numbers.values():
        return [numbers.get(cell) if isinstance(cell, str) else None for cell in cells], problems
    return [None if cell in several or isinstance(cell, float) else cell for cell in cells], problems


def _refuse_two_forms(path: Path, texts: Iterable[str]) -> None:
    """Raise UserError if two labels are one number, such as 007 and 7: they would be two classes."""
    forms: dict[tuple[str, ...], str] = {}
    for text in sorted(texts):
        if digits := _DIGITS.fullmatch(text):
            same = forms.setdefault(digits.groups(), text)
            if same != text:
                raise UserError(
                    f"{path}: labels {same} and {text} are one number in two forms",
                    path="data.label",
                    way_out="write it in one",
                )


def class_names(path: Path, labels: Sequence[int | str | None]) -> tuple[str, ...]:
    """Return the names of the classes: those in the labels, sorted, or the numbers up to the largest label."""
    classes = {label for label in labels if label is not None}
    if not classes:
        raise UserError(f"{path}: has no row with a class", path="data.label", way_out="name another column")
    names = sorted(label for label in classes if isinstance(label, str))
    if names:
        return tuple(names)
    return numbered({label: str(path) for label in classes if isinstance(label, int)}, "data.label")


def frame_range(first: Cell, last: Cell, count: Cell) -> tuple[int | None, int | None, int | None, str]:
    """Return the first and last frame of a row, the number of frames if it has neither, and the problem, if any."""
    numbers = [_frame(cell) for cell in (first, last, count)]
    texts = ", ".join(str(cell) for cell in (first, last, count) if cell is not None)
    if "" in numbers:
        return None, None, None, f"frames are no whole numbers: {texts}"
    start, end, stated = numbers
    if any(number is not None and not 0 <= number <= MAX_FRAME for number in numbers):
        return None, None, None, f"frames are counted from 0: {texts}"
    if start is not None and end is not None and end < start:
        return None, None, None, f"last frame is before the first: {texts}"
    return start, end, stated if start is None and end is None else None, ""


def _frame(cell: Cell) -> Any:
    """Return the number of a frame; None if the cell is empty, an empty text if it is no whole number."""
    if isinstance(cell, str):
        cell = cell.strip()
        if not cell or cell.lower() in _MISSING:
            return None
        digits = _DIGITS.fullmatch(cell)
        return int(digits[1] + digits[2][:20]) if digits else ""
    return "" if isinstance(cell, float) else cell


def _number(text: str) -> int | None:
    plain = _PLAIN.fullmatch(text.strip())
    return int(plain[1]) if plain else None


def _is_several(text: str, texts: set[str]) -> bool:
    """Return whether a cell has several labels: numbers, or names that are alone in other cells."""
    if _SEVERAL_NUMBERS.fullmatch(text):
        return True
    names = _BETWEEN.split(text)
    return len(names) > 1 and all(name in texts for name in names)


def _of_arrow(path: Path, name: str, column: pa.ChunkedArray) -> list[Cell]:
    """Return the cells of a Parquet column; whole numbers in a column of floats are whole numbers."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    try:
        cells = column.to_pylist()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: column {name} must be UTF-8 ({error})", path="data.file", way_out=UTF8) from error
    if pa.types.is_boolean(kind):
        return [None if cell is None else str(cell).lower() for cell in cells]
    if pa.types.is_floating(kind):
        return [_of_float(cell) for cell in cells]
    if (
        pa.types.is_integer(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_null(kind)
    ):
        return cells
    raise UserError(
        f"{path}: column {name} must hold text or numbers, one in each row", path="data.file", found=str(column.type)
    )


def _of_float(number: float | None) -> Cell:
    if number is None or math.isnan(number):
        return None
    return int(number) if number.is_integer() else number

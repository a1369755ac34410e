"""A table of clips: CSV or Parquet, with columns of any names."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from vattn.base import LATER
from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._cells import Cell, Table, class_names, frame_range, labels_of, read_header, read_table
from vattn.data.layouts._files import list_file, read_names, split_of
from vattn.data.layouts._rows import Row
from vattn.errors import UserError

#: The keys that name columns.
COLUMNS = ("label", "path", "splits", "group", "first", "last", "frames")
#: Words in the names of columns that may hold the ranges of clips.
_RANGE_WORDS = frozenset(("first", "last", "start", "begin", "end", "stop", "onset", "offset"))

_Text = Annotated[str, Field(min_length=1)]


class TableDataConfig(LayoutConfig, kind="table"):
    """A file with one row for each clip: its path below the root, its class as a name or a number, and its split.

    If classes are numbers, these are the labels: 0, 7 and 12, also written 7.0. If they are names, labels are in
    alphabetical order, or in the order of the file ``names``. In CSV, which is UTF-8 with commas, numbers with leading
    zeros are names: 007 and 100 are two classes. In Parquet, numbers in a column of text are names.
    """

    kind: Literal["table"] = "table"
    split: OneSplit = 1
    file: Annotated[_Text, Field(description="the table, .csv or .parquet; a path below the root or absolute")]
    path: Annotated[_Text, Field(description="column of the clips' paths below the root")] = "path"
    label: Annotated[_Text, Field(description="column of the clips' classes, as names or numbers")] = "label"
    splits: Annotated[
        _Text,
        Field(
            description="column of the splits train, val and test, by any usual name; if there is no column split, "
            "splits is read; none: all clips are for training"
        ),
    ] = "split"
    group: Annotated[
        _Text,
        Field(
            json_schema_extra=LATER,
            description="column of what the clips were cut from, such as a recording or a person: the clips of a group "
            "are held out together, and groups in two splits are named; none: each file is a group",
        ),
    ] = "none"
    first: Annotated[
        _Text,
        Field(
            description="column of the clips' first frames; auto: the column first, if there is one; none: clips begin "
            "with their files"
        ),
    ] = "auto"
    last: Annotated[
        _Text,
        Field(
            description="column of the clips' last frames, inclusive; auto: the column last, if there is one; none: "
            "clips end with their files"
        ),
    ] = "auto"
    frames: Annotated[
        _Text,
        Field(
            json_schema_extra=LATER,
            description="column of the numbers of frames of whole files, which are compared with the files; auto: the "
            "column frames, if there is one; none: they are not compared",
        ),
    ] = "auto"
    names: Annotated[
        _Text, Field(description="file of the names of the classes, one a line; none: as they stand in the table")
    ] = "none"

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the classes from the file ``names``, or from the column of classes."""
        table = self._read(root)
        labels, _ = labels_of(table.path, self._cells(table, "label"), table.is_text)
        return read_names(root, self.names) if self.names != "none" else class_names(table.path, labels)

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the table; raise UserError if a column is missing."""
        table = self._read(root)
        cells = {key: self._cells(table, key) for key in COLUMNS}
        classes, problems = labels_of(table.path, cells["label"], table.is_text)
        numbers = {name: number for number, name in enumerate(labels)}
        problems |= table.malformed
        rows = zip(table.places, classes, *(cells[key] for key in COLUMNS[1:]), strict=True)
        for at, (place, label, path, split, group, *frames) in enumerate(rows):
            row = _row(place, path, label, split, frames, numbers, problems.get(at, ""))
            yield row if group is None else row._replace(group=str(group).strip())

    def remarks(self, root: Path) -> list[str]:
        """Name the columns that may hold ranges of frames, if the spec does not say what is to become of them."""
        header = read_header(list_file(root, self.file, "file"))
        used = {self._column_of(header, key) for key in COLUMNS}
        if (self.first, self.last) != ("auto", "auto"):
            return []
        ranges = [name for name in header if name not in used and not _RANGE_WORDS.isdisjoint(_words(name))]
        if not ranges:
            return []
        return [
            f"columns {', '.join(ranges)} are not used, and clips are whole files; if they hold numbers of frames, "
            "name them by data.first and data.last; if not, write first: none"
        ]

    def canonical(self) -> Self:
        """Return the same data in canonical form: of absolute paths to files only the file name counts.

        What a table holds is no part of it, and so neither is whether it has a column that auto reads.
        """
        update = {key: Path(getattr(self, key)).name for key in ("file", "names") if getattr(self, key).startswith("/")}
        update |= {key: "none" for key in ("first", "last") if getattr(self, key) == "auto"}
        return super().canonical().model_copy(update=update)

    def _read(self, root: Path) -> Table:
        """Read the table; raise UserError if it lacks a column."""
        table = read_table(list_file(root, self.file, "file"))
        for key in COLUMNS:
            self._column(table, key)
        return table

    def _cells(self, table: Table, key: str) -> list[Cell]:
        name = self._column(table, key)
        return [None] * len(table.places) if name is None else table.column(name)

    def _column(self, table: Table, key: str) -> str | None:
        """Return the name of a key's column; None: there is none."""
        name, header = self._column_of(table.header, key), table.header
        if name is None:
            return None
        if name not in header:
            raise UserError(
                f"{table.path} has no such column",
                path=f"data.{key}",
                way_out=f"name one of {', '.join(header)}{', or none' if key == 'splits' else ''}",
                found=name,
            )
        if header.count(name) > 1:
            raise UserError(
                f"{table.path} has {header.count(name)} columns of this name",
                path=f"data.{key}",
                way_out="rename one of them",
                found=name,
            )
        return name

    def _column_of(self, header: Sequence[str], key: str) -> str | None:
        """Return the name of a key's column, which the header need not have; None: there is none."""
        name: str = getattr(self, key)
        if name == "auto":
            alike = [column for column in header if column.strip().casefold() == key]
            name = key if key in alike else next(iter(alike), "none")
        if name == "split" and name not in header and "splits" in header:
            name = "splits"
        return None if name == "none" else name


def _words(name: str) -> list[str]:
    """Return the words of a column's name, such as start_frame or StartFrame, in small letters."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).casefold().split()


def _row(
    place: str,
    path: Cell,
    label: int | str | None,
    split: Cell,
    frames: Sequence[Cell],
    numbers: dict[str, int],
    problem: str,
) -> Row:
    name = "train" if split is None else str(split).strip()
    known = split_of(name)
    number = numbers.get(label, -1) if isinstance(label, str) else -1 if label is None else label
    clip = str(path).rstrip("/") if path is not None else ""
    first, last, count, wrong_frames = frame_range(*frames)
    if not problem and (not clip or label is None):
        problem = "has no path or no label"
    elif not problem and known is None:
        problem = f"unknown split: {name}"
    elif not problem and isinstance(label, str) and number < 0:
        problem = f"unknown label: {label}"
    return Row(clip, number, known or "", place, problem or wrong_frames, first, last, frames=count)

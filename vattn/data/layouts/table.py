"""A table of clips: CSV or Parquet, with columns of any names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from pydantic import Field

from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import list_file, read_names
from vattn.data.layouts._rows import Row
from vattn.errors import UserError

SPLITS = ("train", "val", "test")

_Text = Annotated[str, Field(min_length=1)]


class TableDataConfig(LayoutConfig, kind="table"):
    """A file with one row for each clip: its path below the root, its class as a name or a number, and its split.

    If classes are numbers, these are the labels. If they are names, labels are in alphabetical order, or in the order
    of the file ``names``.
    """

    kind: Literal["table"] = "table"
    split: OneSplit = 1
    file: Annotated[_Text, Field(description="the table, .csv or .parquet; a path below the root or absolute")]
    path: Annotated[_Text, Field(description="column of the clips' paths below the root")] = "path"
    label: Annotated[_Text, Field(description="column of the clips' classes, as names or numbers")] = "label"
    splits: Annotated[
        _Text, Field(description="column of the splits train, val and test; none: all clips are for training")
    ] = "split"
    first: Annotated[
        _Text, Field(description="column of the clips' first frames; none: clips begin with their files")
    ] = "none"
    last: Annotated[
        _Text, Field(description="column of the clips' last frames, inclusive; none: clips end with their files")
    ] = "none"
    names: Annotated[
        _Text, Field(description="file of the names of the classes, one a line; none: as they stand in the table")
    ] = "none"

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the classes from the file ``names``, or from the column of classes."""
        if self.names != "none":
            return read_names(root, self.names)
        path, table = self._read(root)
        classes = {label for label in self._values(path, table, "label") if label is not None}
        if not classes:
            raise UserError(f"column {self.label} of {path} is empty", path="data.label", way_out="name another column")
        if all(isinstance(label, int) for label in classes):
            return tuple(map(str, range(max(classes) + 1)))
        return tuple(sorted(map(str, classes)))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the table; raise UserError if a column is missing."""
        path, table = self._read(root)
        columns = [self._values(path, table, key) for key in ("path", "label", "splits", "first", "last")]
        numbers = {name: number for number, name in enumerate(labels)}
        return (_row(path, place, row, numbers) for place, row in enumerate(zip(*columns, strict=True)))

    def canonical(self) -> Self:
        """Return the same data in canonical form: of absolute paths to files only the file name counts."""
        files = {key: Path(getattr(self, key)).name for key in ("file", "names") if getattr(self, key).startswith("/")}
        return super().canonical().model_copy(update=files)

    def _read(self, root: Path) -> tuple[Path, pa.Table]:
        path = list_file(root, self.file, "file")
        return path, _read(path)

    def _values(self, path: Path, table: pa.Table, key: str) -> list[Any]:
        name: str = getattr(self, key)
        if name == "none":
            return [None] * len(table)
        if name not in table.column_names:
            raise UserError(
                f"{path} has no such column",
                path=f"data.{key}",
                way_out=f"name one of {', '.join(table.column_names)}",
                found=name,
            )
        return table[name].to_pylist()


def _read(path: Path) -> pa.Table:
    readers = {".csv": pa_csv.read_csv, ".parquet": pa_parquet.read_table}
    if path.suffix.lower() not in readers:
        raise UserError("must be a .csv or a .parquet file", path="data.file", found=path.name)
    try:
        return readers[path.suffix.lower()](path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}", path="data.file") from error


def _row(path: Path, place: int, values: tuple[Any, ...], numbers: dict[str, int]) -> Row:
    clip, label, split, first, last = values
    split = "train" if split is None else str(split)
    number = label if isinstance(label, int) else numbers.get(str(label), -1)
    row = Row(str(clip), number, split, f"{path.name}[{place}]")
    if clip is None or label is None:
        return row._replace(problem="has no path or no label")
    if split not in SPLITS:
        return row._replace(problem=f"unknown split: {split}")
    if not isinstance(label, int) and row.label < 0:
        return row._replace(problem=f"unknown label: {label}")
    if not all(frame is None or isinstance(frame, int) for frame in (first, last)):
        return row._replace(problem=f"frames are no whole numbers: {first}, {last}")
    return row._replace(first=first, last=last)

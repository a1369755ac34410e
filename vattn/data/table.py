"""A table of clips: CSV or Parquet, with columns of any names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from pydantic import Field

from vattn.data._layout import LayoutConfig, Row
from vattn.data.lists import list_file, read_names

SPLITS = ("train", "val", "test")

Column = Annotated[str, Field(min_length=1, description="name of a column; none: there is no such column")]


class TableDataConfig(LayoutConfig, kind="table"):
    """A file with a row for each clip: its path below the root, its class as a name or a number, and its split.

    Numbers are labels as they stand; names are numbered in alphabetical order, or in that of ``names``.
    """

    kind: Literal["table"] = "table"
    split: Literal[1] = 1
    file: Annotated[str, Field(min_length=1, description=".csv or .parquet, below the root or absolute")]
    path: Column = "path"
    label: Column = "label"
    splits: Annotated[Column, Field(description="of train, val, test; none: all are for training")] = "split"
    first: Annotated[Column, Field(description="of first frames")] = "none"
    last: Annotated[Column, Field(description="of last frames, inclusive")] = "none"
    names: Annotated[str, Field(min_length=1, description="file of the classes' names, one a line, or none")] = "none"

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the classes' names, or what stands in the column of labels."""
        if self.names != "none":
            return read_names(root, self.names)
        path, table = self._read(root)
        given = {label for label in self._values(path, table, "label") if label is not None}
        if not given:
            raise ValueError(f"data.label: column {self.label} of {path} is empty; name another column")
        if all(isinstance(label, int) for label in given):
            return tuple(map(str, range(max(given) + 1)))
        return tuple(sorted(map(str, given)))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the table; raises ValueError where a column is missing."""
        path, table = self._read(root)
        columns = [self._values(path, table, key) for key in ("path", "label", "splits", "first", "last")]
        numbers = {name: number for number, name in enumerate(labels)}
        return (_row(path, place, row, numbers) for place, row in enumerate(zip(*columns, strict=True)))

    def canonical(self) -> Self:
        """Return the same data in its one form; of files that lie elsewhere the name remains."""
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
            raise ValueError(
                f"data.{key}: {path} has no such column; name one of {', '.join(table.column_names)} (got {name})"
            )
        return table[name].to_pylist()


def _read(path: Path) -> pa.Table:
    readers = {".csv": pa_csv.read_csv, ".parquet": pa_parquet.read_table}
    if path.suffix.lower() not in readers:
        raise ValueError(f"data.file: must be a .csv or a .parquet file (got {path.name})")
    try:
        return readers[path.suffix.lower()](path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"data.file: {path}: cannot be read: {error}") from error


def _row(path: Path, place: int, row: tuple[Any, ...], numbers: dict[str, int]) -> Row:
    clip, label, split, first, last = row
    where = f"{path.name}[{place}]"
    split = "train" if split is None else str(split)
    read = Row(str(clip), label if isinstance(label, int) else numbers.get(str(label), -1), split, where)
    if clip is None or label is None:
        return read._replace(fault="has no path or no label")
    if split not in SPLITS:
        return read._replace(fault=f"unknown split: {split}")
    if not isinstance(label, int) and read.label < 0:
        return read._replace(fault=f"unknown label: {label}")
    if not all(number is None or isinstance(number, int) for number in (first, last)):
        return read._replace(fault=f"frames are no whole numbers: {first}, {last}")
    return read._replace(first=first, last=last)

"""Plain lists, one a split, in the forms that the code of TSN and its successors reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from vattn.data._layout import LayoutConfig, Row, find, read_lines

SPLITS = ("train", "val", "test")
FORMS = "path label, path frames label, or folder first frames label"

ListFile = Annotated[str, Field(min_length=1, description="a path below the root, or an absolute one")]


class ListDataConfig(LayoutConfig, kind="list"):
    """A file for each split, whose lines are ``path label``, ``path frames label`` or ``folder first frames label``.

    Paths are below the root; columns are separated by tabs, else by blanks. Frames in folders are counted from 1.
    """

    kind: Literal["list"] = "list"
    split: Literal[1] = 1
    train: ListFile = "train.txt"
    val: Annotated[ListFile, Field(description="none: some of train")] = "val.txt"
    test: ListFile = "none"
    names: Annotated[ListFile, Field(description="names of the classes, one a line; none: their numbers")] = "none"

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names; without any there are as many classes as the largest label says."""
        if self.names != "none":
            return read_names(root, self.names)
        ends = (line.split()[-1] for split in SPLITS for _, line in self._lines(root, split))
        largest = max((int(label) for label in ends if label.isdecimal()), default=-1)
        if largest < 0:
            raise ValueError(f"data.train: {root / self.train}: lists no clip with a label; lines are {FORMS}")
        return tuple(str(label) for label in range(largest + 1))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists."""
        for split in SPLITS:
            for where, line in self._lines(root, split):
                yield _row(where, line, split, root)

    def canonical(self) -> Self:
        """Return the same data in its one form; of lists that lie elsewhere the name remains."""
        files = {key: Path(getattr(self, key)).name for key in (*SPLITS, "names") if getattr(self, key).startswith("/")}
        return super().canonical().model_copy(update=files)

    def _lines(self, root: Path, split: str) -> Iterator[tuple[str, str]]:
        file = getattr(self, split)
        return iter(()) if file == "none" else read_lines(list_file(root, file, split))


def list_file(root: Path, file: str, key: str) -> Path:
    """Return where a list is that ``data.KEY`` names; raises ValueError where there is none."""
    try:
        return find(root, [str(Path(file).expanduser())], f"file {file}")
    except ValueError:
        raise ValueError(f"data.{key}: {root / file} does not exist; name a file below the root (got {file})") from None


def read_names(root: Path, file: str) -> tuple[str, ...]:
    """Return the names of classes that ``data.names`` names, one a line."""
    return tuple(line for _, line in read_lines(list_file(root, file, "names")))


def _row(where: str, line: str, split: str, root: Path) -> Row:
    path, *numbers = line.split("\t" if "\t" in line else None)
    if not 1 <= len(numbers) <= 3 or not all(number.isdecimal() for number in numbers):
        return Row(line, -1, split, where, f"is not {FORMS}")
    *frames, label = map(int, numbers)
    row = Row(path, label, split, where)
    if not frames or not (root / path).is_dir():
        return row
    first, count = frames if len(frames) == 2 else (1, frames[0])
    return row._replace(first=first, last=first + count - 1, fault="" if count else "has no frames")

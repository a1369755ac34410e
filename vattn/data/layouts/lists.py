"""Plain text lists, one for each split, in the forms that the code of TSN and its successors reads.

TSN: L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool: "Temporal Segment Networks: Towards Good
Practices for Deep Action Recognition", ECCV 2016, arXiv:1608.00859.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import list_file, read_lines, read_names
from vattn.data.layouts._rows import Row
from vattn.errors import UserError

SPLITS = ("train", "val", "test")
FORMS = "path label, path frames label, or folder first frames label"

_File = Annotated[str, Field(min_length=1)]


class ListDataConfig(LayoutConfig, kind="list"):
    """A file for each split, with lines ``path label``, ``path frames label`` or ``folder first frames label``.

    Paths are below the root. Columns are separated by tabs if there are any, otherwise by spaces. Images in folders are
    numbered from 1.
    """

    kind: Literal["list"] = "list"
    split: OneSplit = 1
    train: Annotated[_File, Field(description="list of the training clips; a path below the root or absolute")] = (
        "train.txt"
    )
    val: Annotated[_File, Field(description="list of the validation clips; none: some training clips are held out")] = (
        "val.txt"
    )
    test: Annotated[_File, Field(description="list of the test clips; none: there is no test split")] = "none"
    names: Annotated[
        _File, Field(description="file of the names of the classes, one a line; none: classes are named by number")
    ] = "none"

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the classes; without a file of names, the largest label gives the number of classes."""
        if self.names != "none":
            return read_names(root, self.names)
        ends = (line.split()[-1] for split in SPLITS for _, line in self._lines(root, split))
        largest = max((int(label) for label in ends if label.isdecimal()), default=-1)
        if largest < 0:
            raise UserError(
                f"{root / self.train}: lists no clip with a label", path="data.train", way_out=f"lines are {FORMS}"
            )
        return tuple(str(label) for label in range(largest + 1))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists."""
        for split in SPLITS:
            for place, line in self._lines(root, split):
                yield _row(place, line, split, root)

    def canonical(self) -> Self:
        """Return the same data in canonical form: of absolute paths to lists only the file name counts."""
        files = {key: Path(getattr(self, key)).name for key in (*SPLITS, "names") if getattr(self, key).startswith("/")}
        return super().canonical().model_copy(update=files)

    def _lines(self, root: Path, split: str) -> Iterator[tuple[str, str]]:
        file = getattr(self, split)
        return iter(()) if file == "none" else read_lines(list_file(root, file, split))


def _row(place: str, line: str, split: str, root: Path) -> Row:
    path, *numbers = line.split("\t" if "\t" in line else None)
    if not 1 <= len(numbers) <= 3 or not all(number.isdecimal() for number in numbers):
        return Row(line, -1, split, place, f"is not {FORMS}")
    *frames, label = map(int, numbers)
    row = Row(path, label, split, place)
    if not frames or not (root / path).is_dir():
        return row
    first, count = frames if len(frames) == 2 else (1, frames[0])
    return row._replace(first=first, last=first + count - 1, problem="" if count else "has no frames")

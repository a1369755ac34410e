"""Plain text lists, one for each split, in the forms that the code of TSN and its successors reads.

TSN: L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool: "Temporal Segment Networks: Towards Good
Practices for Deep Action Recognition", ECCV 2016, arXiv:1608.00859.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._classes import numbered
from vattn.data.layouts._files import list_file, read_lines, read_names, whole_number
from vattn.data.layouts._rows import Row
from vattn.errors import UserError

SPLITS = ("train", "val", "test")
FORMS = "path label, path frames label, or folder first frames label"

_File = Annotated[str, Field(min_length=1)]


class ListDataConfig(LayoutConfig, kind="list"):
    """A file for each split, with lines ``path label``, ``path frames label`` or ``folder first frames label``.

    Paths are below the root. Columns are separated by tabs if there are any, otherwise by spaces. ``path frames label``
    is the whole video, or the first images of a folder; ``first`` is the number of an image. The numbers of frames are
    compared with the files.
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
        labels = {
            numbers[-1]: place
            for split in SPLITS
            for place, line in self._lines(root, split)
            for _, numbers in [_columns(line)]
            if 1 <= len(numbers) <= 3 and numbers[-1] is not None
        }
        if not labels:
            _, line = next(self._lines(root, "train"), ("", ""))
            raise UserError(
                f"{root / self.train}: lists no clip with a label",
                path="data.train",
                way_out=f"lines are {FORMS}{_other_form(line)}",
                found=line,
            )
        return numbered(labels, "data.train")

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists."""
        for split in SPLITS:
            is_empty = getattr(self, split) != "none"
            for place, line in self._lines(root, split):
                is_empty = False
                yield _row(place, line, split, root)
            if is_empty:
                way_out = "list its clips" if split == "train" else f"list its clips, or write {split}: none"
                raise UserError(f"{root / getattr(self, split)}: is empty", path=f"data.{split}", way_out=way_out)

    def canonical(self) -> Self:
        """Return the same data in canonical form: of absolute paths to lists only the file name counts."""
        files = {key: Path(getattr(self, key)).name for key in (*SPLITS, "names") if getattr(self, key).startswith("/")}
        return super().canonical().model_copy(update=files)

    def _lines(self, root: Path, split: str) -> Iterator[tuple[str, str]]:
        file = getattr(self, split)
        return iter(()) if file == "none" else read_lines(list_file(root, file, split))


def _columns(line: str) -> tuple[str, list[int | None]]:
    """Return the path and the numbers of a line; a number is None where there is another text."""
    path, *numbers = line.split("\t" if "\t" in line else None)
    return path.rstrip("/"), [whole_number(number.strip()) for number in numbers]


def _row(place: str, line: str, split: str, root: Path) -> Row:
    path, numbers = _columns(line)
    frames = [number for number in numbers if number is not None]
    if len(frames) < len(numbers) or not frames:
        return Row(line, -1, split, place, f"is not {FORMS}{_other_form(line)}")
    if len(frames) > 3:
        return Row(line, -1, split, place, "several labels for a clip are not supported")
    label = frames.pop()
    row = Row(path, label, split, place)
    if not frames:
        return row
    # pathlib raises for names that are too long.
    is_folder = os.path.isdir(root / path)  # noqa: PTH112
    if len(frames) == 2:
        first, count = frames
        if not is_folder and os.path.exists(root / path):  # noqa: PTH110
            problem = (
                f"several labels for a clip, or a first frame of a video, are not supported: {first} {count} {label}"
            )
        elif count <= 1:
            problem = f"has no frames, or several labels, which are not supported: {first} {count} {label}"
        else:
            problem = ""
        return row._replace(first=first, last=first + count - 1, problem=problem)
    if not frames[0]:
        return row._replace(problem="has no frames")
    # Of a folder these are the first images, whatever their numbers are; two rows of it may share some of them.
    return row._replace(frames=frames[0], first=1 if is_folder else None, last=frames[0] if is_folder else None)


def _other_form(line: str) -> str:
    """Return what else a line may be, and the way out."""
    if "," in line:
        return "; separate columns by tabs, or take kind: table, which reads CSV"
    if ";" in line or "|" in line:
        return "; separate columns by tabs"
    return "; separate columns by tabs where paths have blanks" if "\t" not in line and len(line.split()) > 4 else ""

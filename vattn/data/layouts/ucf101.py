"""UCF101.

K. Soomro, A. R. Zamir, M. Shah: "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild", 2012,
arXiv:1212.0402.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from vattn.data.layouts._base import LayoutConfig
from vattn.data.layouts._files import find, read_lines
from vattn.data.layouts._rows import Row
from vattn.errors import UserError

LISTS = "ucfTrainTestlist"


class UCF101DataConfig(LayoutConfig, kind="ucf101"):
    """``{classInd,trainlist0N,testlist0N}.txt`` in the root or its ``ucfTrainTestlist``, with N = ``split``.

    Videos are at ``CLASS/v_CLASS_gNN_cNN.avi`` in the root or its ``UCF-101``. Of each class, some groups (gNN: clips
    of one scene) of the training list are held out for validation.
    """

    kind: Literal["ucf101"] = "ucf101"
    split: Annotated[
        Literal[1, 2, 3, "all"],
        Field(description="number of the owners' train/test split; all: train on each, and report the mean"),
    ] = 1

    def source_of(self, path: str) -> str:
        """Return the class and group of a video: its name without the number of the clip."""
        return PurePosixPath(path).stem.rpartition("_")[0]

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read classInd, which numbers the classes from 1."""
        names: list[str] = []
        for place, line in read_lines(_list(root, "classInd")):
            number, _, name = " ".join(line.split()).partition(" ")
            if number != str(len(names) + 1):
                raise UserError(f"{place}: must number classes 1, 2, ... in order", path="data.root", found=line)
            names.append(name)
        return tuple(names)

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the two lists of the split."""
        numbers = {name: number for number, name in enumerate(labels)}
        parent = "UCF-101/" if (root / "UCF-101").is_dir() else ""
        for split in ("train", "test"):
            for place, line in read_lines(_list(root, f"{split}list0{self.split}")):
                path, _, number = " ".join(line.split()).partition(" ")
                label = numbers.get(path.partition("/")[0], -1)
                problem = "" if label >= 0 else f"unknown class: {path.partition('/')[0]}"
                if number and number != str(label + 1):
                    problem = f"label is not that of its folder: {number}"
                yield Row(parent + path, label, split, place, problem)


def _list(root: Path, name: str) -> Path:
    return find(root, [f"{name}.txt", f"{LISTS}/{name}.txt"], f"list {name}")

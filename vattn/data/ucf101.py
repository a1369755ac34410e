"""UCF101 (Soomro et al., 2012, arXiv:1212.0402)."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from vattn.data._layout import LayoutConfig, Row, find, read_lines

LISTS = "ucfTrainTestlist"


class UCF101DataConfig(LayoutConfig, kind="ucf101"):
    """``{classInd,trainlist0N,testlist0N}.txt`` in the root or its ``ucfTrainTestlist``, N being the split.

    Videos are ``CLASS/v_CLASS_gNN_cNN.avi`` in the root or below ``UCF-101`` there. Of each class some groups (gNN: one
    scene, filmed at once) of the training list are kept for validation.
    """

    kind: Literal["ucf101"] = "ucf101"
    split: Annotated[
        Literal[1, 2, 3, "all"], Field(description="which of the three pairs of lists; all: the mean of them")
    ] = 1

    def source_of(self, path: str) -> str:
        """Return the class and group of a video: its name without the number of the clip."""
        return PurePosixPath(path).stem.rpartition("_")[0]

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read classInd, which numbers the classes from 1."""
        names: list[str] = []
        for where, line in read_lines(_list(root, "classInd")):
            number, _, name = line.partition(" ")
            if number != str(len(names) + 1):
                raise ValueError(f"data.root: {where}: must number classes 1, 2, ... in order (got {line})")
            names.append(name)
        return tuple(names)

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the two lists of the split."""
        numbers = {name: number for number, name in enumerate(labels)}
        below = "UCF-101/" if (root / "UCF-101").is_dir() else ""
        for split in ("train", "test"):
            for where, line in read_lines(_list(root, f"{split}list0{self.split}")):
                path, _, number = line.partition(" ")
                label = numbers.get(path.partition("/")[0], -1)
                fault = "" if label >= 0 else f"unknown class: {path.partition('/')[0]}"
                if number and number != str(label + 1):
                    fault = f"label is not that of its folder: {number}"
                yield Row(below + path, label, split, where, fault)


def _list(root: Path, name: str) -> Path:
    return find(root, [f"{name}.txt", f"{LISTS}/{name}.txt"], f"list {name}")

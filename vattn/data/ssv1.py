"""Something-Something V1 (Goyal et al., ICCV 2017, arXiv:1706.04261): folders of frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vattn.data._layout import LayoutConfig, Row, find, read_lines

NAME = "something-something-v1"


class SSV1DataConfig(LayoutConfig, kind="ssv1"):
    """``something-something-v1-{labels,train,validation}.csv`` in the root, frames in ``.../{id}/{:05d}.jpg``.

    The folders of frames stand in the root, or below ``20bn-something-something-v1`` there. A label's number is its
    line in the labels file. The test split has no labels, and no part in this.
    """

    kind: Literal["ssv1"] = "ssv1"
    split: Literal[1] = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the labels file."""
        return tuple(line for _, line in read_lines(find(root, [f"{NAME}-labels.csv"], "list of labels")))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists of training and validation; lines are ``id;label``."""
        numbers = {name: number for number, name in enumerate(labels)}
        below = f"20bn-{NAME}/" if (root / f"20bn-{NAME}").is_dir() else ""
        for split, name in (("train", "train"), ("val", "validation")):
            for where, line in read_lines(find(root, [f"{NAME}-{name}.csv"], f"list of the {name} split")):
                number, _, label = line.partition(";")
                fault = "" if label in numbers else f"unknown label: {label}"
                yield Row(below + number, numbers.get(label, -1), split, where, fault, first=1)

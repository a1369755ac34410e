"""Something-Something V1, which is published as folders of images.

R. Goyal, S. Ebrahimi Kahou, V. Michalski, J. Materzynska, S. Westphal, H. Kim, V. Haenel, I. Fruend, P. Yianilos,
M. Mueller-Freitag, F. Hoppe, C. Thurau, I. Bax, R. Memisevic: "The 'Something Something' Video Database for Learning
and Evaluating Visual Common Sense", ICCV 2017, arXiv:1706.04261.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import find, read_lines
from vattn.data.layouts._rows import Row

NAME = "something-something-v1"


class SSV1DataConfig(LayoutConfig, kind="ssv1"):
    """``something-something-v1-{labels,train,validation}.csv`` in the root, images at ``.../{id}/{:05d}.jpg``.

    The folders of images are in the root or its ``20bn-something-something-v1``. The label of a class is its line in
    the labels file, counted from 0. The owners' test split has no labels and is not used.
    """

    kind: Literal["ssv1"] = "ssv1"
    split: OneSplit = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the labels file."""
        return tuple(line for _, line in read_lines(find(root, [f"{NAME}-labels.csv"], "list of labels")))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists of training and validation, whose lines are ``id;label``."""
        numbers = {name: number for number, name in enumerate(labels)}
        parent = f"20bn-{NAME}/" if (root / f"20bn-{NAME}").is_dir() else ""
        for split, name in (("train", "train"), ("val", "validation")):
            for place, line in read_lines(find(root, [f"{NAME}-{name}.csv"], f"list of the {name} split")):
                clip, _, label = line.partition(";")
                problem = "" if label in numbers else f"unknown label: {label}"
                yield Row(parent + clip, numbers.get(label, -1), split, place, problem, first=1)

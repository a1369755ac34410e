"""HMDB51.

H. Kuehne, H. Jhuang, E. Garrote, T. Poggio, T. Serre: "HMDB: A Large Video Database for Human Motion Recognition",
ICCV 2011.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from vattn.data.layouts._base import LayoutConfig
from vattn.data.layouts._files import lists_below, read_lines
from vattn.data.layouts._rows import Row
from vattn.errors import UserError

#: Meaning of the numbers in the lists; 0 is a clip that the split does not use.
SPLITS = {"1": "train", "2": "test"}


class HMDB51DataConfig(LayoutConfig, kind="hmdb51"):
    """``CLASS_test_splitN.txt`` in the root or its ``testTrainMulti_7030_splits``, with N = ``split``.

    Videos are at ``CLASS/NAME.avi`` in the root or its ``hmdb51_org``. Labels are the classes in alphabetical order. Of
    each class, the training clips of some films are held out for validation.
    """

    kind: Literal["hmdb51"] = "hmdb51"
    split: Annotated[
        Literal[1, 2, 3, "all"],
        Field(description="number of the owners' train/test split; all: train on each, and report the mean"),
    ] = 1

    def source_of(self, path: str) -> str:
        """Return the film of a clip, the first part of ``FILM_CLASS_VISIBLE_CAMERA_NUMBER_VIEW_QUALITY_N.avi``."""
        clip = PurePosixPath(path)
        return clip.stem.partition(f"_{clip.parent.name}_")[0]

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the classes from the names of the lists: there is one list for each class."""
        return tuple(sorted(self._lists(root)))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists."""
        parent = "hmdb51_org/" if (root / "hmdb51_org").is_dir() else ""
        for name, path in self._lists(root).items():
            for place, line in read_lines(path):
                match = re.fullmatch(r"(.+?)\s+([012])", line)
                if match is None:
                    yield Row(line, labels.index(name), "", place, "is not NAME 0, 1 or 2")
                elif match[2] in SPLITS:
                    yield Row(f"{parent}{name}/{match[1]}", labels.index(name), SPLITS[match[2]], place)

    def _lists(self, root: Path) -> dict[str, Path]:
        """Return the list of each class."""
        ending = f"_test_split{self.each_split()[0].split}.txt"
        for folder in (root / "testTrainMulti_7030_splits", root):
            if lists := lists_below(folder, f"*{ending}"):
                return {path.name.removesuffix(ending): path for path in lists}
        raise UserError(
            f"{root}: has no lists *{ending}", path="data.root", way_out="put testTrainMulti_7030_splits there"
        )

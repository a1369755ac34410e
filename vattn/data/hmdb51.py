"""HMDB51 (Kuehne et al., ICCV 2011)."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from vattn.data._layout import LayoutConfig, Row, read_lines

#: The lists' numbers; 0 is a clip that the split does not use.
SPLITS = {"1": "train", "2": "test"}


class HMDB51DataConfig(LayoutConfig, kind="hmdb51"):
    """``CLASS_test_splitN.txt`` in the root or its ``testTrainMulti_7030_splits``, N being the split.

    Videos are ``CLASS/NAME.avi`` in the root or below ``hmdb51_org`` there. Labels are in alphabetical order. Of each
    class some of the films that training clips were cut from are kept for validation.
    """

    kind: Literal["hmdb51"] = "hmdb51"
    split: Annotated[
        Literal[1, 2, 3, "all"], Field(description="which of the three sets of lists; all: the mean of them")
    ] = 1

    def source_of(self, path: str) -> str:
        """Return the film of a clip: ``FILM_CLASS_VISIBLE_CAMERA_NUMBER_VIEW_QUALITY_N.avi`` without the rest."""
        name = PurePosixPath(path)
        return name.stem.partition(f"_{name.parent.name}_")[0]

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the lists, of which each class has one."""
        return tuple(sorted(self._lists(root)))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists."""
        below = "hmdb51_org/" if (root / "hmdb51_org").is_dir() else ""
        for name, path in self._lists(root).items():
            for where, line in read_lines(path):
                match = re.fullmatch(r"(.+?)\s+([012])", line)
                if match is None:
                    yield Row(line, labels.index(name), "", where, "is not NAME 0, 1 or 2")
                elif match[2] in SPLITS:
                    yield Row(f"{below}{name}/{match[1]}", labels.index(name), SPLITS[match[2]], where)

    def _lists(self, root: Path) -> dict[str, Path]:
        """Return the list of each class."""
        ending = f"_test_split{self.each_split()[0].split}.txt"
        for folder in (root / "testTrainMulti_7030_splits", root):
            if lists := sorted(folder.glob(f"*{ending}")):
                return {path.name.removesuffix(ending): path for path in lists}
        raise ValueError(f"data.root: {root}: has no lists *{ending}; put testTrainMulti_7030_splits there")

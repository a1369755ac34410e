"""THUMOS14: actions in untrimmed videos.

* Y.-G. Jiang, J. Liu, A. R. Zamir, G. Toderici, I. Laptev, M. Shah, R. Sukthankar: "THUMOS Challenge: Action
  Recognition with a Large Number of Classes", 2014.
* H. Idrees, A. R. Zamir, Y.-G. Jiang, A. Gorban, I. Laptev, R. Sukthankar, M. Shah: "The THUMOS Challenge on Action
  Recognition for Videos 'in the Wild'", Computer Vision and Image Understanding, 2017, arXiv:1604.06182.
"""

import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from vattn.data.decode import UnreadableFileError, frame_rate
from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import read_lines, videos_by_stem
from vattn.data.layouts._rows import Row
from vattn.errors import UserError

#: The split for each name that the owners use. Their validation videos are for training, because their training videos
#: are trimmed.
SPLITS = {"val": "train", "test": "test"}
#: List of segments whose class is uncertain.
AMBIGUOUS = "Ambiguous"
#: A class whose segments are also in the list of a more general class.
SPECIAL = "CliffDiving"
GENERAL = "Diving"


class THUMOS14DataConfig(LayoutConfig, kind="thumos14"):
    """``CLASS_{val,test}.txt`` in ``annotation`` (or the root), ``video_{validation,test}_NNNNNNN.mp4`` anywhere.

    A clip is a segment, a line ``VIDEO START END`` with times in seconds: from the frame shown at its start to the last
    frame before its end, by the file's mean frame rate. The owners' validation videos are for training, and some of
    them are held out for validation. Cliff diving is listed as diving too and counts only as cliff diving here.
    Ambiguous segments are left out.
    """

    kind: Literal["thumos14"] = "thumos14"
    split: OneSplit = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the classes from the names of the lists."""
        return tuple(sorted({name for name, _, _ in _lists(root)}))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists, find the videos, and read their frame rates."""
        numbers, files = {name: number for number, name in enumerate(labels)}, videos_by_stem(root)
        rate = cache(_rate)
        lines = [line for entry in _lists(root) for line in _segments(*entry)]
        special = {line.segment for line in lines if line.name == SPECIAL}
        for line in lines:
            if line.name == GENERAL and line.segment in special:
                continue
            match = re.fullmatch(r"(\S+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)", line.segment)
            row = Row(line.segment, numbers[line.name], line.split, line.place)
            if match is None:
                yield row._replace(problem="is not VIDEO SECONDS SECONDS")
                continue
            start, end = float(match[2]), float(match[3])
            paths = files.get(match[1], [])
            if len(paths) != 1:
                problem = f"several files: {', '.join(paths)}" if paths else "missing file"
                yield row._replace(path=match[1], problem=problem)
            elif end <= start:
                yield row._replace(path=paths[0], problem=f"ends before it starts: {line.segment}")
            else:
                frames_per_second, problem = rate(root / paths[0])
                first = int(start * frames_per_second)
                last = max(math.ceil(end * frames_per_second) - 1, first)
                yield row._replace(path=paths[0], problem=problem, first=first, last=last, seconds=end - start)


class _Line(NamedTuple):
    name: str
    """class"""
    split: str
    place: str
    """file and number of the line"""
    segment: str
    """the line's text"""


def _segments(name: str, split: str, path: Path) -> Iterator[_Line]:
    for place, line in read_lines(path):
        yield _Line(name, split, place, " ".join(line.split()))


def _lists(root: Path) -> list[tuple[str, str, Path]]:
    """Return (class, split, path) of each list."""
    for folder in (root / "annotation", root):
        lists = [
            (name, SPLITS[split], path)
            for path in sorted(folder.glob("*_*.txt"))
            for name, _, split in [path.stem.rpartition("_")]
            if split in SPLITS and name != AMBIGUOUS
        ]
        if lists:
            return lists
    raise UserError(
        f"{root}: has no lists CLASS_val.txt and CLASS_test.txt",
        path="data.root",
        way_out="put them in its annotation folder",
    )


def _rate(path: Path) -> tuple[float, str]:
    """Return the frames per second of a video, or 0 and the reason why they are unknown."""
    try:
        return frame_rate(path), ""
    except UnreadableFileError as error:
        return 0.0, f"cannot be read: {error}"

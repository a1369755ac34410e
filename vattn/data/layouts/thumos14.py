"""THUMOS14: actions in untrimmed videos.

* Y.-G. Jiang, J. Liu, A. R. Zamir, G. Toderici, I. Laptev, M. Shah, R. Sukthankar: "THUMOS Challenge: Action
  Recognition with a Large Number of Classes", 2014.
* H. Idrees, A. R. Zamir, Y.-G. Jiang, A. Gorban, I. Laptev, R. Sukthankar, M. Shah: "The THUMOS Challenge on Action
  Recognition for Videos 'in the Wild'", Computer Vision and Image Understanding, 2017, arXiv:1604.06182.
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from vattn.base import LATER
from vattn.data.decode import Timing, UnreadableFileError, timing
from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import lists_below, read_lines, videos_by_stem
from vattn.data.layouts._rows import Row
from vattn.data.layouts._segments import AMBIGUOUS, Segment, annotated, video_rows
from vattn.data.untrimmed import Annotations, Metric, Rate
from vattn.errors import UserError

#: The split for each name that the owners use. Their validation videos are for training, because their training videos
#: are trimmed.
SPLITS = {"val": "train", "test": "test"}
#: A class whose segments are also in the list of a more general class.
SPECIAL = "CliffDiving"
GENERAL = "Diving"
#: A line of a list: video, first and last second.
_SEGMENT = re.compile(r"(\S+)\s+([0-9]{1,9}(?:\.[0-9]{1,9})?)\s+([0-9]{1,9}(?:\.[0-9]{1,9})?)")


class THUMOS14DataConfig(LayoutConfig, kind="thumos14"):
    """``CLASS_{val,test}.txt`` in ``annotation`` (or the root), ``video_{validation,test}_NNNNNNN.mp4`` anywhere.

    A clip is a segment, a line ``VIDEO START END`` with times in seconds after the first frame: from the frame shown at
    its start to the last frame before its end, by the presentation timestamps if the file's frame rate varies. The
    owners' validation videos are for training, and some of them are held out for validation. Cliff diving is listed as
    diving too and counts only as cliff diving here. Ambiguous segments are left out.

    With ``untrimmed``, for temporal detection, whole videos are stored. All segments count then, cliff diving as diving
    too, and detections of ambiguous segments are neither right nor wrong.
    """

    kind: Literal["thumos14"] = "thumos14"
    split: OneSplit = 1
    untrimmed: bool = Field(
        False, json_schema_extra=LATER, description="whole videos with the times of their actions, for task detection"
    )
    fps: Rate = Field(25.0, json_schema_extra=LATER)
    metric: Metric = Field("thumos14", json_schema_extra=LATER)

    @property
    def is_untrimmed(self) -> bool:
        """Whether its clips are whole videos."""
        return self.untrimmed

    @property
    def detection(self) -> tuple[float, Metric]:
        """Frames per second that a detector sees, and the rule of the average precision."""
        return self.fps, self.metric

    def annotations(self, paths: Sequence[str]) -> Annotations:
        """Return the actions of each video, and its ambiguous segments."""
        return annotated(paths, _untrimmed(Path(self.root)), self.labels())

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the classes from the names of the lists."""
        return tuple(sorted({name for name, _, _ in _lists(root)}))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists, find the videos, and read when their frames are shown."""
        if self.untrimmed:
            yield from video_rows(_untrimmed(root), videos_by_stem(root))
            return
        numbers, files = {name: number for number, name in enumerate(labels)}, videos_by_stem(root)
        timing_of = cache(_timing)
        lines = [line for entry in _lists(root) for line in _segments(*entry)]
        special = {line.segment for line in lines if line.name == SPECIAL}
        for line in lines:
            if line.name == GENERAL and line.segment in special:
                continue
            match = _SEGMENT.fullmatch(line.segment)
            row = Row(line.segment, numbers[line.name], line.split, line.place)
            if match is None:
                yield row._replace(problem="is not VIDEO SECONDS SECONDS")
                continue
            start, end = Fraction(match[2]), Fraction(match[3])
            paths = files.get(match[1], [])
            if len(paths) != 1:
                problem = f"several files: {', '.join(paths)}" if paths else "missing file"
                yield row._replace(path=match[1], problem=problem)
                continue
            row = row._replace(path=paths[0])
            if end <= start:
                yield row._replace(problem=f"ends before it starts: {line.segment}")
                continue
            shown = timing_of(root / paths[0])
            if isinstance(shown, str):
                yield row._replace(problem=f"cannot be read: {shown}")
                continue
            first, last = shown.span(start, end)
            problem = f"starts after the end of its video: {line.segment}" if first >= shown.frames else ""
            yield row._replace(problem=problem, first=first, last=last, seconds=float(end - start))


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


def _untrimmed(root: Path) -> Iterator[Segment]:
    """Yield all segments of the lists, ambiguous ones too, class by class."""
    for entry in _lists(root, ambiguous=True):
        for line in _segments(*entry):
            video, start, end = (*line.segment.split(), "", "", "")[:3]
            yield Segment(video, line.split, start, end, line.name, line.place)


def _lists(root: Path, ambiguous: bool = False) -> list[tuple[str, str, Path]]:
    """Return (class, split, path) of each list, ``ambiguous``: also of those of uncertain segments."""
    for folder in (root / "annotation", root):
        lists = [
            (name, SPLITS[split], path)
            for path in lists_below(folder, "*_*.txt")
            for name, _, split in [path.stem.rpartition("_")]
            if split in SPLITS and (ambiguous or name != AMBIGUOUS)
        ]
        if lists:
            return lists
    raise UserError(
        f"{root}: has no lists CLASS_val.txt and CLASS_test.txt",
        path="data.root",
        way_out="put them in its annotation folder",
    )


def _timing(path: Path) -> Timing | str:
    """Return when the frames of a video are shown, or the reason why that is unknown."""
    try:
        return timing(path)
    except UnreadableFileError as error:
        return str(error)

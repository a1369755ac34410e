"""THUMOS14 (Jiang et al., 2014; Idrees et al., CVIU 2017, arXiv:1604.06182): actions in untrimmed videos."""

import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from vattn.data._layout import LayoutConfig, Row, read_lines, videos_by_stem

#: The owners' names of the splits, and ours: the set has no other untrimmed videos to train on.
SPLITS = {"val": "train", "test": "test"}
#: Segments that are of no class for certain.
AMBIGUOUS = "Ambiguous"
#: A class whose segments stand in the list of another, more general one too.
SPECIAL, GENERAL = "CliffDiving", "Diving"


class THUMOS14DataConfig(LayoutConfig, kind="thumos14"):
    """``CLASS_{val,test}.txt`` in ``annotation`` (or the root), ``video_{validation,test}_NNNNNNN.mp4`` anywhere.

    A clip is a segment: ``VIDEO SECONDS SECONDS``, from the frame shown at its start to the last one before its end, by
    the file's mean frame rate. Training takes the owners' validation videos, of which some are kept for validation.
    Cliff diving is listed as diving too, and here is only the former; ambiguous segments are left out.
    """

    kind: Literal["thumos14"] = "thumos14"
    split: Literal[1] = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the lists, of which each class has two."""
        return tuple(sorted({name for name, _, _ in _lists(root)}))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists, look for the videos, and into them for their frame rates."""
        numbers, files = {name: number for number, name in enumerate(labels)}, videos_by_stem(root)
        rate = cache(_rate)
        listed = [line for entry in _lists(root) for line in _segments(*entry)]
        special = {line.segment for line in listed if line.name == SPECIAL}
        for line in listed:
            if line.name == GENERAL and line.segment in special:
                continue
            match = re.fullmatch(r"(\S+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)", line.segment)
            row = Row(line.segment, numbers[line.name], line.split, line.where)
            if match is None:
                yield row._replace(fault="is not VIDEO SECONDS SECONDS")
                continue
            start, end = float(match[2]), float(match[3])
            there = files.get(match[1], [])
            if len(there) != 1:
                fault = f"several files: {', '.join(there)}" if there else "missing file"
                yield row._replace(path=match[1], fault=fault)
            elif end <= start:
                yield row._replace(path=there[0], fault=f"ends before it starts: {line.segment}")
            else:
                frames, fault = rate(root / there[0])
                first = int(start * frames)
                last = max(math.ceil(end * frames) - 1, first)
                yield row._replace(path=there[0], fault=fault, first=first, last=last, seconds=end - start)


class _Line(NamedTuple):
    name: str
    split: str
    where: str
    segment: str


def _segments(name: str, split: str, path: Path) -> Iterator[_Line]:
    for where, line in read_lines(path):
        yield _Line(name, split, where, " ".join(line.split()))


def _lists(root: Path) -> list[tuple[str, str, Path]]:
    """Return class, split and place of each list."""
    for folder in (root / "annotation", root):
        lists = [
            (name, SPLITS[split], path)
            for path in sorted(folder.glob("*_*.txt"))
            for name, _, split in [path.stem.rpartition("_")]
            if split in SPLITS and name != AMBIGUOUS
        ]
        if lists:
            return lists
    raise ValueError(
        f"data.root: {root}: has no lists CLASS_val.txt and CLASS_test.txt; put them in its annotation folder"
    )


def _rate(path: Path) -> tuple[float, str]:
    """Return the frames a second of a video, or 0 and why they cannot be told."""
    from vattn.data.ingest import frame_rate

    try:
        return frame_rate(path), ""
    except ValueError as error:
        return 0.0, f"cannot be read: {error}"

"""Lists of actions in untrimmed videos: rows for the videos, and their actions."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from vattn.data.layouts._rows import Row
from vattn.data.names import clip_name
from vattn.data.untrimmed import EMPTY, Annotations, annotation

#: Class of segments whose class is uncertain.
AMBIGUOUS = "Ambiguous"


class Segment(NamedTuple):
    """One action of a list. Times are as written, seconds."""

    video: str
    """name of the video, with or without its suffix"""
    split: str
    start: str | float
    end: str | float
    name: str
    """its class"""
    place: str
    """file and line"""


def times_of(segment: Segment) -> tuple[float, float] | str:
    """Return start and end, or what is wrong with them, as in `Row.problem`."""
    try:
        start, end = float(segment.start), float(segment.end)
    except ValueError:
        return f"time that is no number: {segment.start}, {segment.end}"
    if not (math.isfinite(start) and math.isfinite(end)) or start < 0:
        return f"time out of range: {segment.start}, {segment.end}"
    return (start, end) if start < end else f"ends before it starts: {segment.start}, {segment.end}"


def video_rows(segments: Iterable[Segment], files: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Yield one row for each video and split, and one with the problem for each wrong segment.

    Args:
        segments: all segments of the lists.
        files: the videos by their names without suffix, as `videos_by_stem` returns them.
    """
    seen: set[tuple[str, str]] = set()
    for segment in segments:
        stem = _stem(segment.video)
        paths = files.get(stem, [])
        row = Row(paths[0] if len(paths) == 1 else segment.video, 0, segment.split, segment.place)
        if isinstance(problem := times_of(segment), str):
            yield row._replace(problem=problem)
        if (stem, segment.split) in seen:
            continue
        seen.add((stem, segment.split))
        if len(paths) != 1:
            row = row._replace(problem=f"several files: {', '.join(paths)}" if paths else "missing file")
        yield row


def annotated(paths: Iterable[str], segments: Iterable[Segment], labels: Sequence[str]) -> Annotations:
    """Return the actions of the videos at ``paths``; wrong segments are left out."""
    numbers = {name: number for number, name in enumerate(labels)}
    instances: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    ambiguous: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for segment in segments:
        if isinstance(times := times_of(segment), str):
            continue
        if segment.name == AMBIGUOUS:
            ambiguous[_stem(segment.video)].append(times)
        elif segment.name in numbers:
            instances[_stem(segment.video)].append((*times, numbers[segment.name]))
    stems = {path: _stem(path) for path in paths}
    return {
        path: annotation(instances[stem], ambiguous[stem]) if stem in instances or stem in ambiguous else EMPTY
        for path, stem in stems.items()
    }  # fmt: skip


def _stem(video: str) -> str:
    return clip_name(PurePosixPath(video).name)

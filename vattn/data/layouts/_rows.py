"""Rows of a data set's lists: how they are checked, and how a validation split is held out."""

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from vattn.errors import UserError

log = logging.getLogger(__name__)

#: Number of rows with problems that a message names.
NAMED = 20


class Row(NamedTuple):
    """One line of a list of clips."""

    path: str
    """below the root; a video, or a folder of images"""
    label: int
    """-1 if the line names none of the classes"""
    split: str
    source: str
    """where it is written: file and line"""
    problem: str = ""
    """what is wrong with the line itself: the kind of problem, a colon, and the value found"""
    first: int | None = None
    """first frame: the number in its file name, or counted from 0 in a video; None: the first that exists"""
    last: int | None = None
    """last frame, inclusive; None: the last that exists"""
    seconds: float | None = None
    """length of the clip, if the lists have it"""


def checked(rows: Sequence[Row], labels: Sequence[str], root: Path, max_problems: int) -> list[Row]:
    """Return the rows without problems, in their order; log the others.

    Problems are: a problem of the line itself, a label out of range, a missing file, a clip that is listed twice in a
    split, and a file of which two splits share frames. Of a clip listed twice the first row stays, of a file in two
    splits the row for evaluation.

    Args:
        rows: all rows of the lists.
        labels: names of the classes.
        root: folder of the files.
        max_problems: number of rows that may have problems.

    Raises:
        UserError: more rows have problems, or all rows have.
    """
    problems: list[tuple[str, str]] = []  # kind, and the whole message
    accepted: dict[str, list[Row]] = defaultdict(list)
    files = _Files(root)
    kept: list[int] = []
    # Evaluation first: of a file that is in both, the training row is left out.
    for place in sorted(range(len(rows)), key=lambda place: rows[place].split == "train"):
        row = rows[place]
        kind, details = _problem(row, labels, files, accepted)
        if kind:
            problems.append((kind, f"{row.source}: {row.path}: {kind}{details and ': ' + details}"))
        else:
            accepted[row.path].append(row)
            kept.append(place)
    if problems:
        _report(problems, len(rows), max_problems, root)
    if not kept:
        raise UserError(
            f"{root}: lists no file that exists", path="data.root", way_out="name the folder that the lists belong to"
        )
    return [rows[place] for place in sorted(kept)]


def hold_out(rows: Sequence[Row], share: float, source_of: Callable[[str], str]) -> list[Row]:
    """Return the rows with a ``share`` of each class's training sources moved to the split ``val``.

    The sources are chosen by the hashes of their names, so the same ones are chosen each time. ``source_of`` returns
    the source of a path: clips of one source are never in both splits.
    """
    sources: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        if row.split == "train":
            sources[row.label].add(source_of(row.path))
    held_out: set[tuple[int, str]] = set()
    for label, names in sources.items():
        shuffled = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        # Never all of them: the only source of a class is trained on.
        count = min(max(round(share * len(names)), 1), len(names) - 1)
        held_out |= {(label, name) for name in shuffled[:count]}
    return [
        row._replace(split="val") if row.split == "train" and (row.label, source_of(row.path)) in held_out else row
        for row in rows
    ]


def as_table(rows: Sequence[Row]) -> pa.Table:
    """Return the rows as a manifest, see `DataConfig.manifest`."""
    types = {
        "path": pa.string(), "label": pa.int32(), "split": pa.string(),
        "first": pa.int64(), "last": pa.int64(), "seconds": pa.float64(),
    }  # fmt: skip
    return pa.table({name: pa.array([getattr(row, name) for row in rows], type) for name, type in types.items()})


def _problem(row: Row, labels: Sequence[str], files: "_Files", accepted: Mapping[str, list[Row]]) -> tuple[str, str]:
    """Return the kind of a row's problem, and details; both empty if there is none."""
    if row.problem:
        kind, _, value = row.problem.partition(": ")
        return kind, value
    if not 0 <= row.label < len(labels):
        return "label out of range", f"{row.label}, of classes 0 to {len(labels) - 1}"
    if not files.exists(row.path):
        return "missing file", ""
    for earlier in accepted.get(row.path, ()):
        also = f"also {earlier.source}" + (f", as {labels[earlier.label]}" if earlier.label != row.label else "")
        if earlier.split == row.split and (earlier.first, earlier.last) == (row.first, row.last):
            return "listed twice", also
        if earlier.split != row.split and _share_frames(row, earlier):
            return f"in {row.split} and {earlier.split}", also
    return "", ""


def _share_frames(*rows: Row) -> bool:
    starts = [row.first or 0 for row in rows]
    ends = [float("inf") if row.last is None else row.last for row in rows]
    return max(starts) <= min(ends)


def _report(problems: Sequence[tuple[str, str]], num_rows: int, max_problems: int, root: Path) -> None:
    """Log the problems, or raise UserError if there are more than ``max_problems``."""
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(kind for kind, _ in problems).most_common())
    lines = [f"  {line}" for _, line in problems[:NAMED]]
    lines += [f"  and {len(problems) - NAMED} more"] if len(problems) > NAMED else []
    summary = f"{root}: {len(problems)} of {num_rows} rows have problems ({counts})"
    if len(problems) > max_problems:
        way_out = f"correct them, or leave them out with data.max_faults: {len(problems)} (got {max_problems})"
        raise UserError("\n".join([f"{summary}; {way_out}", *lines]), path="data.max_faults")
    log.warning("%s; they are left out\n%s", summary, "\n".join(lines))


class _Files:
    """The files below a root. Folders are listed once, which is faster than a look-up for each file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, frozenset[str]] = {}

    def exists(self, path: str) -> bool:
        folder, slash, name = path.rpartition("/")
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(self._root / (folder + slash)))  # noqa: PTH208
            except OSError:
                self._names[folder] = frozenset()
        return name in self._names[folder]

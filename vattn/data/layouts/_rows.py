"""Rows of a data set's lists: how they are checked, and how a validation split is held out."""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from vattn.data.faults import Problem, printable, report_listed, with_faults
from vattn.errors import UserError

#: Groups or files that a remark names.
NAMED = 5


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
    frames: int | None = None
    """number of frames, if the lists state it; with `first`, that is only assumed to be the first image of a folder"""
    group: str = ""
    """what the clip was cut from, such as a recording, if the lists state it; clips of one group look alike"""


def checked(
    rows: Sequence[Row], labels: Sequence[str], root: Path, max_faults: int | str
) -> tuple[list[Row], list[Problem]]:
    """Return the rows without problems, in their order, and the problems of the others, which are logged.

    Problems are: a problem of the line itself, a label out of range, a missing file, a clip that is listed twice in a
    split, and a file of which two splits share frames. Of a clip listed twice the first row stays, of a file in two
    splits the row for evaluation.

    Args:
        rows: all rows of the lists.
        labels: names of the classes.
        root: folder of the files.
        max_faults: number of rows that may have problems, or a share of them, see `vattn.data.faults`.

    Raises:
        UserError: more rows have problems, or all rows have.
    """
    problems: list[Problem] = []
    accepted: dict[str, list[Row]] = defaultdict(list)
    files = _Files(root)
    kept: list[int] = []
    # Evaluation first: of a file that is in both, the training row is left out.
    for place in sorted(range(len(rows)), key=lambda place: rows[place].split == "train"):
        row = rows[place]
        kind, details = _problem(row, labels, files, accepted)
        if kind:
            problems.append(Problem(kind, f"{row.source}: {row.path}", details))
        else:
            accepted[files.real(row.path)].append(row)
            kept.append(place)
    report_listed(problems, len(rows), max_faults, root)
    if not kept:
        raise UserError(
            f"{root}: lists no file that exists", path="data.root", way_out="name the folder that the lists belong to"
        )
    return [rows[place] for place in sorted(kept)], problems


def hold_out(rows: Sequence[Row], shares: Mapping[str, float], source_of: Callable[[Row], str]) -> list[Row]:
    """Return the rows with a share of each class's training sources moved to other splits.

    The sources are chosen by the hashes of their names, so the same ones are chosen each time, and those of one split
    do not depend on the share of a later one. Each class keeps a source for training.

    Args:
        rows: rows without problems.
        shares: share of each split, in the order in which they choose.
        source_of: returns the source of a row, such as a group of clips: its clips are never in two splits.
    """
    if not shares:
        return list(rows)
    labels_of: dict[str, set[int]] = defaultdict(set)
    names_of: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        if row.split == "train":
            name = source_of(row)
            names_of[row.label].add(name)
            labels_of[name].add(row.label)
    left = {label: len(names) for label, names in names_of.items()}
    moved: dict[str, str] = {}
    for split, share in shares.items():
        for label, names in names_of.items():
            # A source of several classes may have been chosen for another class.
            count = max(round(share * len(names)), 1) - sum(moved.get(name) == split for name in names)
            for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest()):
                if count <= 0 or left[label] == 1:
                    break
                if name not in moved and all(left[other] > 1 for other in labels_of[name]):
                    moved[name] = split
                    count -= 1
                    for other in labels_of[name]:
                        left[other] -= 1
    return [
        row._replace(split=moved[name]) if row.split == "train" and (name := source_of(row)) in moved else row
        for row in rows
    ]


def divided(rows: Sequence[Row]) -> list[str]:
    """Return a remark for each two splits that have clips of one group, or different frames of one file."""
    first: dict[tuple[str, str], str] = {}
    splits_of: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        source = ("group", row.group) if row.group else ("file", row.path)
        if first.setdefault(source, row.split) != row.split:
            splits_of.setdefault(source, {first[source]}).add(row.split)
    remarks = []
    for what in ("group", "file"):
        for pair in (("train", "val"), ("train", "test"), ("val", "test")):
            names = [name for (kind, name), splits in splits_of.items() if kind == what and splits.issuperset(pair)]
            if names:
                more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
                remarks.append(
                    f"clips of {len(names):,} {what}{'s' * (len(names) > 1)} are in {pair[0]} and {pair[1]}; they look "
                    f"alike, so that the accuracy is too high; keep each {what} in one split "
                    f"({printable(', '.join(names[:NAMED]))}{more})"
                )
    return remarks


def as_table(rows: Sequence[Row], problems: Sequence[Problem], num_rows: int, remarks: Sequence[str] = ()) -> pa.Table:
    """Return the rows as a manifest, see `DataConfig.manifest`; its metadata notes the problems of others.

    ``remarks`` are further warnings for the summary of the data set.
    """
    types = {
        "path": pa.string(), "label": pa.int32(), "split": pa.string(),
        "first": pa.int64(), "last": pa.int64(), "seconds": pa.float64(),
    }  # fmt: skip
    if any(row.frames is not None for row in rows):
        types["frames"] = pa.int64()
    table = pa.table({name: pa.array([getattr(row, name) for row in rows], type) for name, type in types.items()})
    return with_faults(table, problems, num_rows, remarks)


def is_utf8(name: str) -> bool:
    """Return whether a name of a file has no bytes that are not UTF-8, which Python keeps as surrogates."""
    return name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)


def _problem(row: Row, labels: Sequence[str], files: "_Files", accepted: Mapping[str, list[Row]]) -> tuple[str, str]:
    """Return the kind of a row's problem, and details; both empty if there is none."""
    if row.problem:
        kind, _, value = row.problem.partition(": ")
        return kind, value
    if not is_utf8(row.path):
        return "name that is not UTF-8", "rename the file"
    if not 0 <= row.label < len(labels):
        return "label out of range", f"{row.label}, of classes 0 to {len(labels) - 1}"
    if not files.exists(row.path):
        return "missing file", files.near(row.path)
    for earlier in accepted.get(files.real(row.path), ()):
        also = f"also {earlier.source}" + (f", {earlier.path}" if earlier.path != row.path else "")
        also += f", as {labels[earlier.label]}" if earlier.label != row.label else ""
        if earlier.split == row.split and (earlier.first, earlier.last) == (row.first, row.last):
            return "listed twice", also
        if earlier.split != row.split and _share_frames(row, earlier):
            return f"in {row.split} and {earlier.split}", also
    return "", ""


def _share_frames(*rows: Row) -> bool:
    starts = [row.first or 0 for row in rows]
    ends = [float("inf") if row.last is None else row.last for row in rows]
    return max(starts) <= min(ends)


class _Files:
    """The files below a root. Folders are listed once, which is faster than a look-up for each file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, _Folder] = {}
        self._alike: dict[str, dict[str, list[str]]] = {}

    def exists(self, path: str) -> bool:
        return path.rpartition("/")[2] in self._folder(path).is_link

    def real(self, path: str) -> str:
        """Return the path of an existing file without links, and the same one however it is written."""
        name = path.rpartition("/")[2]
        folder = self._folder(path)
        whole = f"{folder.real}/{name}"
        return os.path.realpath(whole) if folder.is_link.get(name) else whole

    def near(self, path: str) -> str:
        """Return a file that a missing one may be, or what stands in its place; empty if there is no such file."""
        written = path.strip().strip("'\"").replace("\\", "/")
        if written != path and self.exists(written):
            return f"there is {written}"
        parent, slash, name = written.rpartition("/")
        folder = self._folder(written)
        if not folder.real:
            return f"there is no folder {parent}"
        if parent not in self._alike:
            alike = self._alike[parent] = defaultdict(list)
            for other in folder.is_link:
                alike[_stem(other)].append(other)
        if names := self._alike[parent].get(_stem(name)):
            return f"there is {' and '.join(parent + slash + other for other in sorted(names)[:NAMED])}"
        is_there = os.path.lexists(os.path.join(self._root, path)) if "\0" not in path else False  # noqa: PTH118
        return "is a link to nothing, or neither a file nor a folder" if is_there else ""

    def _folder(self, path: str) -> "_Folder":
        name, slash, _ = path.rpartition("/")
        if name not in self._folders:
            folder = os.path.join(self._root, name + slash)  # noqa: PTH118
            try:
                with os.scandir(folder) as entries:
                    is_link = {entry.name: entry.is_symlink() for entry in entries if entry.is_file() or entry.is_dir()}
                self._folders[name] = _Folder(os.path.realpath(folder), is_link)
            except (OSError, ValueError):  # ValueError: a character of 0
                self._folders[name] = _Folder("", {})
        return self._folders[name]


def _stem(name: str) -> str:
    """Return a name without what programs change: its suffix, capitals, and the form of its characters."""
    return unicodedata.normalize("NFC", os.path.splitext(name)[0]).casefold()  # noqa: PTH122


class _Folder(NamedTuple):
    real: str
    """its path without links"""
    is_link: Mapping[str, bool]
    """whether each of its files and folders is a link"""

"""Rows of a data set that have problems: they are counted, named, and refused if there are more than the user accepts.

Problems of the lists are known before anything is decoded. What cannot be read, and what differs from the lists, is
known afterwards; both count.
"""

import json
import logging
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vattn.data.cache.format import COUNTED, FAILURES
from vattn.data.cache.index import read_failures, read_index
from vattn.data.config import StoreConfig
from vattn.data.ingest import Job, rows_of
from vattn.errors import UserError

log = logging.getLogger(__name__)

#: Number of rows with problems that a message names.
NAMED = 20
#: A clip of fewer frames has no small differences.
SMALL_FROM = 10
#: Share of the stated seconds by which a clip may be shorter or longer: videos are cut where they can be cut.
SECONDS_OFF = 0.5

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")


class Problem(NamedTuple):
    """A row that has a problem."""

    kind: str
    row: str
    """where it is written, its path, or both"""
    details: str = ""

    def __str__(self) -> str:
        return printable(f"{self.row}: {self.kind}{self.details and ': ' + self.details}")


def printable(text: str) -> str:
    """Return a text with escapes for what cannot be printed, such as bytes of a file's name that are not UTF-8."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def tolerance(max_faults: int | str) -> int | str:
    """Return a value of ``data.max_faults``; raise ValueError if it is neither a number nor a share of 0 to 100 %."""
    if isinstance(max_faults, str):
        share = _SHARE.fullmatch(max_faults)
        valid = share is not None and float(share[1]) <= 100
    else:
        valid = max_faults >= 0
    if not valid:
        raise ValueError(f"must be a number of rows, at least 0, or a share of them, such as 1 % (got {max_faults})")
    return max_faults


def accepted(max_faults: int | str, num_rows: int) -> int:
    """Return how many of ``num_rows`` rows may have problems: a share is rounded down."""
    if isinstance(max_faults, int):
        return max_faults
    return int(Fraction(max_faults.rstrip(" %")) * num_rows / 100)


def report_listed(problems: Sequence[Problem], num_rows: int, max_faults: int | str, root: Path) -> None:
    """Log the problems of lists, whose rows are then left out; raise UserError if there are more than accepted."""
    if problems:
        _report(problems, Counter(), num_rows, max_faults, root, "leave them out", "they are left out")


def with_faults(
    manifest: pa.Table, problems: Sequence[Problem], num_rows: int, remarks: Sequence[str] = ()
) -> pa.Table:
    """Return the manifest with the number of rows in the lists, and of those left out, noted for `check`.

    ``remarks`` are noted for `vattn.data.summary.summarize`.
    """
    kinds = Counter(problem.kind for problem in problems)
    faults = {"rows": num_rows, "kinds": kinds}
    return manifest.replace_schema_metadata({"faults": json.dumps(faults), "remarks": json.dumps(remarks)})


def check(manifest: pa.Table, cache: Path, store: StoreConfig, root: Path, max_faults: int | str) -> None:
    """Log the clips that a cache lacks, that differ from what their lists state, or of which two splits have copies.

    A clip whose number of frames differs counts as a row with a problem, but its frames stay in the cache. A difference
    of one frame, or of 1 % of a longer clip, is logged and does not count: programs count frames in different ways.

    Args:
        manifest: the rows, see `DataConfig.manifest`.
        cache: the folder that `vattn.data.ingest.ingest` returned for it.
        store: how that cache stores frames.
        root: folder of the files.
        max_faults: number of rows that may have problems, or a share of them; those left out of the manifest count.

    Raises:
        UserError: more rows have problems. The cache stays.
    """
    noted = json.loads((manifest.schema.metadata or {}).get(b"faults", b"{}"))
    problems = [Problem("unreadable file", line["path"], line["reason"]) for line in read_failures(cache)]
    problems += _copies(read_index(cache))
    small: list[Problem] = []
    for problem, is_small in _differences(manifest, cache, store, root):
        (small if is_small else problems).append(problem)
    if small:
        log.warning(
            "%s: %d clips have a few frames more or less than their lists state; they are used\n%s",
            root, len(small), "\n".join(_lines(small)),
        )  # fmt: skip
    if problems:
        consequence = f"files that cannot be read ({cache / FAILURES}) are left out, the others are used as they are"
        _report(
            problems, Counter(noted.get("kinds", {})), noted.get("rows", len(manifest)), max_faults, root,
            "accept them", consequence, "; what was decoded is kept",
        )  # fmt: skip


def _report(
    problems: Sequence[Problem], known: Mapping[str, int], num_rows: int, max_faults: int | str, root: Path,
    accept: str, consequence: str, kept: str = "",
) -> None:  # fmt: skip
    """Log the problems, or raise UserError if they and those ``known`` by kind are more than accepted."""
    kinds = Counter(problem.kind for problem in problems) + Counter(known)
    total, counts = kinds.total(), ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    summary = f"{root}: {total} of {num_rows} rows have problems ({counts})"
    lines = _lines(problems)
    if total > accepted(max_faults, num_rows):
        way_out = f"correct them, or {accept} with data.max_faults: {total}{kept} (got {max_faults})"
        raise UserError("\n".join([f"{summary}; {way_out}", *lines]), path="data.max_faults")
    log.warning("%s; %s\n%s", summary, consequence, "\n".join(lines))


def _lines(problems: Sequence[Problem]) -> list[str]:
    lines = [f"  {problem}" for problem in problems[:NAMED]]
    return lines + ([f"  and {len(problems) - NAMED} more"] if len(problems) > NAMED else [])


class _Stored(NamedTuple):
    """What a cache knows of a clip; -1: not known."""

    frames: int
    """before some were selected"""
    seconds: float


def _differences(manifest: pa.Table, cache: Path, store: StoreConfig, root: Path) -> Iterator[tuple[Problem, bool]]:
    """Yield the rows whose clips differ from what the lists state, and whether the difference is small."""
    stating = [name for name in ("last", "frames", "seconds") if name in manifest.column_names]
    if all(manifest[name].null_count == len(manifest) for name in stating):
        return
    stored = _stored(read_index(cache), store)
    nulls = [None] * len(manifest)
    frames, seconds = (manifest[name].to_pylist() if name in stating else nulls for name in ("frames", "seconds"))
    for (_, job), stated_frames, stated_seconds in zip(rows_of(manifest), frames, seconds, strict=True):
        clip = stored.get(job)
        if clip is None:
            continue  # reported as unreadable, or of a split that is not decoded
        stated = _stated_frames(job, root) if stated_frames is None else stated_frames
        if stated is None:
            if stated_seconds is not None and _seconds_differ(clip.seconds, stated_seconds):
                kind = "shorter than stated" if clip.seconds < stated_seconds else "longer than stated"
                details = f"{clip.seconds:.1f} seconds, and its list states {stated_seconds:.1f}"
                yield Problem(kind, job.path, details), False
        elif clip.frames not in (stated, -1):
            small = stated >= SMALL_FROM and abs(clip.frames - stated) <= max(1, stated // 100)
            yield _frames_differ(job, clip.frames, stated), small


def _copies(index: pa.Table) -> list[Problem]:
    """Return a problem for each training clip whose content is in another split too, and for those of val and test.

    The same file in two splits is found before anything is decoded; here its copies are, which have other paths.
    """
    digests = index["digest"].combine_chunks().dictionary_encode()
    codes = digests.indices.to_numpy()
    if len(digests.dictionary) == len(index):
        return []
    repeated = np.flatnonzero(np.bincount(codes)[codes] > 1)
    columns = [index[name].take(pa.array(repeated)).to_pylist() for name in ("path", "first", "last", "split")]
    clips: dict[int, list[tuple[Job, str]]] = defaultdict(list)
    for code, path, first, last, split in zip(codes[repeated].tolist(), *columns, strict=True):
        clips[code].append((Job(path, first, last), split))
    problems = []
    for code, same in clips.items():
        if not digests.dictionary[code].as_py():
            continue  # not known
        evaluated = [clip for clip in same if clip[1] != "train"]
        for clip, split in sorted(same, key=lambda clip: clip[1] == "test"):
            for other, other_split in evaluated:
                # Of val and test, the clip of val is reported.
                if split not in (other_split, "test") and clip.path != other.path and _overlap(clip, other):
                    kind = f"same content in {split} and {other_split}"
                    problems.append(Problem(kind, clip.path, f"also {other.path}"))
                    break
    return problems


def _overlap(*clips: Job) -> bool:
    """Return whether two clips of the same content share frames."""
    starts = [max(clip.first, 0) for clip in clips]
    ends = [math.inf if clip.last < 0 or clip.first == COUNTED else clip.last for clip in clips]
    return max(starts) <= min(ends)


def _seconds_differ(seconds: float, stated: float) -> bool:
    return seconds >= 0 and abs(seconds - stated) > max(1, SECONDS_OFF * stated)


def _stored(index: pa.Table, store: StoreConfig) -> dict[Job, _Stored]:
    def column(name: str) -> list[Any]:
        # Caches of earlier versions lack length and seconds.
        return index[name].to_pylist() if name in index.column_names else [-1] * len(index)

    clips: dict[Job, _Stored] = {}
    for path, first, last, frames, length, seconds in zip(
        *map(column, ("path", "first", "last", "frames", "length", "seconds")), strict=True
    ):
        if length < 0 and (store.frames == "all" or frames < store.frames):
            length = frames
        clips[Job(path, first, last)] = _Stored(length, seconds)
    return clips


def _stated_frames(job: Job, root: Path) -> int | None:
    """Return the number of frames in a range; None: the range has no end, or begins with a folder's first image."""
    if job.last < 0:
        return None
    if job.first >= 0:
        return job.last - job.first + 1
    return None if os.path.isdir(root / job.path) else job.last + 1  # noqa: PTH112  # pathlib raises for long names


def _frames_differ(job: Job, found: int, stated: int) -> Problem:
    if found > stated:
        return Problem("more frames than stated", job.path, f"{found}, and its list states {stated}")
    details = f"{found} of {stated}" + (f" from {job.first} on" if job.first >= 0 else "")
    if found <= 1 and job.first >= 0:
        details += " (lists with several labels for a clip are not read)"
    return Problem("fewer frames than stated", job.path, details)

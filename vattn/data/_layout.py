"""What data sets have in common whose files users bring: rows are read as their owners publish them, then checked."""

import csv
import hashlib
import json
import logging
import os
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import pyarrow as pa
from pydantic import AfterValidator, Field

from vattn.data._base import AugmentConfig, DataConfig, SamplingConfig, StoreConfig, ViewsConfig

log = logging.getLogger(__name__)

VIDEOS = frozenset(
    (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".gif")
)
#: Of the rows at fault so many are named.
NAMED = 20

Split = Literal["train", "val", "test"]


def _folder(root: str) -> str:
    if root == "auto":
        raise ValueError("must be the folder of the files as their owners publish it; there is none to choose for you")
    return str(Path(root).expanduser().absolute())  # workers have working directories of their own


class Row(NamedTuple):
    """One line of a list of files."""

    path: str
    """below the root; a video, or a folder of frames"""
    label: int
    """-1 where the line names none of the classes"""
    split: str
    source: str
    """where it is written: file and line"""
    fault: str = ""
    """what is wrong with the line itself: kind of fault, and what was found behind a colon"""
    first: int | None = None
    """first frame: its number in its folder's file names, or from 0 in a video; None for the first there is"""
    last: int | None = None
    """last frame, inclusive; None for the last there is"""
    seconds: float | None = None
    """length, where the owners tell it"""


class LayoutConfig(DataConfig):
    """A data set whose files lie below ``root``. Its classes and splits are read from its own lists."""

    root: Annotated[str, AfterValidator(_folder)] = Field(description="folder as its owners publish it")
    max_faults: int = Field(
        0, ge=0, description="rows that may be at fault (no file, no such class, twice, in two splits); left out"
    )
    val_share: float = Field(
        0.1, gt=0, lt=1, description="share of each class's training files, kept for validation where no split is"
    )

    @abstractmethod
    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the classes below ``root``; raises ValueError where they are missing or not as they should.

        Every process of a search does this, so it must not look at the videos.
        """

    @abstractmethod
    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterable[Row]:
        """Read the lists below ``root``; raises ValueError where one is missing or has another form."""

    def source_of(self, path: str) -> str:
        """Return what a file was cut from: files of one source are never both trained on and validated with."""
        return path

    def labels(self) -> tuple[str, ...]:
        """Names of the classes as the set's own files number them; raises ValueError where they cannot be read."""
        # What else is in the config differs from trial to trial, and has no part in the files.
        plain = {
            "cache": "auto", "store": StoreConfig(), "sampling": SamplingConfig(), "views": ViewsConfig(),
            "augment": AugmentConfig(), "modality": "rgb",
        }  # fmt: skip
        return _labels(self.model_copy(update=plain))

    def manifest(self, root: Path) -> pa.Table:
        """Return the rows that are right; raises ValueError where more than ``max_faults`` are not, and names them.

        Of a file in two splits the evaluation's row stays, of one listed twice in a split the first.
        """
        assert self.split != "all", "each of `each_split` has a manifest"
        labels = self.labels()
        return checked(self, tuple(self.read_rows(root, labels)), labels, root)

    def canonical(self) -> Self:
        """Return the same data in its one form: what is tolerated changes nothing in what is right."""
        return super().canonical().model_copy(update={"max_faults": 0})


@cache
def _labels(config: LayoutConfig) -> tuple[str, ...]:
    root = Path(config.root)
    config.supply(root)
    return config.read_labels(root)


def checked(config: LayoutConfig, listed: Sequence[Row], labels: tuple[str, ...], root: Path) -> pa.Table:
    """Return the rows as a table (see `DataConfig.manifest`), without those at fault."""
    faults: list[tuple[str, str]] = []  # kind, and the whole line
    good: dict[str, list[Row]] = defaultdict(list)
    there = _Files(root)
    kept: list[int] = []
    # Evaluation first: a training row that stands there too is the one to go.
    for place in sorted(range(len(listed)), key=lambda place: listed[place].split == "train"):
        row = listed[place]
        kind, found = _fault(row, labels, there, good)
        if kind:
            faults.append((kind, f"{row.source}: {row.path}: {kind}{found and ': ' + found}"))
        else:
            good[row.path].append(row)
            kept.append(place)
    if faults:
        _tell(faults, len(listed), config.max_faults, root)
    if not kept:
        raise ValueError(f"data.root: {root}: lists no file that is there; name the folder that the lists belong to")
    rows = [listed[place] for place in sorted(kept)]
    return _table(rows if any(row.split == "val" for row in rows) else _hold_out(rows, config))


def _fault(row: Row, labels: Sequence[str], there: "_Files", good: Mapping[str, list[Row]]) -> tuple[str, str]:
    """Return the kind of what is wrong with a row, and details; empty where nothing is."""
    if row.fault:
        kind, _, found = row.fault.partition(": ")
        return kind, found
    if not 0 <= row.label < len(labels):
        return "label out of range", f"{row.label}, of classes 0 to {len(labels) - 1}"
    if not there.has(row.path):
        return "missing file", ""
    for other in good.get(row.path, ()):
        also = f"also {other.source}" + (f", as {labels[other.label]}" if other.label != row.label else "")
        if other.split == row.split and (other.first, other.last) == (row.first, row.last):
            return "listed twice", also
        if other.split != row.split and _share_frames(row, other):
            return f"in {row.split} and {other.split}", also
    return "", ""


def _share_frames(one: Row, other: Row) -> bool:
    starts = [row.first or 0 for row in (one, other)]
    ends = [float("inf") if row.last is None else row.last for row in (one, other)]
    return max(starts) <= min(ends)


def _tell(faults: Sequence[tuple[str, str]], rows: int, allowed: int, root: Path) -> None:
    """Log what is wrong, or raise ValueError where it is too much."""
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(kind for kind, _ in faults).most_common())
    lines = [f"  {line}" for _, line in faults[:NAMED]]
    lines += [f"  and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
    text = f"{root}: {len(faults)} of {rows} rows are at fault ({counts})"
    if len(faults) > allowed:
        way_out = f"correct them, or leave them out with data.max_faults: {len(faults)} (got {allowed})"
        raise ValueError("\n".join([f"data.max_faults: {text}; {way_out}", *lines]))
    log.warning("%s\n%s", f"{text}; they are left out", "\n".join(lines))


def _hold_out(rows: Sequence[Row], config: LayoutConfig) -> list[Row]:
    """Return the rows with a share of each class's training sources moved to val; which, their names decide."""
    sources: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        if row.split == "train":
            sources[row.label].add(config.source_of(row.path))
    held: set[tuple[int, str]] = set()
    for label, names in sources.items():
        shuffled = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        # Never all: what has a single source is trained on.
        count = min(max(round(config.val_share * len(names)), 1), len(names) - 1)
        held |= {(label, name) for name in shuffled[:count]}
    return [
        row._replace(split="val") if row.split == "train" and (row.label, config.source_of(row.path)) in held else row
        for row in rows
    ]


def _table(rows: Sequence[Row]) -> pa.Table:
    types = {
        "path": pa.string(), "label": pa.int32(), "split": pa.string(),
        "first": pa.int64(), "last": pa.int64(), "seconds": pa.float64(),
    }  # fmt: skip
    return pa.table({name: pa.array([getattr(row, name) for row in rows], type) for name, type in types.items()})


class _Files:
    """What is below a root; folders are listed once, which is faster than a look at each file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, frozenset[str]] = {}

    def has(self, path: str) -> bool:
        folder, slash, name = path.rpartition("/")
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(self._root / (folder + slash)))  # noqa: PTH208
            except OSError:
                self._names[folder] = frozenset()
        return name in self._names[folder]


def videos_by_stem(root: Path) -> dict[str, list[str]]:
    """Return the video files below ``root``, as paths below it, by their names without the ending."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            stem, ending = os.path.splitext(name)  # noqa: PTH122
            if ending.lower() in VIDEOS:
                found[stem].append(os.path.relpath(os.path.join(folder, name), root))  # noqa: PTH118
    return {stem: sorted(paths) for stem, paths in found.items()}


def find(root: Path, names: Iterable[str], what: str) -> Path:
    """Return the first of ``names`` (paths below ``root``) that exists; raises ValueError where none does."""
    names = list(names)
    for name in names:
        if (root / name).exists():
            return root / name
    raise ValueError(f"data.root: {root}: has no {what}; put it there as {' or '.join(names)}")


def read_text(path: Path) -> str:
    """Return the text of a list; raises ValueError where it is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"data.root: {path}: cannot be read as text ({error}); put the owners' file there") from error


def read_json(path: Path, wanted: type) -> Any:
    """Return what a JSON file holds; raises ValueError where that is not a ``wanted``."""
    try:
        tree = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"data.root: {path}: is not JSON ({error}); put the owners' file there") from error
    if not isinstance(tree, wanted):
        raise ValueError(f"data.root: {path}: must hold a {wanted.__name__}; put the owners' file there")
    return tree


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each line that is not empty, stripped, behind where it stands: ("train.txt:3", line)."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line := line.strip():
            yield f"{path.name}:{number}", line


def read_csv(path: Path, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a CSV file with a header, behind where it stands; ValueError where a column is missing."""
    reader = csv.DictReader(read_text(path).splitlines())
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"data.root: {path}: has no column {', '.join(missing)} (got {reader.fieldnames})")
    for row in reader:
        yield f"{path.name}:{reader.line_num}", {name: value or "" for name, value in row.items() if name}

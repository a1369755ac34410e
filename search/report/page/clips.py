"""Results clip by clip, as `vattn test --out` writes them: accuracy by class and by length, and classes that gain."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search.analysis.intervals import Estimate, by_clips, difference
from vattn.errors import UserError

#: parts into which the lengths of videos are divided
LENGTHS = 5
#: classes that a table of gains names, at each end
GAINING = 10
#: columns that a file must have
_COLUMNS = ("path", "label", "scores")


@dataclass(frozen=True)
class Tested:
    """One test of a model: the clips, their classes, and whether each was right."""

    name: str
    paths: list[str]
    labels: NDArray[np.int64]
    right: NDArray[np.bool_]
    lengths: NDArray[np.float64] | None
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> Estimate:
        """Top-1 accuracy with its interval."""
        return by_clips("top1", float(self.right.mean()), len(self.right))

    def by_class(self) -> dict[int, Estimate]:
        """Return the accuracy of each class that occurs."""
        return {label: self._accuracy(self.labels == label) for label in np.unique(self.labels).tolist()}

    def by_length(self) -> list[tuple[float, float, int, Estimate]]:
        """Return the least and greatest length, number of clips and accuracy of parts of equally many clips."""
        if self.lengths is None or not len(self.lengths):
            return []
        edges = np.unique(np.quantile(self.lengths, np.linspace(0, 1, LENGTHS + 1)))
        part = np.searchsorted(edges[1:-1], self.lengths, "left")
        groups = [part == n for n in np.unique(part)]
        return [
            (float(self.lengths[g].min()), float(self.lengths[g].max()), int(g.sum()), self._accuracy(g))
            for g in groups
        ]

    def _accuracy(self, chosen: NDArray[np.bool_]) -> Estimate:
        return by_clips("top1", float(self.right[chosen].mean()), int(chosen.sum()))


def read_tests(files: Sequence[Path]) -> list[Tested]:
    """Return the tests in Parquet files, in their order. Raises UserError for a file that has another form."""
    return [_read(file) for file in files]


def clip_files(folder: Path) -> list[Path]:
    """Return the files with results clip by clip in the folder ``tests`` of a search."""
    return sorted((folder / "tests").glob("*.parquet"))


def _read(file: Path) -> Tested:
    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"is not a Parquet file ({str(error).partition(chr(10))[0]})", file=file) from None
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise UserError(f"has no column {missing[0]}", file=file, way_out="name a file that `vattn test --out` wrote")
    rows = table["scores"].to_pylist()
    if not rows or any(not isinstance(row, list) or not row or len(row) != len(rows[0]) for row in rows):
        raise UserError("must have a list of scores for each clip, all of one length", file=file)
    scores = np.array(rows, dtype=float)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    names = json.loads(metadata["classes"]) if "classes" in metadata else None
    labels = table["label"].to_pylist()
    if isinstance(labels[0], str):
        names = names or sorted(set(labels))
        if unknown := set(labels) - set(names):
            raise UserError(f"has a label {min(unknown)!r} that is no class", file=file)
        labels = [names.index(label) for label in labels]
    classes = tuple(names or (f"class {n}" for n in range(scores.shape[1])))
    if len(classes) < scores.shape[1] or min(labels) < 0 or max(labels) >= len(classes):
        raise UserError(
            f"has {len(classes)} classes for {scores.shape[1]} scores and labels up to {max(labels)}", file=file
        )
    lengths = None
    if "length" in table.column_names and table["length"].null_count == 0:
        lengths = np.array(table["length"].to_pylist(), dtype=float)
    target = np.array(labels, dtype=np.int64)
    right = scores.argmax(axis=1) == target
    return Tested(file.stem, table["path"].to_pylist(), target, right, lengths, classes)


def class_gains(base: Tested, other: Tested) -> list[tuple[str, Estimate, Estimate, Estimate]]:
    """Return name, both accuracies and the gain of ``other`` for each class, those that gain most first."""
    first, second = base.by_class(), other.by_class()
    rows = [
        (base.classes[label], first[label], second[label], difference(second[label], first[label]))
        for label in first
        if label in second
    ]
    return sorted(rows, key=lambda row: -row[3].value)


def shown_gains(base: Tested, other: Tested) -> list[tuple[str, Estimate, Estimate, Estimate]]:
    """Return `class_gains`; of many classes, the `GAINING` at each end."""
    gains = class_gains(base, other)
    return gains if len(gains) <= 2 * GAINING else [*gains[:GAINING], *gains[-GAINING:]]

"""A test of a model clip by clip: accuracy by class and by length, and classes that gain."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search.analysis.intervals import Estimate, by_clips, difference

#: parts into which the lengths of videos are divided
LENGTHS = 5
#: classes that a table of gains names, at each end
GAINING = 10


def _whole(paths: list[str]) -> NDArray[np.int64]:
    return np.full((len(paths), 2), -1, dtype=np.int64)


@dataclass(frozen=True)
class Tested:
    """One test of a model: N clips, their classes, and the scores of each class (N, classes)."""

    name: str
    paths: list[str]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    classes: tuple[str, ...]
    lengths: NDArray[np.float64] | None = None
    """frames of each clip"""
    spans: NDArray[np.int64] = field(default_factory=lambda: _whole([]))
    """(N, 2): first and last frame of each clip in its file; -1 for the ends of the file"""
    parts: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """scores of each branch or stream"""
    about: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.spans):
            object.__setattr__(self, "spans", _whole(self.paths))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The class with the highest score of each clip."""
        return self.scores.argmax(axis=1)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each clip was classified as its class."""
        return self.predicted == self.labels

    @property
    def accuracy(self) -> Estimate:
        """Top-1 accuracy with its interval."""
        return by_clips("top1", float(self.right.mean()), len(self.right))

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """The softmax of the scores (N, classes)."""
        shifted = np.exp(self.scores - self.scores.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def confusion(self) -> NDArray[np.int64]:
        """Return the number of clips of class i that were taken for class j, (classes, classes)."""
        counts = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts

    def by_class(self) -> dict[int, Estimate]:
        """Return the accuracy of each class that occurs."""
        return {label: self.accuracy_of(self.labels == label) for label in np.unique(self.labels).tolist()}

    def length_groups(self) -> list[tuple[float, float, NDArray[np.bool_]]]:
        """Return parts of about equally many clips, in order: least and greatest length, and a mask of the clips."""
        if self.lengths is None or not len(self.lengths):
            return []
        edges = np.unique(np.quantile(self.lengths, np.linspace(0, 1, LENGTHS + 1)))
        part = np.searchsorted(edges[1:-1], self.lengths, "left")
        groups = [part == n for n in np.unique(part)]
        return [(float(self.lengths[g].min()), float(self.lengths[g].max()), g) for g in groups]

    def by_length(self) -> list[tuple[float, float, int, Estimate]]:
        """Return the least and greatest length, number of clips and accuracy of parts of equally many clips."""
        return [(low, high, int(g.sum()), self.accuracy_of(g)) for low, high, g in self.length_groups()]

    def accuracy_of(self, chosen: NDArray[np.bool_]) -> Estimate:
        """Return the top-1 accuracy of the chosen clips with its interval."""
        return by_clips("top1", float(self.right[chosen].mean()), int(chosen.sum()))


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

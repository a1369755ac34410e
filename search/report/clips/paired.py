"""Compare two tests on the same clips: differences with paired tests, overall, by class and by length.

* The test is McNemar's, in its exact form. Under the null hypothesis, each of the two models is equally likely to be
  the right one on a clip that only one of them got right (McNemar, "Note on the sampling error of the difference
  between correlated proportions or percentages", Psychometrika, 1947).
* P values of classes are adjusted for their number (Holm, "A simple sequentially rejective multiple test procedure",
  Scandinavian Journal of Statistics, 1979).
* The interval of a difference knows that both saw the same clips: method 10 of Newcombe, "Improved confidence intervals
  for the difference between binomial proportions based on paired data", Statistics in Medicine, 1998.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from search.analysis.intervals import Estimate, by_clips
from search.report.clips.tested import Tested
from vattn.data.names import clip_name
from vattn.errors import UserError


@dataclass(frozen=True)
class Paired:
    """Two models, a and b, on the same clips."""

    clips: int
    a: Estimate
    """accuracy of the first model"""
    b: Estimate
    gain: Estimate
    """b - a with its paired interval"""
    gained: int
    """clips that only b got right"""
    lost: int
    """clips that only a got right"""
    p: float
    """McNemar's p value, two-sided"""


@dataclass(frozen=True)
class ClassPair:
    """The comparison of one class; ``adjusted`` is its p value by Holm, for all classes together."""

    name: str
    pair: Paired
    adjusted: float


@dataclass(frozen=True)
class Comparison:
    """Two tests on the clips that both have, in the same order."""

    a: Tested
    b: Tested
    left_out: int
    """clips that only one of them has"""
    whole: Paired
    classes: list[ClassPair]
    """those that gain most first"""
    lengths: list[tuple[float, float, Paired]]
    """least and greatest length of each part"""


def compared(a: Tested, b: Tested) -> Comparison:
    """Return the comparison of two tests; clips are matched by their names, as an RGB video and its flow have one.

    Raises:
        UserError: they have no clip in common, or other classes.
    """
    b = _with_classes(b, a)
    keys_a, keys_b = _keys(a), _keys(b)
    place = {key: n for n, key in enumerate(keys_b)}
    pairs = [(n, place[key]) for n, key in enumerate(keys_a) if key in place]
    if not pairs:
        raise UserError(
            f"{a.name} and {b.name} have no clip in common", path="compare", way_out="name tests of one split"
        )
    left_out = len(keys_a) + len(keys_b) - 2 * len(pairs)
    rows_a, rows_b = (np.array(rows) for rows in zip(*pairs, strict=True))
    a, b = _rows(a, rows_a), _rows(b, rows_b)
    if (a.labels != b.labels).any():
        wrong = a.paths[int(np.flatnonzero(a.labels != b.labels)[0])]
        raise UserError(f"{a.name} and {b.name} give a clip other classes ({wrong})", path="compare")
    return Comparison(a, b, left_out, paired(a.right, b.right), _by_class(a, b), _by_length(a, b))


def paired(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Paired:
    """Return the comparison of two models by whether each of the same clips, at least one, was right."""
    both, lost, gained, none = (int(n) for n in ((a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum()))
    clips = len(a)
    first, second = (by_clips("top1", float(right.mean()), clips) for right in (a, b))
    # Exact and two-sided: twice the smaller tail of a binomial distribution with probability 1/2.
    p = min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
    return Paired(clips, first, second, _gain(first, second, both, lost, gained, none), gained, lost, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted by Holm's method, in the same order.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, n in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = highest
    return adjusted


def _gain(a: Estimate, b: Estimate, both: int, lost: int, gained: int, none: int) -> Estimate:
    """Return b - a with Newcombe's interval of paired proportions, from Wilson's intervals of both."""
    margins = (both + lost) * (gained + none) * (both + gained) * (lost + none)
    product, half = both * none - lost * gained, (both + lost + gained + none) / 2
    phi = 0.0
    if margins:
        phi = (product if product < 0 else max(product - half, 0.0)) / math.sqrt(margins)

    def distance(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    value = (gained - lost) / (both + lost + gained + none)
    low = value - distance(b.value - b.low, a.high - a.value)
    return Estimate(value, low, value + distance(b.high - b.value, a.value - a.low))


def _by_class(a: Tested, b: Tested) -> list[ClassPair]:
    labels = np.unique(a.labels).tolist()
    pairs = [paired(a.right[a.labels == label], b.right[a.labels == label]) for label in labels]
    rows = [
        ClassPair(a.classes[label], pair, adjusted)
        for label, pair, adjusted in zip(labels, pairs, holm([pair.p for pair in pairs]), strict=True)
    ]
    return sorted(rows, key=lambda row: -row.pair.gain.value)


def _by_length(a: Tested, b: Tested) -> list[tuple[float, float, Paired]]:
    return [(low, high, paired(a.right[group], b.right[group])) for low, high, group in a.length_groups()]


def _keys(test: Tested) -> list[tuple[str, int, int, int]]:
    """Return what a clip is known by: its name, its frames, and which of several such it is."""
    seen: Counter[tuple[str, int, int]] = Counter()
    keys = []
    for path, (first, last) in zip(test.paths, test.spans.tolist(), strict=True):
        key = clip_name(path), first, last
        keys.append((*key, seen[key]))
        seen[key] += 1
    return keys


def _rows(test: Tested, rows: NDArray[np.int64]) -> Tested:
    return replace(
        test, paths=[test.paths[n] for n in rows.tolist()], labels=test.labels[rows], scores=test.scores[rows],
        lengths=None if test.lengths is None else test.lengths[rows], spans=test.spans[rows],
        parts={name: scores[rows] for name, scores in test.parts.items()},
    )  # fmt: skip


def _with_classes(test: Tested, like: Tested) -> Tested:
    """Return a test with the classes of another in their order. Raises UserError if they are not the same."""
    if test.classes == like.classes:
        return test
    if sorted(test.classes) != sorted(like.classes) or test.scores.shape[1] != len(test.classes):
        raise UserError(
            f"{like.name} and {test.name} have other classes ({len(like.classes)} and {len(test.classes)})",
            path="compare", way_out="name tests of one data set",
        )  # fmt: skip
    order = np.array([test.classes.index(name) for name in like.classes])
    number = np.argsort(order)
    return replace(
        test, labels=number[test.labels], scores=test.scores[:, order], classes=like.classes,
        parts={name: scores[:, order] for name, scores in test.parts.items()},
    )  # fmt: skip

"""Maths of Pareto fronts, on plain arrays of points: front, layers, hypervolume and knee.

Points are an array (n, objectives). Each objective has a direction, "max" or "min".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.ledger.history import Direction

#: the direction of each objective, by name
Objectives = Mapping[Any, Direction]


def _gains(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.float64]:
    """Return the points (n, objectives) with the signs changed so that every objective is maximised."""
    sign = np.array([1.0 if direction == "max" else -1.0 for direction in directions])
    return np.asarray(points, dtype=float).reshape(-1, len(sign)) * sign


def front(points: ArrayLike, directions: Sequence[Direction]) -> list[int]:
    """Return the indices of the points (n, objectives) that no other point dominates, in ascending order.

    A point dominates another one if it is nowhere worse and somewhere better. Of equal points only the first is on the
    front. A point with a value that is not finite is on no front.
    """
    return next(layers(points, directions), [])


def layers(points: ArrayLike, directions: Sequence[Direction]) -> Iterator[list[int]]:
    """Yield the fronts of non-dominated sorting: the front of the points (n, objectives), that of the rest, and so on.

    Each front is a list of indices in ascending order, as in `front`. Non-dominated sorting is described in "A Fast and
    Elitist Multiobjective Genetic Algorithm: NSGA-II" (Deb, Pratap, Agarwal, Meyarivan, IEEE Transactions on
    Evolutionary Computation, 2002).
    """
    gains = _gains(points, directions)
    order = np.flatnonzero(np.isfinite(gains).all(axis=1))
    # Sort by the first objective, then the next, best first: a point comes after all that dominate or equal it.
    order = order[np.lexsort(-gains[order].T[::-1])]
    columns = [gains[order, n] for n in range(gains.shape[1])]
    while len(order):
        first, rest, left = np.zeros(len(order), dtype=bool), np.arange(len(order)), columns
        while len(rest):
            first[rest[0]] = True
            ahead = np.logical_or.reduce([column > column[0] for column in left])
            rest, left = rest[ahead], [column[ahead] for column in left]
        yield sorted(order[first].tolist())
        order, columns = order[~first], [column[~first] for column in columns]


def dominates(a: Mapping[str, float], b: Mapping[str, float], objectives: Objectives) -> bool:
    """Return whether the values ``a``, by objective, are nowhere worse than ``b`` and somewhere better."""
    gains = [(a[name] - b[name]) * (1 if direction == "max" else -1) for name, direction in objectives.items()]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def hypervolume(points: ArrayLike, reference: Sequence[float], directions: Sequence[Direction]) -> float:
    """Return the volume between ``reference`` and the front of the points (n, objectives).

    It is exact, by slicing objectives: "A Faster Algorithm for Calculating Hypervolume" (While, Hingston, Barone,
    Huband, IEEE Transactions on Evolutionary Computation, 2006). Points that are not better than the reference in every
    objective add nothing. The unit is the product of the objectives' units, such as accuracy times GFLOPs.
    """
    gains = (_gains(points, directions) - _gains(reference, directions))[front(points, directions)]
    return _volume(gains[(gains > 0).all(axis=1)])


def _volume(gains: NDArray[np.float64]) -> float:
    """Sum the slabs along the last axis, from the top down: each has the volume of the points above it as its base."""
    if not len(gains):
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    gains = gains[np.argsort(-gains[:, -1], kind="stable")]
    thickness = -np.diff(gains[:, -1], append=0.0)
    return sum(_volume(gains[: n + 1, :-1]) * high for n, high in enumerate(thickness.tolist()) if high)


def knee(points: ArrayLike, directions: Sequence[Direction]) -> int:
    """Return the index of the knee of a front (n >= 1, objectives): beyond it, more of one objective costs most.

    It is the point at the greatest distance beyond the chord through the two ends of the front, or beyond the plane
    through three ends: "On Characterizing the 'Knee' of the Pareto Curve Based on Normal-Boundary Intersection" (Das,
    Structural Optimization, 1999). Every objective is scaled to 0 (worst on the front) ... 1 (best on it), so that this
    is the point with the greatest sum. Among equal points, such as the two ends when nothing lies beyond the chord, it
    is the best in the first objective.
    """
    gains = _gains(points, directions)
    low, span = gains.min(axis=0), np.ptp(gains, axis=0)
    scaled = (gains - low) / np.where(span > 0, span, 1.0)
    # Rounded, so that floating-point errors do not decide between equal sums.
    return int(np.lexsort((gains[:, 0], scaled.sum(axis=1).round(12)))[-1])

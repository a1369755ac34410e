"""The front of a search: which trials are best at their cost, how much they cover, and which one to take."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.ledger.history import Direction

Objectives = Mapping[Any, Direction]


def _gains(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.float64]:
    """Return the points (n, objectives) with the sign of every objective such that more is better."""
    sign = np.array([1.0 if direction == "max" else -1.0 for direction in directions])
    return np.asarray(points, dtype=float).reshape(-1, len(sign)) * sign


def front(points: ArrayLike, directions: Sequence[Direction]) -> list[int]:
    """Return the indices of the points (n, objectives) that no other point dominates, in ascending order.

    One point dominates another where it is nowhere worse and somewhere better. Of equal points the first stays; a
    point with a value that is not finite is on no front.
    """
    return next(layers(points, directions), [])


def layers(points: ArrayLike, directions: Sequence[Direction]) -> Iterator[list[int]]:
    """Yield the indices on the front of the points (n, objectives), those on the front of the rest, and so on."""
    gains = _gains(points, directions)
    order = np.flatnonzero(np.isfinite(gains).all(axis=1))
    # Best first, by the first objective, then the next: what dominates a point stands before it, as does an equal one.
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


def dominates(one: Mapping[str, float], other: Mapping[str, float], objectives: Objectives) -> bool:
    """Whether one trial's values are nowhere worse than another's and somewhere better."""
    gains = [(one[name] - other[name]) * (1 if way == "max" else -1) for name, way in objectives.items()]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def hypervolume(points: ArrayLike, reference: Sequence[float], directions: Sequence[Direction]) -> float:
    """Return the volume that the points (n, objectives) dominate, as far as ``reference``; exact.

    Points that are not better than the reference in every objective add nothing. Its unit is the product of the
    objectives' units, such as accuracy times GFLOPs.
    """
    gains = (_gains(points, directions) - _gains(reference, directions))[front(points, directions)]
    return _volume(gains[(gains > 0).all(axis=1)])


def _volume(gains: NDArray[np.float64]) -> float:
    """Sum, from the top down along the last axis, the slabs under the points reached so far."""
    if not len(gains):
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    gains = gains[np.argsort(-gains[:, -1], kind="stable")]
    thickness = -np.diff(gains[:, -1], append=0.0)
    return sum(_volume(gains[: n + 1, :-1]) * high for n, high in enumerate(thickness.tolist()) if high)


def knee(points: ArrayLike, directions: Sequence[Direction]) -> int:
    """Return the index of the point of a front (n >= 1, objectives) at which more of one costs most of another.

    Every objective is scaled to 0 (worst on the front) ... 1 (best on it); the point with the greatest sum is the one
    farthest beyond the chord through a front's two ends, or beyond the plane through three. Of equals, such as the two
    ends where nothing lies beyond the chord, it is the best by the first objective.
    """
    gains = _gains(points, directions)
    low, span = gains.min(axis=0), np.ptp(gains, axis=0)
    scaled = (gains - low) / np.where(span > 0, span, 1.0)
    return int(np.lexsort((gains[:, 0], scaled.sum(axis=1).round(12)))[-1])

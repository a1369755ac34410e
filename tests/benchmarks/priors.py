"""Priors of an expert who knows a table: right ones, which favour the values of its front, and wrong ones."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spaces.domain import Choice, Domain, Subset
from spaces.prior import Prior
from tests.benchmarks.problems import Problem

#: largest weight of a value; the smallest is its reciprocal
MAX_WEIGHT = 5.0
#: values of a range of numbers up to which each has a weight
MAX_VALUES = 6


def prior_of(problem: Problem, wrong: bool = False) -> Prior:
    """Return a prior from the front of all configs of a table.

    The weight of an option, of an item of a subset, or of a part of a range of numbers is how much more frequent it is
    on the front than in the table, at most `MAX_WEIGHT`. A wrong prior has the reciprocal weights: it favours what the
    front lacks, as strongly.
    """
    error, cost = problem.truth, problem.cost
    on_front = np.array([not any((cost <= c) & (error <= e) & ((cost < c) | (error < e)))
                         for c, e in zip(cost, error, strict=True)])  # fmt: skip
    weights: dict[str, dict[str, float]] = {}
    for name, domain in problem.space.domains.items():
        active = np.array([name in params for params in problem.params])
        values = [params[name] for params in problem.params if name in params]
        front = on_front[active]
        if front.any():
            weights[name] = {key: weight ** (-1 if wrong else 1) for key, weight in _weights(domain, values, front)}
    return Prior(problem.space, weights)


def _weights(domain: Domain, values: list[object], front: NDArray[np.bool_]) -> Iterable[tuple[str, float]]:
    match domain:
        case Choice(labels=labels):
            for index, label in enumerate(labels):
                yield label, _ratio(np.array([value == index for value in values]), front)
        case Subset(labels=labels):
            for index, label in enumerate(labels):
                having = np.array([index in value for value in values])  # pyright: ignore[reportOperatorIssue]
                yield label, _ratio(having, front) / _ratio(~having, front)
        case _:
            numbers = np.array(values, dtype=float)
            for low, high in pairwise(_edges(numbers).tolist()):
                yield f"{low}..{high}", _ratio((numbers >= low) & (numbers <= high), front)


def _edges(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ends of intervals: one for each value if these are few, else thirds. No value is an inner end."""
    distinct = np.unique(numbers)
    between = (distinct[1:] + distinct[:-1]) / 2
    if len(distinct) > MAX_VALUES:
        thirds = np.quantile(numbers, [1 / 3, 2 / 3])
        between = np.unique(between[np.searchsorted(between, thirds).clip(0, len(between) - 1)])
    return np.array([distinct[0], *between, distinct[-1]])


def _ratio(inside: NDArray[np.bool_], front: NDArray[np.bool_]) -> float:
    """Return how much more frequent some configs are on the front than among all, at most `MAX_WEIGHT`."""
    # One more of each kind, as a front is small.
    ratio = (inside[front].sum() + 1) / (front.sum() + 2) * (len(inside) + 2) / (inside.sum() + 1)
    return float(np.clip(ratio, 1 / MAX_WEIGHT, MAX_WEIGHT))

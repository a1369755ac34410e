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


def prior_of(problem: Problem, wrong: bool = False) -> Prior:
    """Return a prior from the front of all configs of a table.

    The weight of an option, of a third of a range of numbers, or of an item of a subset is how much more frequent it is
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
            edges = np.unique(np.quantile(numbers, [0, 1 / 3, 2 / 3, 1]))
            for n, (low, high) in enumerate(pairwise(edges.tolist())):
                inside = (numbers >= low if n == 0 else numbers > low) & (numbers <= high)
                yield f"{low}..{high}", _ratio(inside, front)


def _ratio(inside: NDArray[np.bool_], front: NDArray[np.bool_]) -> float:
    """Return how much more frequent some configs are on the front than among all, at most `MAX_WEIGHT`."""
    # One more of each kind, as a front is small.
    ratio = (inside[front].sum() + 1) / (front.sum() + 2) * (len(inside) + 2) / (inside.sum() + 1)
    return float(np.clip(ratio, 1 / MAX_WEIGHT, MAX_WEIGHT))

"""The Pareto front of the trials of a search, and its hypervolume."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.analysis.pareto import Objectives, front, hypervolume
from search.ledger.history import History, Trial

#: without a limit, the reference point is the greatest value times this
_MARGIN = 1.1


def values(trials: Sequence[Trial], objectives: Objectives) -> NDArray[np.float64]:
    """Return the trials' objectives as an array (trials, objectives); NaN where one is not measured."""
    rows = [[trial.metrics.get(name, math.nan) for name in objectives] for trial in trials]
    return np.array(rows, dtype=float).reshape(-1, len(objectives))


def front_of(history: History, objectives: Objectives) -> list[Trial]:
    """Return the front of the finished trials in order of increasing cost (see `in_order`).

    Once the whole front has been confirmed, this is the front of the confirmed trials, by the means of their fresh
    seeds (see `settled`).
    """
    candidates = settled(history, objectives) or history.in_state("finished")
    return in_order(on_front(candidates, objectives), objectives)


def on_front(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Return the trials that no other one dominates, in the order given."""
    return [trials[index] for index in front(values(trials, objectives), list(objectives.values()))]


def settled(history: History, objectives: Objectives) -> list[Trial]:
    """Return the confirmed trials, each with the means of its fresh seeds as metrics (`Trial.settled`).

    The list is empty until all trials of the front have been confirmed. A trial whose retrainings all failed is left
    out.
    """
    finished = history.in_state("finished")
    if not all(trial.confirmed for trial in on_front(finished, objectives)):
        return []
    return [trial.settled() for trial in finished if trial.confirmed and trial.fresh]


def in_order(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Return the trials by increasing cost: the first objective that is a cost. Without one, best first."""
    costs = trials[0].cost if trials else {}
    order = next((name for name in objectives if name in costs), next(iter(objectives)))
    sign = 1 if objectives[order] == "min" else -1
    return sorted(trials, key=lambda trial: sign * trial.metrics[order])


def reference(trials: Sequence[Trial], objectives: Objectives, constraints: Mapping[str, Any]) -> list[float]:
    """Return the reference point for the hypervolume of a search, one value per objective.

    For an objective that is maximised (a rate) it is 0. For one that is minimised it is the upper limit in
    ``constraints`` (as in a spec, ``{"gflops": {"max": 1.0}}``), which makes hypervolumes comparable between searches;
    without a limit, 1.1 times the greatest finite value of ``trials``. The latter can only grow during a search, so the
    hypervolume never falls; to compare two moments of such a search, use one reference from all of its trials.
    """

    def farthest(name: str) -> float:
        limit = (constraints.get(name) or {}).get("max")
        if limit is not None:
            return float(limit)
        finite = [value for trial in trials if math.isfinite(value := trial.metrics.get(name, math.nan))]
        return _MARGIN * max(finite, default=0.0)

    return [0.0 if direction == "max" else farthest(name) for name, direction in objectives.items()]


def covered(trials: Sequence[Trial], objectives: Objectives, constraints: Mapping[str, Any]) -> float:
    """Return the hypervolume of finished trials from their own `reference`."""
    point = reference(trials, objectives, constraints)
    return hypervolume(values(trials, objectives), point, list(objectives.values()))


class Coverage:
    """The hypervolume of a search (`covered`) trial by trial: each step costs what the front costs, not all trials."""

    def __init__(self, objectives: Objectives, constraints: Mapping[str, Any]) -> None:
        self._objectives, self._constraints = objectives, constraints
        self._front: list[Trial] = []
        self._reference: list[float] | None = None

    def add(self, trial: Trial) -> float:
        """Add the next finished trial, and return the hypervolume from now on."""
        self._front = on_front([*self._front, trial], self._objectives)
        point = reference([trial], self._objectives, self._constraints)
        # Each value is a constant or grows with the trials.
        self._reference = [max(pair) for pair in zip(point, self._reference or point, strict=True)]
        return hypervolume(values(self._front, self._objectives), self._reference, list(self._objectives.values()))

"""The front of a search: which trials are best at their cost, how much they cover, and which one to take."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.analysis.pareto import Objectives, front, hypervolume
from search.ledger.history import History, Trial

_MARGIN = 1.1


def values(trials: Sequence[Trial], objectives: Objectives) -> NDArray[np.float64]:
    """Return the trials' objectives, (trials, objectives); NaN where one is not measured."""
    rows = [[trial.metrics.get(name, math.nan) for name in objectives] for trial in trials]
    return np.array(rows, dtype=float).reshape(-1, len(objectives))


def front_of(history: History, objectives: Objectives) -> list[Trial]:
    """Return the front of the finished trials, cheapest first (see `in_order`).

    Once they were trained again with fresh seeds it is the front of those, `Trial.settled`.
    """
    candidates = settled(history, objectives) or history.in_state("finished")
    return in_order(on_front(candidates, objectives), objectives)


def on_front(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Return those that no other one dominates, by number."""
    return [trials[index] for index in front(values(trials, objectives), list(objectives.values()))]


def settled(history: History, objectives: Objectives) -> list[Trial]:
    """Return the trials with fresh seeds, each with the mean of these; [] until the whole front was trained again."""
    finished = history.in_state("finished")
    if not all(trial.confirmed for trial in on_front(finished, objectives)):
        return []
    return [trial.settled() for trial in finished if trial.confirmed and trial.fresh]


def in_order(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Return the trials cheapest first, by the first objective that is a cost; without one, best first."""
    known = trials[0].cost if trials else {}
    order = next((name for name in objectives if name in known), next(iter(objectives)))
    sign = 1 if objectives[order] == "min" else -1
    return sorted(trials, key=lambda trial: sign * trial.metrics[order])


def reference(trials: Sequence[Trial], objectives: Objectives, constraints: Mapping[str, Any]) -> list[float]:
    """Return the point from which a search's hypervolume is measured.

    0 for what is maximised (rates of success). For what is minimised: its upper limit, where ``constraints`` (as in a
    spec, ``{"gflops": {"max": 1.0}}``) has one, which makes hypervolumes comparable between searches; else 1.1 times
    the greatest finite value of ``trials``. The latter can only move away while a search grows, so its hypervolume
    never falls; compare two moments of such a search with one reference, taken from all of its trials.
    """

    def far(name: str) -> float:
        limit = (constraints.get(name) or {}).get("max")
        if limit is not None:
            return float(limit)
        known = [value for trial in trials if math.isfinite(value := trial.metrics.get(name, math.nan))]
        return _MARGIN * max(known, default=0.0)

    return [0.0 if direction == "max" else far(name) for name, direction in objectives.items()]


def covered(trials: Sequence[Trial], objectives: Objectives, constraints: Mapping[str, Any]) -> float:
    """Return the hypervolume of finished trials from their own `reference`."""
    at = reference(trials, objectives, constraints)
    return hypervolume(values(trials, objectives), at, list(objectives.values()))

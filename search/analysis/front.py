"""The front of a search: which trials are best at their cost, how much they cover, and which one to take."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from search.analysis.pareto import Objectives, front, hypervolume, knee
from search.ledger.history import History, State, Trial

#: values in 0 ... 1 that are shown in percent
RATES = ("top1", "top5", "mean_class")


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


def pick(history: History, objectives: Objectives, rule: str) -> Trial:
    """Return the finished trial that ``rule`` names.

    ``knee``: see `knee`. ``best``: the best in the first objective. ``trial=ID``: that one. ``gflops<=X``, or any other
    metric or cost: the best in the first other objective among those within X. Of a front that was confirmed, trials
    have the means of their fresh seeds for metrics (`settled`).

    Raises ValueError, naming what there is, where no finished trial fits or the rule is none.
    """
    finished = history.in_state("finished")
    if match := re.fullmatch(r"trial\s*=\s*(\d+)", rule.strip()):
        trial = _by_number(history, int(match[1]))
        return next((other for other in settled(history, objectives) if other.number == trial.number), trial)
    bound = re.fullmatch(r"(\w+)\s*<=\s*([-+.\deE]+)", rule.strip())
    if rule not in ("knee", "best") and not bound:
        raise ValueError(f"pick: must be knee, best, trial=ID or NAME<=X, such as gflops<=0.5 (got {rule!r})")
    candidates = front_of(history, objectives)
    if not candidates:
        raise ValueError(f"pick {rule}: no trial is finished yet ({counts(history)}); wait, or resume the search")
    if rule == "knee":
        return candidates[knee(values(candidates, objectives), list(objectives.values()))]
    if bound:
        candidates = _within(finished, objectives, bound[1], bound[2])
    name = next((name for name in objectives if not bound or name != bound[1]), next(iter(objectives)))
    sign = 1 if objectives[name] == "max" else -1
    # Of equally good ones the first: the cheapest, for both lists are in that order.
    return max(candidates, key=lambda trial: sign * trial.metrics[name])


def _within(finished: list[Trial], objectives: Objectives, name: str, limit: str) -> list[Trial]:
    """Return the front among the trials with metric ``name`` at most ``limit``, cheapest first."""
    known = sorted(set.intersection(*(set(trial.metrics) for trial in finished)))
    if name not in known:
        raise ValueError(f"pick {name}<={limit}: no metric is named so; there are {', '.join(known)}")
    try:
        most = float(limit)
    except ValueError:
        raise ValueError(f"pick {name}<={limit}: {limit!r} is not a number") from None
    within = History(trials={trial.number: trial for trial in finished if trial.metrics[name] <= most})
    if candidates := front_of(within, objectives):
        return candidates
    least = min(trial.metrics[name] for trial in finished)
    raise ValueError(f"pick {name}<={limit}: no finished trial is within it; the least {name} is {least:.4g}")


def _by_number(history: History, number: int) -> Trial:
    finished = ", ".join(str(trial.number) for trial in history.in_state("finished")) or "none yet"
    trial = history.trials.get(number)
    if trial is None:
        raise ValueError(f"pick trial={number}: there is no such trial; finished are {finished}")
    if trial.state != "finished":
        state = {"stopped": "was stopped early", "proposed": "waits to be started"}.get(
            trial.state, f"is {trial.state}"
        )
        raise ValueError(
            f"pick trial={number}: it {state} after {trial.epoch} epochs, with partial metrics; finished are {finished}"
        )
    return trial


def tally(history: History) -> dict[State, int]:
    """Return how many trials are in each state that occurs."""
    states = [trial.state for trial in history.trials.values()]
    return {state: states.count(state) for state in get_args(State) if state in states}


def counts(history: History) -> str:
    """Return `tally` in words, such as "2 running, 5 finished"."""
    return ", ".join(f"{count} {state}" for state, count in tally(history).items()) or "no trial is proposed"

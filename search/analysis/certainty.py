"""How sure a front is: the interval of each trial, and from which other trials it differs significantly."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.analysis.confirmation import Confirmation, confirmation
from search.analysis.front import front_of, settled
from search.analysis.intervals import Estimate, by_clips, difference, num_clips, widened
from search.analysis.pareto import Objectives
from search.analysis.pick import pick
from search.ledger.history import History, Trial


@dataclass(frozen=True)
class Step:
    """Two neighbours on a front, and how much better the more expensive one is."""

    cheaper: Trial
    better: Trial
    gain: Estimate
    """of the measured objective; above 0 is better, also for a loss"""


@dataclass(frozen=True)
class Certainty:
    """A front and how sure it is."""

    name: str
    """the measured objective"""
    front: Sequence[Trial]
    """in order of increasing cost"""
    estimates: dict[int, Estimate]
    """of the measured objective, for every finished trial, by number; of the means of fresh seeds where the front was
    confirmed"""
    steps: Sequence[Step]
    rivals: dict[int, list[int]]
    """for each trial of the front: the finished trials of at most its cost that it does not differ from significantly,
    nearest first"""
    cheapest: frozenset[int]
    """those of the front beside which no finished trial costs as little"""
    best: Trial | None
    knee: Trial | None
    confirmed: Confirmation | None
    """what fresh seeds say; None until the front was trained again"""

    @property
    def is_confirmed(self) -> bool:
        """Whether the front is that of fresh seeds."""
        return self.confirmed is not None

    @property
    def unsure(self) -> list[Step]:
        """The steps of the front that are not significant."""
        return [step for step in self.steps if step.gain.is_known and not step.gain.excludes_zero]

    @property
    def picks(self) -> dict[str, Trial]:
        """The trials that the rules pick, by rule; empty until a trial is finished."""
        return {rule: trial for rule, trial in (("best", self.best), ("knee", self.knee)) if trial}

    def marks(self, trial: Trial) -> str:
        """Return the rules that pick a trial, such as "best knee"; empty if none does."""
        return " ".join(rule for rule, picked in self.picks.items() if picked.number == trial.number)

    def estimate(self, trial: Trial) -> Estimate:
        """Return the estimate of a trial; of one that is not finished, its last value without an interval."""
        return self.estimates.get(trial.number, Estimate(trial.metrics.get(self.name, math.nan)))


def measured_objective(history: History, objectives: Objectives) -> str:
    """Return the first objective that training measures."""
    costs = next((trial.cost for trial in history.trials.values()), {})
    return first_measured(objectives, costs)


def first_measured(objectives: Objectives, cost: Mapping[str, float]) -> str:
    """Return the first objective that is not a cost in ``cost``; the first of all if each is."""
    return next((name for name in objectives if name not in cost), next(iter(objectives)))


def certainty(history: History, objectives: Objectives) -> Certainty:
    """Return how sure the front of a search is; its lists are empty until a trial is finished."""
    name = measured_objective(history, objectives)
    sign = 1 if objectives[name] == "max" else -1
    front = front_of(history, objectives)
    means = {trial.number: trial for trial in settled(history, objectives)}
    confirmed = confirmation(history, objectives) if means else None
    estimates = _estimates(history, name, confirmed)
    compared = list(means.values()) or history.in_state("finished")
    compared.sort(key=lambda trial: -sign * trial.metrics.get(name, math.nan))
    by_number = {trial.number: trial for trial in front}
    best, knee = (by_number[pick(history, objectives, rule).number] if front else None for rule in ("best", "knee"))

    def gain(better: Trial, other: Trial) -> Estimate:
        a, b = estimates[better.number], estimates[other.number]
        return difference(a, b) if sign > 0 else difference(b, a)

    def costs_no_more(trial: Trial, other: Trial) -> bool:
        return all(trial.cost[cost] <= other.cost[cost] for cost in objectives if cost in trial.cost)

    as_cheap = {
        trial.number: [other for other in compared if other.number != trial.number and costs_no_more(other, trial)]
        for trial in front
    }
    return Certainty(
        name=name,
        front=front,
        estimates=estimates,
        steps=[Step(low, high, gain(high, low)) for low, high in itertools.pairwise(front)],
        rivals={
            trial.number: [
                other.number
                for other in as_cheap[trial.number]
                if (found := gain(trial, other)).is_known and not found.low > 0
            ]
            for trial in front
        },
        cheapest=frozenset(number for number, others in as_cheap.items() if not others),
        best=best,
        knee=knee,
        confirmed=confirmed,
    )


def _estimates(history: History, name: str, confirmed: Confirmation | None) -> dict[int, Estimate]:
    clips = num_clips(history)
    estimates = {
        trial.number: by_clips(name, trial.metrics.get(name, math.nan), clips) for trial in history.in_state("finished")
    }
    for row in confirmed.rows if confirmed else []:
        value, half = row.trial.metrics[name], row.half_width[name]
        estimate = by_clips(name, value, clips)
        # The half-width has both parts already; it is not known where no trial has two fresh seeds.
        estimates[row.trial.number] = widened(name, Estimate(value), half) if math.isfinite(half) else estimate
    return estimates

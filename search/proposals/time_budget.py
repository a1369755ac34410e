"""The time budget: no trial starts that is predicted to end after the hours or GPU hours of a search are spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

import numpy as np

from search.ledger.history import History, Trial
from search.spec.schema import Spec

#: least number of different costs from which the power is fitted; with fewer it is 0
MIN_COSTS = 3

#: lower bounds in front of a logarithm
MIN_GFLOPS = 1e-12
MIN_SECONDS = 1e-6


def spent(spec: Spec, history: History) -> float:
    """Return the spent share of a search's budget, the largest of trials, hours and GPU hours; 1 is all of it."""
    budget = spec.search.budget
    return history.spent(budget.trials, budget.hours, budget.gpu_hours)


@dataclass(frozen=True)
class EpochTime:
    """The seconds of one epoch as a power law of the model's cost: ``scale * gflops ** power``.

    Fitted by least squares to the logarithms of cost and of each trial's median epoch. The power is bounded by 0 (cost
    does not matter) and 1 (proportional to cost), and it is 0 for fewer than `MIN_COSTS` different costs. The scale
    makes the median residual 0.
    """

    scale: float
    power: float

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Self | None:
        """Return the fit to all trials that have reported an epoch; None if there is none."""
        reported = [trial for trial in trials if trial.reports]
        if not reported:
            return None
        cost = np.log([max(trial.cost["gflops"], MIN_GFLOPS) for trial in reported])
        time = np.log([max(median(report.seconds for report in trial.reports), MIN_SECONDS) for trial in reported])
        enough = len(set(cost.tolist())) >= MIN_COSTS
        power = float(np.clip(np.polyfit(cost, time, 1)[0], 0.0, 1.0)) if enough else 0.0
        return cls(float(np.exp(np.median(time - power * cost))), power)

    def seconds(self, gflops: float) -> float:
        """Return the predicted seconds of one epoch of a model."""
        return self.scale * max(gflops, MIN_GFLOPS) ** self.power


@dataclass(frozen=True)
class RemainingTime:
    """The part of a budget of time that is left for one more trial.

    Args:
        epoch_time: the predicted time of an epoch.
        gpus: the GPUs of the trial, of all its workers together.
        seconds: seconds that are left of ``hours``.
        gpu_seconds: GPU seconds that are left of ``gpu_hours``.
    """

    epoch_time: EpochTime
    gpus: float
    seconds: float
    gpu_seconds: float

    @classmethod
    def of(cls, history: History, hours: float | None, gpu_hours: float | None, gpus: float) -> Self | None:
        """Return the remaining time; None if the budget has no time limit or no epoch has ended yet.

        The GPU seconds that unfinished trials still need, if none of them is stopped, are subtracted.
        """
        if hours is None and gpu_hours is None:
            return None
        epoch_time = EpochTime.of([*history.trials.values(), *history.extras.values()])
        if epoch_time is None:
            return None
        reserved = sum(
            (trial.epochs - trial.epoch) * epoch_time.seconds(trial.cost["gflops"]) for trial in history.unfinished()
        )
        return cls(
            epoch_time,
            gpus,
            seconds=np.inf if hours is None else 3600 * hours - history.active,
            gpu_seconds=np.inf if gpu_hours is None else 3600 * gpu_hours - history.gpu_seconds - gpus * reserved,
        )

    def too_short_for(self, gflops: float, epochs: int) -> str | None:
        """Return the reason why a trial of this cost and length cannot end within the budget; None if it can."""
        needed = epochs * self.epoch_time.seconds(gflops)
        if needed > self.seconds:
            return f"would take about {needed:.0f} s, and of the budget {max(self.seconds, 0):.0f} s are left"
        if self.gpus * needed > self.gpu_seconds:
            left = max(self.gpu_seconds, 0)
            return f"would take about {self.gpus * needed:.0f} GPU-seconds, and of the budget {left:.0f} are left"
        return None

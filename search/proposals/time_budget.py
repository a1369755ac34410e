"""How long trials take, learnt from those that ran, so that none starts that could not end within the budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

import numpy as np

from search.ledger.history import History, Trial


@dataclass(frozen=True)
class Pace:
    """Seconds an epoch takes: ``scale * gflops ** power``.

    Fitted to the trials' median epochs, in logarithms, with a power of 0 (cost does not matter) to 1 (nothing else
    does); of fewer than three different costs it is 0.
    """

    scale: float
    power: float

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Self | None:
        """Learn from trials; None before the first epoch has ended."""
        began = [trial for trial in trials if trial.reports]
        if not began:
            return None
        cost = np.log([max(trial.cost["gflops"], 1e-12) for trial in began])
        time = np.log([max(median(report["seconds"] for report in trial.reports), 1e-6) for trial in began])
        power = float(np.clip(np.polyfit(cost, time, 1)[0], 0.0, 1.0)) if len(set(cost.tolist())) >= 3 else 0.0
        return cls(float(np.exp(np.median(time - power * cost))), power)

    def seconds(self, gflops: float) -> float:
        """Return how long an epoch of a model of that cost takes."""
        return self.scale * max(gflops, 1e-12) ** self.power


@dataclass(frozen=True)
class Rest:
    """What is left of a budget of time for one more trial, on ``gpus``."""

    pace: Pace
    gpus: float
    seconds: float
    gpu_seconds: float

    @classmethod
    def of(cls, history: History, hours: float | None, gpu_hours: float | None, gpus: float) -> Self | None:
        """Return what is left; None where nothing limits it or no epoch has ended.

        What the running trials still take, should they go on to their end, is not left of GPU-hours.
        """
        if hours is None and gpu_hours is None:
            return None
        pace = Pace.of([*history.trials.values(), *history.extras.values()])
        if pace is None:
            return None
        taken = sum((trial.epochs - trial.epoch) * pace.seconds(trial.cost["gflops"]) for trial in history.unfinished())
        return cls(
            pace,
            gpus,
            seconds=np.inf if hours is None else 3600 * hours - history.active,
            gpu_seconds=np.inf if gpu_hours is None else 3600 * gpu_hours - history.gpu_seconds - gpus * taken,
        )

    def too_short_for(self, gflops: float, epochs: int) -> str | None:
        """Return why a trial of that cost cannot end within it; None if it can."""
        needs = epochs * self.pace.seconds(gflops)
        if needs > self.seconds:
            return f"would take about {needs:.0f} s, and of the budget {max(self.seconds, 0):.0f} s are left"
        if self.gpus * needs > self.gpu_seconds:
            left = max(self.gpu_seconds, 0)
            return f"would take about {self.gpus * needs:.0f} GPU-seconds, and of the budget {left:.0f} are left"
        return None

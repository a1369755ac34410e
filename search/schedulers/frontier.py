"""Early stopping by the probability that a trial still improves the front at its cost."""

from dataclasses import dataclass
from math import exp, log
from statistics import NormalDist
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from search.analysis.front import on_front
from search.analysis.intervals import Z
from search.analysis.learning_curves import OFFSET, Curve, Curves, errors
from search.analysis.pareto import Objectives
from search.ledger.history import History, Trial
from search.schedulers.base import Scheduler, SchedulerConfig
from search.schedulers.halving import is_rung

#: factor from one epoch at which trials are judged to the next
SPACING = 2

#: finished trials until which no trial is stopped
MIN_FINISHED = 4

#: probability of improvement at which no trial is stopped, however certain its proposal was
MAX_THRESHOLD = 0.1


class FrontierConfig(SchedulerConfig, kind="frontier"):
    """Stop a trial when it is unlikely to end better than every finished trial of no higher cost.

    See `Frontier`.
    """

    kind: Literal["frontier"] = "frontier"
    min_epochs: int = Field(
        default=1,
        ge=1,
        description="epochs that every trial is trained for; it is judged then, and after twice, four times, ... as "
        "many, up to half of its epochs",
    )
    probability: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="a trial stops when its probability of improvement falls below this times its value when the "
        f"trial was proposed, and below {MAX_THRESHOLD:g}",
    )

    forecasts_one_objective: ClassVar[bool] = True

    @override
    def build(self, objectives: Objectives, measured: str) -> Scheduler:
        return Frontier(self.min_epochs, self.probability, objectives, measured)

    @override
    def rungs(self, epochs: int) -> set[int]:
        return {epoch for epoch in range(1, epochs) if is_look(epoch, epochs, self.min_epochs)}


@dataclass(frozen=True)
class Frontier:
    """Early stopping by the probability of improvement over the best finished trial of no higher cost.

    A trial is judged after ``min_epochs``, and after twice, four times, ... as many, up to half of its epochs: a later
    stop saves little and can lose as much. Its final error is forecast from
    its last epoch, from the error that the sampler predicted when it proposed the trial, and from its cost, by the
    steps from epoch to epoch of the other trials (`search.analysis.learning_curves.Curves`); the forecast of its
    logarithm is a normal distribution. A trial stops if the probability that its final error is below that of every
    finished trial of no higher cost is less than ``probability`` times the same probability at the time of its
    proposal, and less than `MAX_THRESHOLD`. The sampler's value at that time (``probability_of_front`` of
    `search.samplers.shared.frontier_sampler.FrontierSampler`) is part of the rule because a late proposal often has a
    small one, and the sampler chose the trial nevertheless; it counts as 1 for other samplers.

    Never stopped are trials of the sampler's initial design, and any trial before `MIN_FINISHED` have finished. An
    epoch stops no trial if the same test would have stopped, after as many epochs, a trial that is on the front today.
    So the learning curves decide how long the grace period is.

    Args:
        min_epochs: the epochs that every trial is trained for.
        probability: the threshold, 0 ... 1.
        objectives: the objectives and their directions.
        measured: the objective that training measures, a rate or a loss; all other objectives are costs.
    """

    min_epochs: int
    probability: float
    objectives: Objectives
    measured: str

    def verdict(self, history: History, number: int) -> str | None:
        """Return the reason why the trial should stop after its last reported epoch, or None."""
        trial = history.trials[number]
        if not is_look(trial.epoch, trial.epochs, self.min_epochs) or trial.why.get("initial"):
            return None
        test = Outlooks(history, self.objectives, self.measured)
        if len(test.finished) < MIN_FINISHED:
            return None
        outlook = test.outlook(trial, trial.epoch)
        if outlook is None or outlook.chance >= self._threshold(trial):
            return None
        spared = on_front(test.finished, self.objectives)
        for member in spared:
            then = test.outlook(member, trial.epoch)
            if then is not None and then.chance < self._threshold(member):
                return None
        return self._reason(trial, outlook, len(spared))

    def _threshold(self, trial: Trial) -> float:
        return min(self.probability * _proposed(trial), MAX_THRESHOLD)

    def _reason(self, trial: Trial, outlook: "Outlook", spared: int) -> str:
        direction = self.objectives[self.measured]
        name = "error" if direction == "max" else self.measured
        (rival,) = errors([outlook.rival.metrics[self.measured]], direction)
        mean, deviation = outlook.forecast
        low, middle, high = (exp(mean + sign * Z * deviation) - OFFSET for sign in (-1, 0, 1))
        proposed = f"{self.probability:g} times the {_percent(_proposed(trial))} that it was proposed with"
        if self._threshold(trial) == MAX_THRESHOLD:
            proposed = f"which is the most that is asked (it was proposed with {_percent(_proposed(trial))})"
        spares = f"all {spared} trials" if spared > 1 else "the trial"
        return (
            f"after epoch {trial.epoch} its chance of entering the front fell to {_percent(outlook.chance)}, under "
            f"{_percent(self._threshold(trial))}, {proposed}; its {name} is forecast to end at {middle:.3g} "
            f"({max(low, 0):.3g} to {high:.3g}), and trial {outlook.rival.number}, which costs no more, has "
            f"{rival:.3g}; the same test spares {spares} on today's front"
        )


@dataclass(frozen=True)
class Outlook:
    """What a test says of a trial: its chance of improvement, the forecast behind it, and its rival."""

    chance: float
    forecast: tuple[float, float]
    """mean and standard deviation of the logarithm of the final error + `OFFSET`"""
    rival: Trial
    """the best finished trial of no higher cost"""


class Outlooks:
    """The chances of trials to end better than every finished trial of no higher cost, by what a history knows."""

    def __init__(self, history: History, objectives: Objectives, measured: str) -> None:
        self._measured, self._objectives = measured, objectives
        self._costs = [name for name in objectives if name != measured]
        self._curves = {trial.number: self._curve(trial) for trial in history.trials.values() if trial.reports}
        self._forecasts = Curves(list(self._curves.values()))
        # A finished trial that diverged is no rival.
        finished = history.in_state("finished")
        sound = np.isfinite([self._curves[trial.number].errors[-1] for trial in finished])
        #: the finished trials
        self.finished = [trial for trial, is_sound in zip(finished, sound, strict=True) if is_sound]
        self._final = np.array([self._curves[trial.number].errors[-1] for trial in self.finished])
        self._cost = np.array([self._cost_of(trial) for trial in self.finished]).reshape(-1, len(self._costs))

    def outlook(self, trial: Trial, epoch: int) -> Outlook | None:
        """Return what is said of a trial after ``epoch``; None without a forecast or another trial of no higher cost.

        All that the history knows is used, also of a trial that has gone on since; it is no rival of its own.
        """
        curve = self._curves[trial.number]
        forecast = self._forecasts.forecast(curve._replace(errors=curve.errors[:epoch]))
        rivals = (self._cost <= self._cost_of(trial)).all(axis=1)
        rivals &= np.array([rival.number != trial.number for rival in self.finished], dtype=bool)
        if forecast is None or not rivals.any():
            return None
        best = int(np.where(rivals, self._final, np.inf).argmin())
        mean, deviation = forecast
        chance = float(self._final[best] > exp(mean) - OFFSET)  # of a trial that has ended
        if deviation:
            chance = NormalDist(mean, deviation).cdf(log(self._final[best] + OFFSET))
        return Outlook(chance, forecast, self.finished[best])

    def _cost_of(self, trial: Trial) -> list[float]:
        return [trial.cost[name] for name in self._costs]

    def _curve(self, trial: Trial) -> Curve:
        measured = errors(trial.curve(self._measured), self._objectives[self._measured])
        cost = trial.cost[self._costs[0]] if self._costs else None
        return Curve(measured, trial.epochs, trial.why.get("predicted_error"), cost)


def is_look(epoch: int, epochs: int, min_epochs: int) -> bool:
    """Return whether trials of ``epochs`` are judged after ``epoch``."""
    return 2 * epoch <= epochs and is_rung(epoch, min_epochs, SPACING)


def _proposed(trial: Trial) -> float:
    """Return the probability of improvement with which a trial was proposed."""
    return trial.why.get("probability_of_front", 1.0)


def _percent(probability: float) -> str:
    """Return a probability such as "21 %" or "0.4 %"."""
    percent = 100 * probability
    return f"{percent:.0f} %" if percent >= 9.5 else f"{percent:.1g} %" if percent >= 0.01 else "less than 0.01 %"

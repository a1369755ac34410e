"""Early stopping by the probability that a trial still improves the front at its cost."""

from dataclasses import dataclass
from math import exp, isfinite, log
from statistics import NormalDist
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from search.analysis.front import on_front
from search.analysis.intervals import Z
from search.analysis.learning_curves import MIN_CURVES, OFFSET, Curve, Curves, errors
from search.analysis.pareto import Direction, Objectives
from search.ledger.history import History, Trial
from search.schedulers.base import Scheduler, SchedulerConfig
from search.schedulers.halving import is_rung

#: factor from one epoch at which trials are judged to the next
SPACING = 2

#: finished trials until which no trial is stopped, unless more than MIN_CURVES have reached its epoch
MIN_FINISHED = 4

#: probability of improvement at which no trial is stopped, however certain its proposal was
MAX_THRESHOLD = 0.1


class FrontierConfig(SchedulerConfig, kind="frontier"):
    """Stop a trial when it is unlikely to end better than every other trial of no higher cost.

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
        f"trial was proposed, below this times what any trial on today's front had then, and below {MAX_THRESHOLD:g}",
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
    """Early stopping by the probability of improvement over the best other trial of no higher cost.

    A trial is judged after ``min_epochs``, and after twice, four times, ... as many, up to half of its epochs: a later
    stop saves little and can lose as much. Its final error is forecast from its last epoch, from the error that the
    sampler predicted when it proposed the trial, and from its cost, by the steps from epoch to epoch of the other
    trials (`search.analysis.learning_curves.Curves`); the forecast of its logarithm is a normal distribution. Its rival
    is the trial of no higher cost that it is least likely to end better than: a finished one, or one that still runs
    and is forecast in the same way, so that of several workers' trials that would all improve the front of today not
    each one is trained to its end. A trial's chance is the probability that its final error is below its rival's.

    A trial stops if its chance is less than ``probability`` times the least of these, and less than `MAX_THRESHOLD`:

    * the probability of improvement that it was proposed with (``probability_of_front`` of
      `search.samplers.shared.frontier_sampler.FrontierSampler`; 1 for other samplers). A late proposal often has a
      small one, and the sampler chose the trial nevertheless: its epochs must say something against it.
    * what the same test says, with all that is known today, of each trial on the front of finished trials after as
      many epochs. Where early epochs say little, one of them had a small chance too, and next to nothing is stopped.
      So the learning curves decide how long the grace period is.

    Never stopped are the first `MIN_CURVES` trials of the sampler's initial design. With many workers it has more, as
    no result is known when they begin; these are judged like others. Before `MIN_FINISHED` trials have finished, a
    trial stops only if more than `MIN_CURVES` have reached its epoch; each epoch that none has reached yet is then
    taken to be as uncertain as the last one.

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
        if not is_look(trial.epoch, trial.epochs, self.min_epochs) or is_spared(history, trial):
            return None
        test = Outlooks(history, self.objectives, self.measured)
        if not test.knows_enough(trial):
            return None
        outlook = test.outlook(trial, trial.epoch)
        if outlook is None or outlook.chance >= MAX_THRESHOLD:
            return None
        threshold, source = self._threshold(test, trial)
        return self._reason(trial, outlook, threshold, source) if outlook.chance < threshold else None

    def _threshold(self, test: "Outlooks", trial: Trial) -> tuple[float, str]:
        """Return the threshold for a trial's chance after its last epoch, and where it comes from."""
        proposed = trial.why.get("probability_of_front", 1.0)
        least, had = proposed, f"the {_percent(proposed)} that it was proposed with"
        for member in on_front(test.finished, self.objectives):
            # A running trial may yet be better than one on the front, so it is no rival here.
            then = test.outlook(member, trial.epoch, finished_only=True)
            if then is not None and then.chance < least:
                least = then.chance
                had = f"the {_percent(least)} that trial {member.number}, on today's front, had after as many epochs"
        if self.probability * least < MAX_THRESHOLD:
            source = f"{self.probability:g} times {had}"
        else:
            source = f"the highest threshold and less than {self.probability:g} times {had}"
        if not test.finished:
            source += f" (none has finished, so each epoch after {test.furthest(trial)} is as uncertain as that)"
        return min(self.probability * least, MAX_THRESHOLD), source

    def _reason(self, trial: Trial, outlook: "Outlook", threshold: float, source: str) -> str:
        direction = self.objectives[self.measured]
        name = "error" if direction == "max" else self.measured
        rival = f"trial {outlook.rival.number}, which costs no more, "
        if outlook.rival.state == "finished":
            (final,) = errors([outlook.rival.metrics[self.measured]], direction)
            rival += f"has {_error(final, direction)}"
        else:
            rival += f"has not ended and is forecast to end at {_range(outlook.rival_forecast, direction)}"
        chance, below = _distinct(outlook.chance, threshold)
        return (
            f"after epoch {trial.epoch} its chance of entering the front fell to {chance}, under {below}, {source}; "
            f"its {name} is forecast to end at {_range(outlook.forecast, direction)}, and {rival}"
        )


@dataclass(frozen=True)
class Outlook:
    """What a test says of a trial: its chance of improvement, the forecast behind it, and its rival."""

    chance: float
    forecast: tuple[float, float]
    """mean and standard deviation of the logarithm of the final error + `OFFSET`"""
    rival: Trial
    """the trial of no higher cost that it is least likely to end better than"""
    rival_forecast: tuple[float, float]
    """that of the rival; without deviation if it has finished"""


class Outlooks:
    """The chances of trials to end better than every other trial of no higher cost, by what a history knows."""

    def __init__(self, history: History, objectives: Objectives, measured: str) -> None:
        self._history, self._measured, self._objectives = history, measured, objectives
        self._costs = [name for name in objectives if name != measured]
        self._curves = {trial.number: self._curve(trial) for trial in history.trials.values() if trial.reports}
        self._forecasts = Curves(list(self._curves.values()))
        # A trial that diverged is no rival.
        #: the finished trials
        self.finished = [trial for trial in history.in_state("finished") if isfinite(self._last_error(trial))]
        known = [(trial, (log(self._last_error(trial) + OFFSET), 0.0)) for trial in self.finished]
        for trial in history.in_state("running", "proposed"):
            if trial.reports and (forecast := self._forecasts.forecast(self._curves[trial.number])):
                known.append((trial, forecast))
        self._rivals = [trial for trial, _ in known]
        self._ends = np.array([end for _, end in known]).reshape(-1, 2)
        self._cost = np.array([self._cost_of(trial) for trial in self._rivals]).reshape(-1, len(self._costs))

    def outlook(self, trial: Trial, epoch: int, *, finished_only: bool = False) -> Outlook | None:
        """Return what is said of a trial after ``epoch``; None without a forecast or another trial of no higher cost.

        All that the history knows is used, also of a trial that has gone on since; it is no rival of its own. With
        ``finished_only`` no running trial is a rival.
        """
        curve = self._curves[trial.number]
        forecast = self._forecasts.forecast(curve._replace(errors=curve.errors[:epoch]))
        is_rival = (self._cost <= self._cost_of(trial)).all(axis=1)
        is_rival &= np.array([rival.number != trial.number for rival in self._rivals], dtype=bool)
        if finished_only:
            is_rival[len(self.finished) :] = False
        rivals = np.flatnonzero(is_rival)
        if forecast is None or not len(rivals):
            return None
        ahead, deviation = self._ends[rivals, 0] - forecast[0], np.hypot(self._ends[rivals, 1], forecast[1])
        with np.errstate(divide="ignore", invalid="ignore"):  # two trials that have ended: one is ahead, or neither
            distance = np.where(deviation > 0, ahead / deviation, np.where(ahead > 0, np.inf, -np.inf))
        nearest = int(distance.argmin())
        least = rivals[nearest]
        mean, spread = self._ends[least]
        return Outlook(NormalDist().cdf(distance[nearest]), forecast, self._rivals[least], (float(mean), float(spread)))

    def knows_enough(self, trial: Trial) -> bool:
        """Return whether enough trials have finished, or have reached the epoch of a trial, to stop it there."""
        reached = sum(other.epoch >= trial.epoch for other in self._like(trial))
        return len(self.finished) >= MIN_FINISHED or reached > MIN_CURVES

    def furthest(self, trial: Trial) -> int:
        """Return the last epoch that a trial of the same length has reached."""
        return max(other.epoch for other in self._like(trial))

    def _like(self, trial: Trial) -> list[Trial]:
        return [other for other in self._history.trials.values() if other.epochs == trial.epochs]

    def _last_error(self, trial: Trial) -> float:
        return self._curves[trial.number].errors[-1]

    def _cost_of(self, trial: Trial) -> list[float]:
        return [trial.cost[name] for name in self._costs]

    def _curve(self, trial: Trial) -> Curve:
        measured = errors(trial.curve(self._measured), self._objectives[self._measured])
        cost = trial.cost[self._costs[0]] if self._costs else None
        return Curve(measured, trial.epochs, trial.why.get("predicted_error"), cost)


def is_look(epoch: int, epochs: int, min_epochs: int) -> bool:
    """Return whether trials of ``epochs`` are judged after ``epoch``."""
    return 2 * epoch <= epochs and is_rung(epoch, min_epochs, SPACING)


def is_spared(history: History, trial: Trial) -> bool:
    """Return whether a trial is one of the first `MIN_CURVES` of the sampler's initial design."""
    earlier = (other for other in history.trials.values() if other.number < trial.number)
    return bool(trial.why.get("initial")) and sum(bool(other.why.get("initial")) for other in earlier) < MIN_CURVES


def _range(forecast: tuple[float, float], direction: Direction) -> str:
    """Return a forecast of an error such as "32.0 % (28.1 to 36.4 %)"; a rate's is at most 100 %."""
    mean, deviation = forecast
    low, middle, high = (exp(mean + sign * Z * deviation) - OFFSET for sign in (-1, 0, 1))
    from_low = _error(low, direction).removesuffix(" %")
    return f"{_error(middle, direction)} ({from_low} to {_error(high, direction)})"


def _error(error: float, direction: Direction) -> str:
    """Return an error in words: in percent where it is that of a rate, which is to be high."""
    return f"{100 * min(max(error, 0), 1):.1f} %" if direction == "max" else f"{max(error, 0):.3g}"


def _distinct(chance: float, threshold: float) -> tuple[str, str]:
    """Return two probabilities with as many digits as tell them apart."""
    texts = [(_percent(chance, digits), _percent(threshold, digits)) for digits in range(1, 6)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[-1])


def _percent(probability: float, digits: int = 1) -> str:
    """Return a probability such as "21 %" or "0.4 %", with more significant ``digits`` if wanted."""
    percent = 100 * probability
    whole = len(f"{percent:.0f}")
    return f"{percent:.{max(whole, digits)}g} %" if percent >= 0.01 else "less than 0.01 %"

"""Early stopping: a pure decision on the history of a search, so that a replayed ledger decides the same."""

from dataclasses import dataclass
from math import ceil, isfinite, log
from statistics import NormalDist
from typing import Protocol

from search.curves import OFFSET, Curves, errors
from search.ledger import History, Trial
from search.pareto import Objectives, layers


class Scheduler(Protocol):
    """Decides after each epoch of a trial."""

    def verdict(self, history: History, number: int) -> str | None:
        """Return why the trial should stop after its last reported epoch, or None."""


#: the least rank correlation with the end at which an epoch may stop a trial
AGREEMENT = 0.7


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving (Li et al., MLSys 2020) on all objectives at once.

    At each rung, the epochs ``min_epochs * reduction ** k``, trials are ranked by layers of non-dominated points: the
    front, the front of the rest, and so on. A trial goes on if its layer is among the first that together hold
    1 / reduction of the trials seen at this rung; so one that nobody beats at its own cost is never stopped, and no
    metric is made up of two. Of fewer than ``reduction`` trials, none is yet known to be in the worse part.
    """

    min_epochs: int
    reduction: int
    objectives: Objectives

    def verdict(self, history: History, number: int) -> str | None:
        """Return why the trial should stop after its last reported epoch, or None."""
        epoch = history.trials[number].epoch
        if not is_rung(epoch, self.min_epochs, self.reduction):
            return None
        at_rung = {
            trial.number: tuple((trial.cost | trial.reports[epoch - 1]["metrics"])[name] for name in self.objectives)
            for trial in history.trials.values()
            if trial.epoch >= epoch
        }
        if len(at_rung) < self.reduction:
            return None
        keep = ceil(len(at_rung) / self.reduction)
        numbers, kept = list(at_rung), set[int]()
        for layer in layers(list(at_rung.values()), list(self.objectives.values())):
            kept |= {numbers[i] for i in layer}
            if len(kept) >= keep:
                break
        if number in kept:
            return None
        return f"rung of epoch {epoch}: behind {len(kept)} of {len(at_rung)} trials, of which the best {keep} go on"


def is_rung(epoch: int, min_epochs: int, reduction: int) -> bool:
    """Whether halving judges trials after ``epoch``: at ``min_epochs``, and each time ``reduction`` times as many."""
    rung = min_epochs
    while rung < epoch:
        rung *= reduction
    return rung == epoch


@dataclass(frozen=True)
class Frontier:
    """Stops a trial that will hardly enter the front at its own price.

    ``measured``, a rate or a loss, is the objective that training tells. What a trial will come to is forecast from its
    last epoch, by all that went on from there (`search.curves`). A trial ends where the chance that it will be better
    than every finished one of no more cost is below ``probability`` times what it was when the trial was proposed: the
    frontier sampler knew that of a late proposal little can be hoped, and chose to try it. What error it expected is
    left out: in a small search that is far too sure. An epoch whose order of trials says little of the order at the
    end (Spearman's correlation below `AGREEMENT`), or nothing yet, stops none: so the grace is as long as the curves
    demand.
    """

    min_epochs: int
    probability: float
    objectives: Objectives
    measured: str

    def verdict(self, history: History, number: int) -> str | None:
        """Return why the trial should stop after its last reported epoch, or None."""
        trial = history.trials[number]
        if trial.epoch < self.min_epochs:
            return None
        known = {other.number: self._errors(other) for other in history.trials.values() if other.reports}
        # What diverged is nobody's rival.
        ended = [other for other in history.in_state("finished") if isfinite(known[other.number][-1])]
        rivals = [(known[other.number][-1], other) for other in ended if self._costs_no_more(other, trial)]
        curves = Curves([(curve, history.trials[other].epochs) for other, curve in known.items()])
        agreement = curves.agreement(trial.epoch, trial.epochs)
        forecast = curves.forecast(known[number], trial.epochs)
        if not rivals or forecast is None or agreement is None or agreement < AGREEMENT:
            return None
        least, best = min(rivals, key=lambda rival: rival[0])
        chance = NormalDist(*forecast).cdf(log(least + OFFSET))
        asked = self.probability * trial.why.get("probability_of_front", 1.0)
        if chance >= asked:
            return None
        return (
            f"epoch {trial.epoch}: a chance of {chance:.2%} to end better than trial {best.number}, which costs no "
            f"more; at least {asked:.2%} is asked (rank correlation with the end so far: {agreement:.2f})"
        )

    def _errors(self, trial: Trial) -> list[float]:
        return errors(trial.curve(self.measured), self.objectives[self.measured])

    def _costs_no_more(self, other: Trial, trial: Trial) -> bool:
        return all(other.cost[name] <= trial.cost[name] for name in self.objectives if name != self.measured)

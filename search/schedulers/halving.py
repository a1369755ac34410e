"""Asynchronous successive halving on all objectives at once, by non-dominated sorting."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from pydantic import Field
from typing_extensions import override

from search.analysis.pareto import Objectives, layers
from search.ledger.history import History
from search.schedulers.base import Scheduler, SchedulerConfig


class HalvingConfig(SchedulerConfig, kind="halving"):
    """Asynchronous successive halving: at each rung, the best 1 / ``reduction`` of the trials continue.

    Rungs are the epochs ``min_epochs * reduction ** k``. Trials are ranked by non-dominated sorting. See `Halving`.
    """

    kind: Literal["halving"] = "halving"
    min_epochs: int = Field(default=1, ge=1, description="epochs before the first rung")
    reduction: int = Field(default=3, ge=2, description="factor from one rung to the next; 1 / reduction continue")

    @override
    def build(self, objectives: Objectives, measured: str) -> Scheduler:
        return Halving(self.min_epochs, self.reduction, objectives)

    @override
    def expected_epochs(self, epochs: int) -> float:
        done, rung, share, total = 0, self.min_epochs, 1.0, 0.0
        while rung < epochs:
            total += share * (rung - done)
            done, rung, share = rung, rung * self.reduction, share / self.reduction
        return total + share * (epochs - done)

    @override
    def rungs(self, epochs: int) -> set[int]:
        return {epoch for epoch in range(1, epochs) if is_rung(epoch, self.min_epochs, self.reduction)}


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving (ASHA) with non-dominated sorting in place of one metric.

    Liam Li, Kevin Jamieson, Afshin Rostamizadeh, Ekaterina Gonina, Jonathan Ben-tzur, Moritz Hardt, Benjamin Recht and
    Ameet Talwalkar, "A System for Massively Parallel Hyperparameter Tuning", Proceedings of Machine Learning and
    Systems (MLSys) 2, 2020. This is its stopping variant: a trial is judged once at each rung, by the trials that have
    reported that rung so far, and never resumes.

    At a rung, the trials are sorted into layers: the front, the front of the remaining trials, and so on (the sorting
    of NSGA-II). A trial continues if it is in one of the first layers that together hold 1 / ``reduction`` of the
    trials seen at this rung. So a trial that no other trial dominates is never stopped, and no weighted sum of
    objectives is needed. With fewer than ``reduction`` trials at a rung, none stops. A trial whose metrics are not
    finite is in no layer and stops.

    Args:
        min_epochs: the epochs of the first rung.
        reduction: the factor from one rung to the next.
        objectives: the objectives and their directions; metrics and costs.
    """

    min_epochs: int
    reduction: int
    objectives: Objectives

    def verdict(self, history: History, number: int) -> str | None:
        """Return the reason why the trial should stop after its last reported epoch, or None."""
        epoch = history.trials[number].epoch
        if not is_rung(epoch, self.min_epochs, self.reduction):
            return None
        at_rung = {
            trial.number: tuple((trial.cost | trial.reports[epoch - 1].metrics)[name] for name in self.objectives)
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
    """Return whether ``epoch`` is a rung: ``min_epochs`` times a power of ``reduction``."""
    rung = min_epochs
    while rung < epoch:
        rung *= reduction
    return rung == epoch

"""Early stopping: a pure decision on the history of a search, so that a replayed ledger decides the same."""

from dataclasses import dataclass
from math import ceil

from search.analysis.pareto import Objectives, layers
from search.ledger.history import History


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

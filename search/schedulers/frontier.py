"""Early stopping: a pure decision on the history of a search, so that a replayed ledger decides the same."""

from dataclasses import dataclass
from math import isfinite, log
from statistics import NormalDist

from search.analysis.learning_curves import OFFSET, Curves, errors
from search.analysis.pareto import Objectives
from search.ledger.history import History, Trial

#: the least rank correlation with the end at which an epoch may stop a trial
AGREEMENT = 0.7


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

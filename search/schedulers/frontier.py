"""Early stopping by the probability that a trial still improves the front at its cost."""

from dataclasses import dataclass
from math import isfinite, log
from statistics import NormalDist
from typing import ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from search.analysis.learning_curves import OFFSET, Curves, errors
from search.analysis.pareto import Objectives
from search.ledger.history import History, Trial
from search.schedulers.base import Scheduler, SchedulerConfig

#: smallest rank correlation (Spearman) between the errors after an epoch and the final errors at which the epoch may
#: stop a trial
AGREEMENT = 0.7


class FrontierConfig(SchedulerConfig, kind="frontier"):
    """Stop a trial when it is unlikely to end better than every finished trial of no higher cost.

    See `Frontier`.
    """

    kind: Literal["frontier"] = "frontier"
    min_epochs: int = Field(default=1, ge=1, description="epochs that every trial is trained for")
    probability: float = Field(
        default=0.03,
        gt=0,
        lt=1,
        description="a trial stops when its probability of improvement falls below this times its value when the "
        "trial was proposed",
    )

    forecasts_one_objective: ClassVar[bool] = True

    @override
    def build(self, objectives: Objectives, measured: str) -> Scheduler:
        return Frontier(self.min_epochs, self.probability, objectives, measured)


@dataclass(frozen=True)
class Frontier:
    """Early stopping by the probability of improvement over the best finished trial of no higher cost.

    The final error of a trial is forecast from its last epoch, by the steps from epoch to epoch of the other trials
    (`search.analysis.learning_curves.Curves`); the forecast of its logarithm is a normal distribution. A trial stops if
    the probability that its final error is below that of every finished trial of no higher cost is less than
    ``probability`` times the same probability at the time of its proposal. The sampler's value at that time
    (``probability_of_front`` of `search.samplers.shared.frontier_sampler.FrontierSampler`) is part of the rule because
    a late proposal often has a small one, and the sampler chose the trial nevertheless; it counts as 1 for other
    samplers. The error that the sampler predicted is not used: in a small search its standard deviation is far too
    small.

    An epoch stops no trial if its ranking of trials says too little about the final ranking (Spearman's rank
    correlation below `AGREEMENT`, or not known yet). So the learning curves decide how long the grace period is.

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
        if trial.epoch < self.min_epochs:
            return None
        curve_of = {known.number: self._errors(known) for known in history.trials.values() if known.reports}
        # A finished trial that diverged is no rival.
        finished = [rival for rival in history.in_state("finished") if isfinite(curve_of[rival.number][-1])]
        rivals = [(curve_of[rival.number][-1], rival) for rival in finished if self._costs_no_more(rival, trial)]
        curves = Curves([(curve, history.trials[n].epochs) for n, curve in curve_of.items()])
        agreement = curves.agreement(trial.epoch, trial.epochs)
        forecast = curves.forecast(curve_of[number], trial.epochs)
        if not rivals or forecast is None or agreement is None or agreement < AGREEMENT:
            return None
        smallest_error, best = min(rivals, key=lambda pair: pair[0])
        probability = NormalDist(*forecast).cdf(log(smallest_error + OFFSET))
        threshold = self.probability * trial.why.get("probability_of_front", 1.0)
        if probability >= threshold:
            return None
        return (
            f"epoch {trial.epoch}: a chance of {probability:.2%} to end better than trial {best.number}, which costs "
            f"no more; at least {threshold:.2%} is asked (rank correlation with the end so far: {agreement:.2f})"
        )

    def _errors(self, trial: Trial) -> list[float]:
        return errors(trial.curve(self.measured), self.objectives[self.measured])

    def _costs_no_more(self, rival: Trial, trial: Trial) -> bool:
        return all(rival.cost[name] <= trial.cost[name] for name in self.objectives if name != self.measured)

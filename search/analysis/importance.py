"""How much each choice matters for being on the front: PED-ANOVA of Optuna, over choices as categories.

Source: "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces" (Watanabe, Bansal, Hutter,
IJCAI 2023); for several objectives and conditional choices as in Optuna. It compares how often options occur among the
trials nearest to the front with how often they occur at all. So it says which choices decide, not which option is best.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from search.analysis.choices import Choice
from search.analysis.pareto import Objectives
from search.analysis.runs import Run

#: runs below which importances are mostly chance
ENOUGH_RUNS = 50
#: runs that count as nearest to the front, at least
_MIN_NEAREST = 6
#: their share of all runs, at least
_NEAREST = 0.2


@dataclass(frozen=True)
class Importances:
    """The importance of each choice."""

    shares: dict[str, float]
    """by the name of the choice, greatest first; they add up to 1, or are all 0"""
    runs: int
    forecasts: int
    """how many of the runs are forecasts of stopped trials"""

    @property
    def has_few_runs(self) -> bool:
        """Whether there are fewer than `ENOUGH_RUNS` runs."""
        return self.runs < ENOUGH_RUNS


def importances(choices: Sequence[Choice], runs: Sequence[Run], objectives: Objectives, measured: str) -> Importances:
    """Return the importance of each choice for being near the front of the objectives.

    ``runs`` include the forecasts of stopped trials, as values of ``measured``; other objectives are costs.
    """
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    known = [run for run in runs if all(math.isfinite(value) for value in _values(run, objectives, measured))]
    count = len(known)
    nearest = min(count, max(_MIN_NEAREST, math.ceil(_NEAREST * count)))
    shares = {choice.name: 0.0 for choice in choices}
    seen = {choice.name: {choice.taken.get(run.trial.number) for run in known} - {None} for choice in choices}
    varied = [choice for choice in choices if len(seen[choice.name]) > 1]
    if nearest < count and varied:
        distributions: dict[str, BaseDistribution] = {
            choice.name: CategoricalDistribution(tuple(range(len(choice.options)))) for choice in varied
        }
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(
                directions=["maximize" if direction == "max" else "minimize" for direction in objectives.values()]
            )
            study.add_trials([
                optuna.trial.create_trial(
                    params={c.name: c.taken[number] for c in varied if number in c.taken},
                    distributions={c.name: distributions[c.name] for c in varied if number in c.taken},
                    values=_values(run, objectives, measured),
                )
                for run in known
                for number in [run.trial.number]
            ])  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                evaluator = PedAnovaImportanceEvaluator(target_quantile=nearest / count)
                shares |= get_param_importances(study, evaluator=evaluator)
        finally:
            optuna.logging.set_verbosity(verbosity)
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return Importances(ordered, count, sum(run.is_forecast for run in known))


def _values(run: Run, objectives: Objectives, measured: str) -> list[float]:
    return [run.value if name == measured else run.trial.metrics.get(name, math.nan) for name in objectives]

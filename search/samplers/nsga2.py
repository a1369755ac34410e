"""NSGA-II: a multi-objective evolutionary algorithm."""

from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from search.samplers.base import SamplerConfig, SearchContext

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler


class NSGA2Config(SamplerConfig, kind="nsga2"):
    """NSGA-II as Optuna implements it.

    Kalyanmoy Deb, Amrit Pratap, Sameer Agarwal and T. Meyarivan, "A fast and elitist multiobjective genetic algorithm:
    NSGA-II", IEEE Transactions on Evolutionary Computation 6(2), 2002. The first 50 trials are random.
    """

    kind: Literal["nsga2"] = "nsga2"

    def build(self, context: SearchContext, seed: int) -> "BaseSampler":
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=seed)

    @override
    def prepare_fixed(self, trial: "optuna.Trial") -> None:
        # The fixed params replace these, but reading them makes Optuna assign the trial to a generation.
        _ = trial.relative_params

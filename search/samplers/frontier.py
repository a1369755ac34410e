"""The frontier sampler: expected hypervolume improvement, where the cost of a config is known."""

from typing import TYPE_CHECKING, ClassVar, Literal

from search.samplers.base import SamplerConfig, SearchContext

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class FrontierConfig(SamplerConfig, kind="frontier"):
    """Propose the config within the limits with the largest expected hypervolume improvement of the front.

    Only the measured objective is modelled, by a Gaussian process. See
    `search.samplers.shared.frontier_sampler.FrontierSampler`.
    """

    kind: Literal["frontier"] = "frontier"

    keeps_state: ClassVar[bool] = True
    forecasts_one_objective: ClassVar[bool] = True
    uses_prior: ClassVar[bool] = True

    def build(self, context: SearchContext, seed: int) -> "BaseSampler":
        from search.samplers.shared.frontier_sampler import FrontierSampler  # Optuna takes a second to import

        return FrontierSampler(
            context.space,
            context.cost,
            context.objectives,
            context.measured,
            self.seed,
            context.spent,
            context.prior,
        )

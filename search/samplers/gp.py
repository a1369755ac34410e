"""Optuna's Gaussian process sampler."""

from typing import TYPE_CHECKING, Literal

from search.samplers.base import SamplerConfig, SearchContext

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class GPConfig(SamplerConfig, kind="gp"):
    """Optuna's Bayesian optimisation: a Gaussian process for each objective, and log expected improvement.

    With several objectives the acquisition is the logarithm of the expected hypervolume improvement. It models the cost
    too, although that is known; the frontier sampler does not.
    """

    kind: Literal["gp"] = "gp"

    def build(self, context: SearchContext, seed: int) -> "BaseSampler":
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed)

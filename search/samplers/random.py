"""Random search: every proposal is drawn independently."""

from typing import TYPE_CHECKING, Literal

from search.samplers.base import SamplerConfig, SearchContext

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class RandomConfig(SamplerConfig, kind="random"):
    """Draw every range uniformly, or log-uniformly where it has ``log: true``."""

    kind: Literal["random"] = "random"

    def build(self, context: SearchContext, seed: int) -> "BaseSampler":
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)

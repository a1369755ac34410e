"""The base of every sampler: a config of its ``kind`` that builds an Optuna sampler for one search."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from search.analysis.pareto import Objectives
from spaces.prior import Prior
from spaces.space import Params, Space
from vattn.base import Kinded

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class SearchContext:
    """The parts of a search that a sampler may use.

    Args:
        space: the ranges of the trial config.
        objectives: the objectives and their directions, in the order of the study's values.
        measured: the first objective that training measures; the cost of a config is known before training.
        cost: returns the cost of a config by its params, or None if the config breaks a limit.
        spent: returns the spent share of the budget, 0 ... 1.
        prior: which values the user expects to be good (``search.prior``); None where nothing is expected.
    """

    space: Space
    objectives: Objectives
    measured: str
    cost: Callable[[Params], Mapping[str, float] | None]
    spent: Callable[[], float]
    prior: Prior | None = None


class SamplerConfig(Kinded):
    """Which sampler proposes the configs of a search.

    A subclass names its ``kind`` and implements `build`. Reading a spec imports every subclass, so its file imports
    Optuna and other large packages inside `build` only. The built sampler may have an attribute ``why``: a mapping of
    JSON values that explains its last proposal, which `vattn why` shows.
    """

    kind: str
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="seed of all proposals; a resumed search draws what it would have drawn"
    )

    keeps_state: ClassVar[bool] = False
    """Whether one sampler serves the whole search and sees the learning curves of running trials.

    Otherwise a new sampler is built for each proposal. Its seed depends on the number of earlier proposals only, so
    that a resumed search proposes what an uninterrupted one would have proposed. A sampler that keeps its state must
    guarantee this itself.
    """

    forecasts_one_objective: ClassVar[bool] = False
    """Whether it works only with exactly one objective that training measures."""

    uses_prior: ClassVar[bool] = False
    """Whether it uses the user's prior; a spec with one and another sampler is refused."""

    def build(self, context: SearchContext, seed: int) -> "BaseSampler":
        """Return the Optuna sampler.

        Args:
            context: the search.
            seed: the seed of this proposal, derived from ``self.seed`` and the number of earlier proposals.
        """
        raise NotImplementedError

    def prepare_fixed(self, trial: "optuna.Trial") -> None:
        """Prepare a new trial whose params are fixed, because the ledger or the search chose them, not this sampler."""

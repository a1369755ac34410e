"""The candidates of the frontier sampler: configs of a space within the limits, as points for the surrogate."""

import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spaces.encoding import Encoding
from spaces.prior import Prior
from spaces.space import Params, Space

Array = NDArray[np.float64]

#: the costs of a config by name, such as gflops; known before training
Costs = Mapping[str, float]

#: combinations of a space up to which all configs are candidates of every proposal
MAX_ENUMERATED = 20_000

#: Blocks of random candidates of one proposal in a larger space. The next proposal replaces the first block, so that
#: most candidates, and their costs, are known already.
BLOCKS = 5

#: candidates in a block
BLOCK_SIZE = 400

#: samples of the space that are drawn for one candidate of a block at most, if few configs are within the limits
DRAWS_PER_CANDIDATE = 50

#: random neighbours, with one value changed, of each config on the front
NEIGHBOURS = 40

#: samples of the space from which a config of the initial design is chosen
DESIGN_SAMPLES = 512

#: lower bound of a cost in front of a logarithm
MIN_COST = 1e-12


@dataclass(frozen=True)
class Candidate:
    """A config that can be proposed.

    ``point`` (columns) is its encoding for the surrogate: the columns of the space, then the logarithm of each cost.
    ``log_prior`` is the logarithm of its density under the user's prior, relative to random configs.
    """

    params: Params
    point: Array
    costs: Costs
    log_prior: float = 0.0

    @cached_property
    def key(self) -> Hashable:
        """The identity of the candidate."""
        return params_key(self.params)

    @cached_property
    def options(self) -> set[str]:
        """The chosen options that have ranges of their own, by the prefix of the names of these ranges."""
        return {name.rpartition("/")[0] for name in self.params if "/" in name}


@dataclass(frozen=True)
class Observation:
    """The final error of a config; ``deviation`` is the standard deviation of its logarithm if it is a forecast."""

    candidate: Candidate
    error: float
    deviation: float = 0.0


class CandidatePool:
    """The configs among which a proposal chooses.

    In a space of at most `MAX_ENUMERATED` combinations these are all configs within the limits. In a larger space they
    are random configs and random neighbours of the configs on the front. They depend only on the seed, the number of
    the proposal and the front, so that a resumed search has the same candidates. With a prior, every second block of
    random configs is drawn from it.

    Args:
        space: the space.
        cost: returns the costs of a config by its params, or None if it is over a limit.
        seed: the seed of all samples.
        prior: which values the user expects to be good.
    """

    def __init__(
        self, space: Space, cost: Callable[[Params], Costs | None], seed: int = 0, prior: Prior | None = None
    ) -> None:
        self._space, self._cost, self.seed, self._encode = space, cost, seed, Encoding(space.domains)
        self.prior = prior
        size = space.size()
        self._enumerated: dict[Hashable, Candidate] | None = None
        if size is not None and size <= MAX_ENUMERATED:
            self._enumerated = self._within_limits(params for params, _ in space.enumerate())
        self._blocks: dict[int, dict[Hashable, Candidate]] = {}

    @property
    def groups(self) -> list[int]:
        """The group of each column of the space; the columns of one range form a group."""
        return self._encode.groups.tolist()

    def candidate(self, params: Params) -> Candidate | None:
        """Return the candidate with these params; None if it is over a limit."""
        if self._enumerated and (known := self._enumerated.get(params_key(params))):
            return known
        costs = self._cost(params)
        if costs is None:
            return None
        # The costs are part of the point because accuracy depends on them too.
        logs = np.log(np.maximum(list(costs.values()), MIN_COST))
        log_prior = self.prior.log_density(params) if self.prior else 0.0
        return Candidate(params, np.concatenate([self._encode(params), logs]), costs, log_prior)

    def candidates(self, number: int, front: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates of the proposal ``number``, given the configs on the front so far."""
        if self._enumerated is not None:
            return list(self._enumerated.values())
        needed = range(number, number + BLOCKS)
        self._blocks = {n: self._blocks[n] if n in self._blocks else self._block(n) for n in needed}
        rng = random.Random(f"{self.seed} {number} near")
        near = (self._space.neighbour(candidate.params, rng)[0] for candidate in front for _ in range(NEIGHBOURS))
        candidates = self._within_limits(near)
        for block in self._blocks.values():
            candidates |= block
        return list(candidates.values())

    def _block(self, number: int) -> dict[Hashable, Candidate]:
        rng = random.Random(f"{self.seed} {number}")
        draw = self.prior.sample if self.prior and number % 2 else lambda rng: self._space.sample(rng)[0]
        return self._within_limits((draw(rng) for _ in range(DRAWS_PER_CANDIDATE * BLOCK_SIZE)), BLOCK_SIZE)

    def sample(self, rng: random.Random, prior: Prior | None = None) -> list[Candidate]:
        """Return the distinct candidates among `DESIGN_SAMPLES` samples of the space.

        Each choice is sampled uniformly: an option with few configs is as probable as one with many. With ``prior``
        they are drawn from it, and a config that is drawn several times is there as often.
        """
        if prior is not None:
            drawn = (self.candidate(prior.sample(rng)) for _ in range(DESIGN_SAMPLES))
            return [candidate for candidate in drawn if candidate]
        return list(self._within_limits(self._space.sample(rng)[0] for _ in range(DESIGN_SAMPLES)).values())

    def _within_limits(self, samples: Iterable[Params], size: int | None = None) -> dict[Hashable, Candidate]:
        """Return the distinct candidates within the limits, the first ``size`` of them if it is given."""
        candidates: dict[Hashable, Candidate] = {}
        for params in samples:
            if params_key(params) not in candidates and (candidate := self.candidate(params)):
                candidates[candidate.key] = candidate
                if len(candidates) == size:
                    break
        return candidates


def params_key(params: Params) -> Hashable:
    """Return the identity of params."""
    return tuple(params.items())

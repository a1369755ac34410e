"""The frontier sampler: what a config costs is known, so only its accuracy is modelled, for the front's sake.

Each proposal is the config, of all within the limits, that is expected to enlarge the hypervolume of the front most,
where cost is a number and the log of the error a Gaussian process (`search.surrogate`). It serves plain Optuna too::

    space = Space({"width": {"int": [8, 64]}, "depth": {"choice": [1, 2, 3]}})
    goals = {"top1": "max", "gflops": "min"}
    sampler = FrontierSampler(space, lambda params: {"gflops": gflops(space.replay(params))}, goals)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: train(suggest(space, trial)[1]), n_trials=100)
"""

import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spaces.encoding import Encoding
from spaces.space import Params, Space

Array = NDArray[np.float64]


Costs = Mapping[str, float]


#: each of these is chosen among so many that chance has drawn, as the one whose values were tried least
DRAWN, COMPARED = 512, 16


#: spaces of at most so many combinations are weighed whole
WHOLE = 20_000


#: of larger ones: blocks of samples that a proposal has, the first of which the next one has no more, samples of a
#: block, neighbours of each config on the front, and draws at most for each sample that is within the limits
BLOCKS, BLOCK, NEIGHBOURS, DRAWS = 5, 400, 40, 50


@dataclass(frozen=True)
class Candidate:
    """A config that could be proposed, its known costs, and its point (columns): of the space, then log costs."""

    params: Params
    point: Array
    costs: Costs

    @property
    def key(self) -> Hashable:
        """What tells one candidate from another."""
        return params_key(self.params)

    @property
    def options(self) -> set[str]:
        """The options chosen that have ranges of their own, by the names with which those of their ranges begin."""
        return {name.rpartition("/")[0] for name in self.params if "/" in name}


@dataclass(frozen=True)
class Observation:
    """The error of a trained config; ``spread``, of its logarithm, where that is a forecast."""

    candidate: Candidate
    error: float
    spread: float = 0.0


class Pool:
    """The configs that can be proposed: all of a small space; of another samples, and neighbours of the front.

    ``cost`` returns the known costs of a config's params, None for one over a limit. The samples follow from ``seed``
    and the number of the proposal: a resumed search has the same.
    """

    def __init__(self, space: Space, cost: Callable[[Params], Costs | None], seed: int = 0) -> None:
        self._space, self._cost, self.seed, self._encode = space, cost, seed, Encoding(space.domains)
        size = space.size()
        self._whole: dict[Hashable, Candidate] | None = None
        if size is not None and size <= WHOLE:
            self._whole = self._within(params for params, _ in space.enumerate())
        self._blocks: dict[int, dict[Hashable, Candidate]] = {}

    @property
    def groups(self) -> list[int]:
        """Which columns of a candidate's point belong together."""
        return self._encode.groups.tolist()

    def candidate(self, params: Params) -> Candidate | None:
        """Return the candidate of these params; None for one over a limit."""
        if self._whole and (known := self._whole.get(params_key(params))):
            return known
        costs = self._cost(params)
        if costs is None:
            return None
        # They are part of the point, for they tell of accuracy too.
        logs = np.log(np.maximum(list(costs.values()), 1e-12))
        return Candidate(params, np.concatenate([self._encode(params), logs]), costs)

    def choice(self, number: int, best: Sequence[Candidate]) -> list[Candidate]:
        """Return what there is to choose from in a proposal, given the front so far."""
        if self._whole is not None:
            return list(self._whole.values())
        needed = range(number, number + BLOCKS)
        self._blocks = {n: self._blocks[n] if n in self._blocks else self._block(n) for n in needed}
        rng = random.Random(f"{self.seed} {number} near")
        near = (self._space.neighbour(one.params, rng)[0] for one in best for _ in range(NEIGHBOURS))
        found = self._within(near)
        for block in self._blocks.values():
            found |= block
        return list(found.values())

    def _block(self, number: int) -> dict[Hashable, Candidate]:
        rng = random.Random(f"{self.seed} {number}")
        return self._within((self._space.sample(rng)[0] for _ in range(DRAWS * BLOCK)), BLOCK)

    def drawn(self, rng: random.Random) -> list[Candidate]:
        """Return what chance gives, choice by choice: an option with few configs weighs as much as one with many."""
        return list(self._within(self._space.sample(rng)[0] for _ in range(DRAWN)).values())

    def _within(self, drawn: Iterable[Params], most: int | None = None) -> dict[Hashable, Candidate]:
        found: dict[Hashable, Candidate] = {}
        for params in drawn:
            if params_key(params) not in found and (candidate := self.candidate(params)):
                found[candidate.key] = candidate
                if len(found) == most:
                    break
        return found


def params_key(params: Params) -> Hashable:
    return tuple(params.items())

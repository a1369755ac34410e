"""The initial design of the frontier sampler: configs that are spread over the range of cost and over all values."""

import random
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import numpy as np

from search.samplers.shared.candidates import Candidate, CandidatePool
from search.samplers.shared.scaling import Scaling

#: size of the initial design
INITIAL_DESIGN = 8

#: size of the initial design once INITIAL_SHARE of the budget is spent
SHORT_INITIAL_DESIGN = 4

#: share of the budget, 0 ... 1
INITIAL_SHARE = 0.1

#: random candidates among which the one with the rarest values is chosen
COMPARED = 16


class InitialDesign:
    """Chooses configs before the surrogate can be fitted.

    The range of log cost is divided into `INITIAL_DESIGN` parts. Each config comes from a part with the fewest configs
    so far, and of `COMPARED` random candidates in that part it is the one whose values were used least. With a prior,
    every second config, the first one included, is a draw from the prior in that part. The design depends on the seed
    only, so that a resumed search has the same one.
    """

    def __init__(self, pool: CandidatePool, scaling: Scaling) -> None:
        self._pool, self._scaling = pool, scaling
        self._design: list[tuple[Candidate, dict[str, Any]]] = []  # and why each was chosen

    @staticmethod
    def size(spent: float) -> int:
        """Return the size of the initial design when the share ``spent`` of the budget is spent."""
        return INITIAL_DESIGN if spent < INITIAL_SHARE else SHORT_INITIAL_DESIGN

    def next(self, tried: Sequence[Candidate], seen: Collection[Hashable]) -> tuple[Candidate, dict[str, Any]] | None:
        """Return the next config of the design, and why it was chosen; None if no new config is left for it.

        The order is free because no results are used: it is by increasing cost, so that the first results come soon.
        Configs in a part of the range of cost that other trials cover, such as the plainest config, come last.

        Args:
            tried: the configs of this search so far.
            seen: the keys of configs that must not be proposed again.
        """
        while len(self._design) < INITIAL_DESIGN or all(candidate.key in seen for candidate, _ in self._design):
            rng = np.random.default_rng((self._pool.seed, len(self._design)))
            before = {candidate.key: candidate for candidate, _ in self._design}
            prior = None if len(self._design) % 2 else self._pool.prior
            samples = self._pool.sample(random.Random(int(rng.integers(2**31))), prior)
            new = [candidate for candidate in samples if candidate.key not in before]
            if not new:
                break
            candidate, why = self.spread(new, list(before.values()), rng, COMPARED if prior is None else 1)
            self._design.append((candidate, why | ({} if prior is None else {"from_prior": True})))
        left = [(candidate, why) for candidate, why in self._design if candidate.key not in seen]
        if not left:
            return None
        candidates = [candidate for candidate, _ in left]
        count = self._count(tried)[self._scaling.part(candidates, INITIAL_DESIGN)]
        # The last key of lexsort is the first to sort by.
        return left[np.lexsort((self._scaling.position(candidates), count))[0]]

    def _count(self, tried: Sequence[Candidate]) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Return the number of configs in each part of the range of cost."""
        return np.bincount(self._scaling.part(tried, INITIAL_DESIGN), minlength=INITIAL_DESIGN)

    def spread(
        self,
        candidates: Sequence[Candidate],
        tried: Sequence[Candidate],
        rng: np.random.Generator,
        most: int = COMPARED,
    ) -> tuple[Candidate, dict[str, Any]]:
        """Return a candidate of a part with the fewest tried configs, with the rarest values of ``most`` random ones.

        They are drawn in that part.
        """
        part = self._scaling.part(candidates, INITIAL_DESIGN)
        count = self._count(tried)
        parts = np.unique(part)
        chosen = rng.choice(parts[count[parts] == count[parts].min()])
        inside = np.flatnonzero(part == chosen)
        compared = [candidates[i] for i in rng.choice(inside, min(most, len(inside)), replace=False)]
        why = {"initial": True, "part": int(chosen) + 1, "parts": INITIAL_DESIGN, "by": self._scaling.cost}
        return min(compared, key=lambda candidate: _times_tried(candidate, tried)), why


def _times_tried(candidate: Candidate, tried: Sequence[Candidate]) -> float:
    """Return how often the candidate's values were tried, as the mean over its ranges."""
    values = candidate.params.items()
    return sum(earlier.params.get(name) == value for earlier in tried for name, value in values) / max(len(values), 1)

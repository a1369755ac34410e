"""The scales of candidates' points: every column from about 0 to 1."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.samplers.shared.candidates import Array, Candidate, Costs

#: smallest range of a logarithm of a cost, where all candidates have the same cost
MIN_RANGE = 1e-9


class Scaling:
    """Scales the columns of candidates' points, and divides the range of the first cost into equal parts.

    The columns of the space are in 0 ... 1 already. The logarithm of each cost is scaled by its range over the
    candidates of the first proposal.

    Args:
        candidates: the candidates of the first proposal, at least one.
        groups: the group of each column of the space.
        objectives: the names of the costs that are objectives; the range of the first one is divided into parts, or of
            the last cost if there is none.

    Raises ValueError if the candidates lack one of these costs, or have no cost at all.
    """

    def __init__(self, candidates: Sequence[Candidate], groups: Sequence[int], objectives: Sequence[str]) -> None:
        costs: Costs = candidates[0].costs
        names = list(costs)
        if not names or not set(objectives) <= set(names):
            required = f"{', '.join(objectives)} of each config by name" if objectives else "at least one, by name"
            raise ValueError(f"cost: must return {required} (got {dict(costs)})")
        logs = np.array([candidate.point[len(groups) :] for candidate in candidates])
        self._low = np.concatenate([np.zeros(len(groups)), logs.min(axis=0)])
        self._range = np.concatenate([np.ones(len(groups)), np.maximum(np.ptp(logs, axis=0), MIN_RANGE)])
        first = groups[-1] + 1 if groups else 0
        #: the group of each column of a point; each cost is a group of its own
        self.groups = [*groups, *range(first, first + len(names))]
        # Counted from the last column.
        self._axis = names.index(objectives[0]) - len(names) if objectives else -1
        #: the cost whose range is divided into parts
        self.cost = names[self._axis]

    def points(self, candidates: Sequence[Candidate]) -> Array:
        """Return the scaled points (candidates, columns)."""
        return (np.stack([candidate.point for candidate in candidates]) - self._low) / self._range

    def position(self, candidates: Sequence[Candidate]) -> Array:
        """Return the position of each candidate in the range of log cost (candidates), from about 0 to 1."""
        return self.points(candidates)[:, self._axis] if candidates else np.empty(0)

    def part(self, candidates: Sequence[Candidate], parts: int) -> NDArray[np.intp]:
        """Return the part of the range of log cost in which each candidate is (candidates), 0 ... ``parts`` - 1."""
        return np.clip((self.position(candidates) * parts).astype(int), 0, parts - 1)

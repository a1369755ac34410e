"""Whether two lists agree on an order."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def correlation(one: ArrayLike, other: ArrayLike, cost: ArrayLike = ()) -> float:
    """Return Spearman's rank correlation of two lists (n): at equal ``cost`` (n, costs) the partial one, by ranks.

    0 where one of them says nothing, or nothing that the cost does not.
    """
    first, second = _ranks(one), _ranks(other)
    costs = np.reshape(cost, (len(first), -1)) if np.size(cost) else np.empty((len(first), 0))
    given = np.column_stack([np.ones(len(first)), *map(_ranks, costs.T)])
    a, b = (ranks - given @ np.linalg.lstsq(given, ranks, rcond=None)[0] for ranks in (first, second))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 1e-9 * len(first) else 0.0


def _ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return the place of each value in order, from 0; equal ones share the mean of theirs."""
    array = np.asarray(values, dtype=float)
    ordered = np.sort(array)
    return (np.searchsorted(ordered, array, "left") + np.searchsorted(ordered, array, "right") - 1) / 2

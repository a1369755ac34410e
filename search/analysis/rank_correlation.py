"""Spearman's rank correlation: how far two lists agree on an order."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def correlation(a: ArrayLike, b: ArrayLike, cost: ArrayLike = ()) -> float:
    """Return Spearman's rank correlation of ``a`` and ``b``, each of n values.

    With ``cost`` (n, costs) it is the partial correlation: that of the residuals of linear regressions of the ranks of
    ``a`` and ``b`` on the ranks of the costs, that is, the agreement at equal cost. The result is 0 if a list is
    constant, or is determined by the cost. Source: "The Proof and Measurement of Association between Two Things"
    (Spearman, American Journal of Psychology, 1904).
    """
    ranks_a, ranks_b = _ranks(a), _ranks(b)
    costs = np.reshape(cost, (len(ranks_a), -1)) if np.size(cost) else np.empty((len(ranks_a), 0))
    given = np.column_stack([np.ones(len(ranks_a)), *map(_ranks, costs.T)])
    rest_a, rest_b = (ranks - given @ np.linalg.lstsq(given, ranks, rcond=None)[0] for ranks in (ranks_a, ranks_b))
    norm = float(np.linalg.norm(rest_a) * np.linalg.norm(rest_b))
    return float(rest_a @ rest_b) / norm if norm > 1e-9 * len(ranks_a) else 0.0


def _ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return the rank of each value, from 0; equal values share the mean of their ranks."""
    array = np.asarray(values, dtype=float)
    ordered = np.sort(array)
    return (np.searchsorted(ordered, array, "left") + np.searchsorted(ordered, array, "right") - 1) / 2

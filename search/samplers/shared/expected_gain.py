"""What accuracy a config will reach, as far as finished trials tell: a Gaussian process on the log of the error."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from search.analysis.learning_curves import OFFSET
from search.samplers.shared.surrogate import Array


def expected_improvement(target: ArrayLike, mean: Array, spread: Array) -> Array:
    r"""Return the expected fall of the error below ``target``, where log(error + `OFFSET`) is normal.

    .. math:: E[(t - e)_+] = t' \Phi(z) - e^{\mu + \sigma^2 / 2} \Phi(z - \sigma), \quad z = (\ln t' - \mu) / \sigma

    with :math:`t' = t + ` `OFFSET`; the second term is the log-normal's mean below t'. The arguments broadcast.
    """
    shifted = np.asarray(target, dtype=float) + OFFSET
    z = (np.log(shifted) - mean) / spread
    return np.maximum(shifted * ndtr(z) - np.exp(mean + spread**2 / 2) * ndtr(z - spread), 0.0)


def expected_gain(
    costs: Array, mean: Array, spread: Array, front: Array, errors: Array, reference: Sequence[float], worst: float
) -> Array:
    """Return by how much each candidate is expected to enlarge the hypervolume of the front; in closed form.

    A candidate (costs (n, k), known; log error normal) would be better than the front at every cost at or above its
    own: so its gain is the sum, over the cells into which the front's costs (m, k) cut that region, of the cell's
    volume times the expected improvement on the least error (m) that the front has there. ``reference`` (k) are the
    greatest costs, ``worst`` is the error where the front has nothing. With k = 1 the cells are the front's steps; with
    k = 0 there is one.
    """
    edges = [np.unique(np.minimum(front[:, axis], most)) for axis, most in enumerate(reference)]
    gain = np.zeros(len(costs))
    for cell in np.ndindex(*(len(edge) + 1 for edge in edges)):
        volume, below = np.ones(len(costs)), np.ones(len(front), dtype=bool)
        for axis, (index, edge) in enumerate(zip(cell, edges, strict=True)):
            low = edge[index - 1] if index else -np.inf
            high = edge[index] if index < len(edge) else reference[axis]
            volume *= np.maximum(high - np.maximum(costs[:, axis], low), 0.0)
            below &= front[:, axis] <= low
        inside = volume > 0
        if inside.any():
            target = min(errors[below].min(initial=worst), worst)
            gain[inside] += volume[inside] * expected_improvement(target, mean[inside], spread[inside])
    return gain

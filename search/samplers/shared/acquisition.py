"""The acquisition function of the frontier sampler: expected hypervolume improvement of a config of known cost.

Sources:

* Michael T. M. Emmerich, Kyriakos C. Giannakoglou and Boris Naujoks, "Single- and Multiobjective Evolutionary
  Optimization Assisted by Gaussian Random Field Metamodels", IEEE Transactions on Evolutionary Computation 10(4), 2006:
  expected hypervolume improvement.
* Frank Hutter, Holger H. Hoos, Kevin Leyton-Brown and Kevin P. Murphy, "An Experimental Investigation of Model-Based
  Parameter Optimisation: SPO and Beyond", Genetic and Evolutionary Computation Conference (GECCO), 2009: expected
  improvement of a log-normal value.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from search.analysis.learning_curves import OFFSET
from search.samplers.shared.surrogate import Array


def expected_improvement(target: ArrayLike, mean: Array, deviation: Array) -> Array:
    r"""Return the expected improvement of an error below ``target``, where log(error + `OFFSET`) is normal.

    .. math:: E[(t - e)_+] = t' \Phi(z) - e^{\mu + \sigma^2 / 2} \Phi(z - \sigma), \quad z = (\ln t' - \mu) / \sigma

    with :math:`t' = t + ` `OFFSET`; the second term is the partial mean of the log-normal below t'. The arguments
    broadcast; ``mean`` and ``deviation`` are those of the logarithm.
    """
    shifted = np.asarray(target, dtype=float) + OFFSET
    z = (np.log(shifted) - mean) / deviation
    return np.maximum(shifted * ndtr(z) - np.exp(mean + deviation**2 / 2) * ndtr(z - deviation), 0.0)


def expected_hypervolume_improvement(
    costs: Array,
    mean: Array,
    deviation: Array,
    front: Array,
    errors: Array,
    reference: Sequence[float],
    worst: float,
) -> Array:
    """Return the expected hypervolume improvement (n) of candidates, in closed form.

    The cost of a candidate is known and only its error is random. It would improve the front at every cost at or above
    its own. The costs of the front cut that region into cells, and in each cell the smallest error of the front is
    constant. So the expectation is a sum over cells: the volume of the cell times the expected improvement of that
    error. With one cost the cells are the steps of the front; with no cost there is a single cell.

    Args:
        costs: the costs of the candidates (n, k), to be minimised; k may be 0.
        mean: the mean of their log(error + `OFFSET`) (n).
        deviation: its standard deviation (n).
        front: the costs of the points of the front (m, k).
        errors: their errors (m).
        reference: the largest cost that counts (k).
        worst: the error where the front has no point.
    """
    edges = [np.unique(np.minimum(front[:, axis], largest)) for axis, largest in enumerate(reference)]
    total = np.zeros(len(costs))
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
            total[inside] += volume[inside] * expected_improvement(target, mean[inside], deviation[inside])
    return total

"""What accuracy a config will reach, as far as finished trials tell: a Gaussian process on the log of the error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import ndtr
from sklearn import gaussian_process
from sklearn.gaussian_process.kernels import ConstantKernel, Hyperparameter, Kernel, WhiteKernel
from typing_extensions import override

from search.curves import OFFSET

Array = NDArray[np.float64]

#: errors above this quantile count as this one: by how much a bad model fails says little about the good ones
BAD = 0.8
#: the hyperparameters are fitted anew where there are so many times more observations; up to `SMALL`, each time
GROWTH, SMALL = 1.1, 40
#: of so many observations at most, what they say of the ranges is doubted
DOUBTED = 200
_SQRT5 = np.sqrt(5.0)


class Grouped(Kernel):
    r"""Matern's kernel with nu = 5/2, with one length scale for each group of columns.

    .. math:: k(r) = (1 + \sqrt 5 r + 5 r^2 / 3) e^{-\sqrt 5 r}, \quad r^2 = \sum_g d_g^2 / \ell_g^2

    :math:`d_g` is the Euclidean distance in the columns of group g (Rasmussen and Williams 2006, eq. 4.17).
    """

    def __init__(self, groups: Sequence[int], scales: Sequence[float]) -> None:
        self.groups, self.scales = groups, scales

    @property
    def hyperparameter_scales(self) -> Hyperparameter:
        return Hyperparameter("scales", "numeric", (0.03, 1e3), max(self.groups) + 1)

    @override
    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        scales, groups = np.atleast_1d(self.scales), np.asarray(self.groups)  # one scale comes back as a plain number
        a = X / scales[groups]
        b = a if Y is None else Y / scales[groups]
        r2 = _distances(a, b)
        r = np.sqrt(r2)
        decay = np.exp(-_SQRT5 * r)
        kernel = (1 + _SQRT5 * r + 5 / 3 * r2) * decay
        if not eval_gradient:
            return kernel
        # By the logarithm of a scale: dk/d(r^2) = -5/6 (1 + sqrt(5) r) e^..., and d(r^2)/d(log l_g) = -2 d_g^2 / l_g^2.
        slope = 5 / 3 * (1 + _SQRT5 * r) * decay
        gradient = [slope * _distances(a[:, groups == g], a[:, groups == g]) for g in range(len(scales))]
        return kernel, np.stack(gradient, axis=-1)

    @override
    def diag(self, X: Array) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.ones(len(X))

    @override
    def is_stationary(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        return True


def _scale(groups: int) -> float:
    """Return the length scale of each group before anything is learnt."""
    return np.sqrt(groups / 2)


def _distances(a: Array, b: Array) -> Array:
    """Return the squared distances (n, m) of points (n, columns) and (m, columns)."""
    return np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, 0.0)


@dataclass
class Surrogate:
    """A Gaussian process of log(error + `OFFSET`); the noise is learnt, beside what an observation has of its own.

    ``groups`` (columns) says which columns of a point are scaled together. The length scales have a log-normal prior
    around the square root of half the number of groups: as that number grows, so does the distance of two configs
    (Hvarfner et al., ICML 2024, scale theirs so). The half, and how narrow the prior is, were chosen by how wrong the
    forecasts of untried configs are beside their spread, on the recorded curves and on CIFAR-100 of NAS-Bench-201.
    """

    groups: Sequence[int]
    #: whether it has seen enough of what the ranges matter
    sure: bool = False
    _theta: Array | None = None
    _fitted: int = 0  # observations of which the hyperparameters are
    _process: Any = field(default=None, repr=False)
    _doubtful: Any = field(default=None, repr=False)
    _center: float = 0.0
    _unit: float = 1.0

    def fit(self, points: Array, errors: ArrayLike, spread: ArrayLike = 0.0, pending: Array | None = None) -> None:
        """Learn from errors (n) at points (n, columns).

        ``spread`` (n) is the standard deviation of an observation's logarithm beyond the common noise: 0 for trials
        that ran to their end. At ``pending`` points (m, columns) trials are running: what will be found there is taken
        to be what is expected, so that the process is sure there and has learnt nothing.
        """
        logs = np.log(np.asarray(errors, dtype=float) + OFFSET)
        # Of all: how far apart errors lie tells how wrong a guess can be, and without the bad ones that looks small.
        self._unit = float(logs.std()) or 1.0
        logs = np.minimum(logs, np.quantile(logs, BAD))
        own = np.broadcast_to(np.square(spread), logs.shape)
        self._center = float(logs.mean())
        values, own = (logs - self._center) / self._unit, own / self._unit**2
        if self._theta is None or len(values) <= SMALL or len(values) >= GROWTH * self._fitted:
            self._fitted = len(values)
            self._theta = self._regression(own, self._theta, self._climb).fit(points, values).kernel_.theta
        self._process = self._regression(own, self._theta).fit(points, values)
        if pending is not None and len(pending):
            values = np.append(values, self._process.predict(pending))
            points, own = np.concatenate([points, pending]), np.append(own, np.zeros(len(pending)))
            self._process = self._regression(own, self._theta).fit(points, values)
        self.sure = len(values) > DOUBTED
        if not self.sure:
            self._doubtful = self._regression(own, None).fit(points, values)

    def _regression(self, own: Array, theta: Array | None, optimizer: Callable[..., Any] | None = None) -> Any:
        """Return a process with the hyperparameters ``theta``, of which None are those before anything was learnt."""
        count = max(self.groups) + 1
        kernel = ConstantKernel(1.0, (0.05, 50.0)) * Grouped(self.groups, [_scale(count)] * count)
        kernel += WhiteKernel(0.01, (1e-5, 3.0))
        if theta is not None:
            kernel = kernel.clone_with_theta(theta)
        regressor: Any = gaussian_process.GaussianProcessRegressor  # whose annotations are narrower than it is
        return regressor(kernel, alpha=own + 1e-8, optimizer=optimizer)

    def _climb(self, objective: Callable[..., Any], theta: Array, bounds: Array) -> tuple[Array, float]:
        """Return the hyperparameters of the greatest posterior; ``objective`` is minus the log likelihood."""
        count = max(self.groups) + 1
        scales = np.full(count, np.log(_scale(count)))
        # Logarithms of (variance, scales..., noise): their means, and their deviations.
        mean, deviation = np.r_[0.0, scales, np.log(0.01)], np.r_[0.7, np.full(count, 0.5), 1.5]

        def posterior(theta: Array) -> tuple[float, Array]:
            value, gradient = objective(theta)
            far = (theta - mean) / deviation
            return value + far @ far / 2, gradient + far / deviation

        found = minimize(posterior, theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30})
        return found.x, found.fun

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation (n each) of log(error + `OFFSET`) of models trained to their end."""
        return self._predict(self._process, points)

    def doubt(self, points: Array) -> tuple[Array, Array]:
        """Return the same without what was learnt about the ranges: each matters as it did at first.

        A few observations can make a range look as if it did not matter, and then it would never be tried again. Not
        to be asked where the process is `sure`.
        """
        return self._predict(self._doubtful, points)

    def _predict(self, process: Any, points: Array) -> tuple[Array, Array]:
        mean, deviation = process.predict(points, return_std=True)
        noise = process.kernel_.k2.noise_level
        spread = np.sqrt(np.maximum(deviation**2 - noise, 1e-10))
        return self._center + self._unit * mean, self._unit * spread

    @property
    def noise(self) -> float:
        """Standard deviation of log(error + `OFFSET`) between two trainings of one config."""
        return self._unit * float(np.sqrt(self._process.kernel_.k2.noise_level))


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

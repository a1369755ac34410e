"""What accuracy a config will reach, as far as finished trials tell: a Gaussian process on the log of the error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import gaussian_process
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel, WhiteKernel
from typing_extensions import override

from search.analysis.learning_curves import OFFSET

Array = NDArray[np.float64]


#: errors above this quantile count as this one: by how much a bad model fails says little about the good ones
BAD = 0.8


#: so many draws of the hyperparameters are kept, one in so many, after those that only leave the beginning
KEPT, APART, DROPPED = 8, 5, 20


#: hyperparameters are learnt from so many observations at most
ENOUGH = 200


#: the noise before anything is learnt, as a share of the variance of errors; the deviations of its logarithm, and of
#: those of the length scales
NOISE, NOISES, SCALES = 0.01, 1.5, 0.5


#: rows of a kernel that are computed together
PART = 256


_SQRT5 = np.sqrt(5.0)


class Grouped(Kernel):
    r"""Matern's kernel with nu = 5/2, with one length scale for each group of columns.

    .. math:: k(r) = v (1 + \sqrt 5 r + 5 r^2 / 3) e^{-\sqrt 5 r}, \quad r^2 = \sum_g d_g^2 / \ell_g^2

    :math:`d_g` is the Euclidean distance in the columns of group g (Rasmussen and Williams 2006, eq. 4.17).
    """

    def __init__(self, groups: Sequence[int], scales: Sequence[float], variance: float = 1.0) -> None:
        self.groups, self.scales, self.variance = groups, scales, variance

    @property
    def hyperparameter_scales(self) -> Hyperparameter:
        return Hyperparameter("scales", "numeric", (1e-5, 1e5), max(self.groups) + 1)

    @property
    def hyperparameter_variance(self) -> Hyperparameter:
        return Hyperparameter("variance", "numeric", (1e-5, 1e5))

    @override
    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Array:  # pyright: ignore
        scales = np.atleast_1d(self.scales)[np.asarray(self.groups)]  # one scale comes back as a plain number
        a = X / scales
        b = a if Y is None else Y / scales
        # In place and by parts that stay in the cache: a proposal weighs thousands of points.
        kernel = np.empty((len(a), len(b)))
        for part in range(0, len(a), PART):
            near = a[part : part + PART]
            r2 = near @ (-2 * b.T)
            r2 += (near * near).sum(1)[:, None] + (b * b).sum(1)
            np.maximum(r2, 0.0, out=r2)
            r = np.sqrt(r2)
            r *= _SQRT5
            r2 *= 5 / 3
            r2 += r
            r2 += 1
            r2 *= np.exp(np.negative(r, out=r), out=r)
            np.multiply(r2, self.variance, out=kernel[part : part + PART])
        return kernel

    @override
    def diag(self, X: Array) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.full(len(X), self.variance)

    @override
    def is_stationary(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        return True


class Surrogate:
    """A Gaussian process of log(error + `OFFSET`), learnt from errors (n) at points (n, columns).

    ``groups`` (columns) says which columns of a point are scaled together. ``spread`` (n) is the standard deviation of
    an observation's logarithm beyond the common noise, which is learnt: 0 for trials that ran to their end. At
    ``pending`` points (m, columns) trials are running: what will be found there is taken to be what is expected, so
    that the process is sure there and has learnt nothing.

    Few observations leave open which hyperparameters are the right ones. So ``rng`` draws `KEPT` of their posterior,
    which stand side by side; the most probable ones alone would be sure of what is not so, such as that a range does
    not matter. The prior of length scales is around the square root of half the number of groups: as that number
    grows, so does the distance of two configs (Hvarfner et al., ICML 2024, scale theirs so). The half, and how narrow
    the prior is, were chosen by the probability that forecasts gave to the errors of untried configs, and by regret, on
    the recorded curves and on CIFAR-100 of NAS-Bench-201.
    """

    def __init__(
        self,
        groups: Sequence[int],
        points: Array,
        errors: ArrayLike,
        rng: np.random.Generator,
        spread: ArrayLike = 0.0,
        pending: Array | None = None,
    ) -> None:
        self._groups, self._rng = list(groups), rng
        logs = np.log(np.asarray(errors, dtype=float) + OFFSET)
        # Of all: how far apart errors lie tells how wrong a guess can be, and without the bad ones that looks small.
        self._unit = float(logs.std()) or 1.0
        logs = np.minimum(logs, np.quantile(logs, BAD))
        self._center = float(logs.mean())
        values = (logs - self._center) / self._unit
        own = np.broadcast_to(np.square(spread), logs.shape) / self._unit**2
        self._processes = [self._process(theta, points, values, own) for theta in self._drawn(points, values, own)]
        if pending is not None and len(pending):
            points, own = np.concatenate([points, pending]), np.append(own, np.zeros(len(pending)))
            self._processes = [
                self._process(process.kernel_.theta, points, np.append(values, process.predict(pending)), own)
                for process in self._processes
            ]

    def _process(self, theta: Array, points: Array, values: Array, own: Array) -> Any:
        kernel: Any = Grouped(self._groups, [1.0] * (max(self._groups) + 1)) + WhiteKernel()
        regressor: Any = gaussian_process.GaussianProcessRegressor  # whose annotations are narrower than it is
        return regressor(kernel.clone_with_theta(theta), alpha=own + 1e-8, optimizer=None).fit(points, values)

    def _drawn(self, points: Array, values: Array, own: Array) -> list[Array]:
        """Draw hyperparameters by elliptical slice sampling (Murray, Adams and MacKay, AISTATS 2010)."""
        if len(values) > ENOUGH:
            some = self._rng.choice(len(values), ENOUGH, replace=False)
            points, values, own = points[some], values[some], own[some]
        now = np.zeros(max(self._groups) + 3)
        process = self._process(self._theta(now), points, values, own)

        def likelihood(normal: Array) -> float:
            return process.log_marginal_likelihood(self._theta(normal), clone_kernel=False)

        value, drawn = likelihood(now), []
        for _ in range(DROPPED + KEPT * APART):
            other, level = self._rng.standard_normal(len(now)), value + np.log(self._rng.random())
            angle = self._rng.uniform(0, 2 * np.pi)
            low, high = angle - 2 * np.pi, angle
            while (value := likelihood(tried := now * np.cos(angle) + other * np.sin(angle))) < level:
                low, high = (angle, high) if angle < 0 else (low, angle)
                angle = self._rng.uniform(low, high)
            now = tried
            drawn.append(self._theta(now))
        return drawn[DROPPED + APART - 1 :: APART]

    def _theta(self, normal: Array) -> Array:
        """Return the logarithms of (scales..., variance, noise) for numbers that are standard normal a priori."""
        *scales, variance, noise = normal
        around = np.log(len(scales) / 2) / 2
        return np.r_[around + SCALES * np.array(scales), variance, np.log(NOISE) + NOISES * noise]

    def predict(self, points: Array, draws: slice = slice(None)) -> tuple[Array, Array]:
        """Return mean and standard deviation (draws, n) of log(error + `OFFSET`) of models trained to their end."""
        means, spreads = [], []
        for process in self._processes[draws]:
            mean, deviation = process.predict(points, return_std=True)
            noise = process.kernel_.k2.noise_level
            means.append(self._center + self._unit * mean)
            spreads.append(self._unit * np.sqrt(np.maximum(deviation**2 - noise, 1e-10)))
        return np.array(means), np.array(spreads)

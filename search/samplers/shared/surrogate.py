"""The surrogate of the frontier sampler: a Gaussian process for the logarithm of a config's final error.

Sources:

* Carl Edward Rasmussen and Christopher K. I. Williams, "Gaussian Processes for Machine Learning", MIT Press, 2006.
* Iain Murray, Ryan Prescott Adams and David J. C. MacKay, "Elliptical slice sampling", International Conference on
  Artificial Intelligence and Statistics (AISTATS), 2010.
* Carl Hvarfner, Erik Orm Hellsten and Luigi Nardi, "Vanilla Bayesian Optimization Performs Great in High Dimensions",
  International Conference on Machine Learning (ICML), 2024.
* David Ginsbourger, Rodolphe Le Riche and Laurent Carraro, "Kriging Is Well-Suited to Parallelize Optimization", in
  "Computational Intelligence in Expensive Optimization Problems", Springer, 2010.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack
from sklearn import gaussian_process
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel, WhiteKernel
from typing_extensions import override

from search.analysis.learning_curves import OFFSET

Array = NDArray[np.float64]

#: Quantile at which errors are winsorised: larger errors are replaced by it, because the size of a bad model's error
#: says little about good models.
WINSOR_QUANTILE = 0.8

#: posterior samples of the hyperparameters
NUM_SAMPLES = 8

#: times that the interval of a step of the Markov chain shrinks at most
MAX_SHRINKS = 200

#: steps of the Markov chain per sample
THINNING = 5

#: steps of the Markov chain before the first sample
BURN_IN = 20

#: observations, a random subset, to which the hyperparameters are fitted at most
MAX_FITTED = 200

#: prior of the noise variance: its median, as a share of the variance of the log errors
NOISE_MEDIAN = 0.01

#: prior of the noise variance: standard deviation of its logarithm
NOISE_DEVIATION = 1.5

#: prior of the length scales: standard deviation of their logarithm
LENGTH_SCALE_DEVIATION = 0.5

#: added to the diagonal of the kernel matrix for numerical stability
JITTER = 1e-8

#: smallest variance of a prediction
MIN_VARIANCE = 1e-10

#: rows of a kernel matrix that are computed together, so that they stay in the processor's cache
BLOCK_ROWS = 256

_SQRT5 = np.sqrt(5.0)
_lapack: Any = lapack  # its type annotations lack the functions


class GroupedMatern(Kernel):
    r"""The Matern kernel with nu = 5/2 and one length scale for each group of columns.

    .. math:: k(r) = v (1 + \sqrt 5 r + 5 r^2 / 3) e^{-\sqrt 5 r}, \quad r^2 = \sum_g d_g^2 / \ell_g^2

    :math:`d_g` is the Euclidean distance in the columns of group g, and :math:`\ell_g` its length scale (Rasmussen and
    Williams 2006, equation 4.17). With one column in each group this is automatic relevance determination (ARD).

    Args:
        groups: the group of each column, 0 ... G - 1.
        length_scales: the length scale of each group (G).
        variance: the variance v.
    """

    def __init__(self, groups: Sequence[int], length_scales: Sequence[float], variance: float = 1.0) -> None:
        self.groups, self.length_scales, self.variance = groups, length_scales, variance

    @property
    def hyperparameter_length_scales(self) -> Hyperparameter:
        return Hyperparameter("length_scales", "numeric", (1e-5, 1e5), max(self.groups) + 1)

    @property
    def hyperparameter_variance(self) -> Hyperparameter:
        return Hyperparameter("variance", "numeric", (1e-5, 1e5))

    @override
    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Array:  # pyright: ignore
        # scikit-learn sets a single length scale as a plain number.
        scales = np.atleast_1d(self.length_scales)[np.asarray(self.groups)]
        a = X / scales
        b = a if Y is None else Y / scales
        # In place and in blocks, because each proposal evaluates thousands of points.
        kernel = np.empty((len(a), len(b)))
        for start in range(0, len(a), BLOCK_ROWS):
            rows = a[start : start + BLOCK_ROWS]
            r2 = rows @ (-2 * b.T)
            r2 += (rows * rows).sum(1)[:, None] + (b * b).sum(1)
            _correlate(np.maximum(r2, 0.0, out=r2))
            np.multiply(r2, self.variance, out=kernel[start : start + BLOCK_ROWS])
        return kernel

    @override
    def diag(self, X: Array) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.full(len(X), self.variance)

    @override
    def is_stationary(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        return True


def _correlate(r2: Array) -> None:
    """Replace squared scaled distances by their correlations of Matérn 5/2, in place."""
    r = np.sqrt(r2)
    r *= _SQRT5
    r2 *= 5 / 3
    r2 += r
    r2 += 1
    r2 *= np.exp(np.negative(r, out=r), out=r)


class Likelihood:
    """The log marginal likelihood of observations as a function of the log hyperparameters.

    It is that of scikit-learn's regressor with `GroupedMatern` plus white noise (Rasmussen and Williams 2006, equation
    2.30). The squared distances of all pairs in each group are computed once, so a new set of hyperparameters costs one
    product, one exponential for each pair and a Cholesky decomposition.

    Args:
        groups: the group of each column of a point, 0 ... G - 1.
        points: the points of the observations (n, columns).
        values: their values (n).
        variances: the known variance of the noise of each value (n), in addition to the common one.
    """

    def __init__(self, groups: Sequence[int], points: Array, values: Array, variances: Array) -> None:
        self._values, self._variances = values, variances
        # The lower triangle, in Fortran's order of memory, which LAPACK reads without a copy.
        columns, rows = np.triu_indices(len(points), k=1)
        self._places = columns * len(points) + rows
        self._squares = np.zeros((max(groups) + 1, len(rows)))
        for column, group in enumerate(groups):
            differences = points[rows, column] - points[columns, column]
            self._squares[group] += np.square(differences, out=differences)

    def __call__(self, theta: Array) -> float:
        """Return the log likelihood for the logarithms of the length scales, the variance and the noise variance."""
        *log_scales, log_variance, log_noise = theta
        r2 = np.exp(-2 * np.array(log_scales)) @ self._squares
        _correlate(r2)
        r2 *= np.exp(log_variance)
        n = len(self._values)
        covariance = np.zeros(n * n)
        covariance[self._places] = r2
        covariance[:: n + 1] = np.exp(log_variance) + np.exp(log_noise) + self._variances + JITTER
        factor, info = _lapack.dpotrf(covariance.reshape((n, n), order="F"), lower=1, overwrite_a=1, clean=0)
        if info:  # not positive definite
            return -np.inf
        solved, _ = _lapack.dtrtrs(factor, self._values, lower=1)
        return float(-0.5 * solved @ solved - np.log(np.diag(factor)).sum() - n / 2 * np.log(2 * np.pi))


class Surrogate:
    """A Gaussian process for log(error + `OFFSET`), with hyperparameters sampled from their posterior.

    The kernel is `GroupedMatern` plus white noise. A few observations leave open which hyperparameters are right, and
    the most probable ones alone are overconfident, for example that a range has no effect. So `NUM_SAMPLES` sets of
    hyperparameters are sampled from the posterior by elliptical slice sampling (Murray, Adams and MacKay, 2010), and
    each set gives one Gaussian process.

    The prior of a length scale is log-normal around sqrt(G / 2), where G is the number of groups: the distance of two
    random configs grows with G in the same way (Hvarfner, Hellsten and Nardi, 2024, scale theirs with sqrt(G)). The
    factor 1/2 and `LENGTH_SCALE_DEVIATION` were chosen by the likelihood of the errors of untried configs, and by
    regret, on the recorded learning curves and on CIFAR-100 of NAS-Bench-201. The prior of the variance is log-normal
    around the variance of the log errors, with a standard deviation of 1 of its logarithm.

    Args:
        groups: the group of each column of a point, 0 ... G - 1; the columns of a group share a length scale.
        points: the points of the observations (n, columns).
        errors: their errors (n), each above -`OFFSET`.
        rng: draws the hyperparameters.
        deviations: the standard deviation of each observation's log error (n), in addition to the common noise, which
            is a hyperparameter: 0 for trials that ran to their last epoch, that of the forecast for others.
        pending: the points of running trials without an observation (m, columns). Each is added as an observation equal
            to the predicted mean ("kriging believer", Ginsbourger, Le Riche and Carraro, 2010): it lowers the variance
            near these points and leaves the mean as it is.
    """

    def __init__(
        self,
        groups: Sequence[int],
        points: Array,
        errors: ArrayLike,
        rng: np.random.Generator,
        deviations: ArrayLike = 0.0,
        pending: Array | None = None,
    ) -> None:
        self._groups, self._rng = list(groups), rng
        logs = np.log(np.asarray(errors, dtype=float) + OFFSET)
        # The unit is the standard deviation before winsorising: without the large errors, predictions would look more
        # certain than they are.
        self._unit = float(logs.std()) or 1.0
        logs = np.minimum(logs, np.quantile(logs, WINSOR_QUANTILE))
        self._center = float(logs.mean())
        values = (logs - self._center) / self._unit
        variances = np.broadcast_to(np.square(deviations), logs.shape) / self._unit**2
        self._processes = [
            self._process(theta, points, values, variances) for theta in self._posterior(points, values, variances)
        ]
        if pending is not None and len(pending):
            points, variances = np.concatenate([points, pending]), np.append(variances, np.zeros(len(pending)))
            self._processes = [
                self._process(process.kernel_.theta, points, np.append(values, process.predict(pending)), variances)
                for process in self._processes
            ]

    def _process(self, theta: Array, points: Array, values: Array, variances: Array) -> Any:
        """Return the Gaussian process with the log hyperparameters ``theta``, conditioned on the observations."""
        kernel: Any = GroupedMatern(self._groups, [1.0] * (max(self._groups) + 1)) + WhiteKernel()
        regressor: Any = gaussian_process.GaussianProcessRegressor  # its type annotations are too narrow
        return regressor(kernel.clone_with_theta(theta), alpha=variances + JITTER, optimizer=None).fit(points, values)

    def _posterior(self, points: Array, values: Array, variances: Array) -> list[Array]:
        """Return `NUM_SAMPLES` samples of the log hyperparameters, by elliptical slice sampling."""
        if len(values) > MAX_FITTED:
            chosen = self._rng.choice(len(values), MAX_FITTED, replace=False)
            points, values, variances = points[chosen], values[chosen], variances[chosen]
        current = np.zeros(max(self._groups) + 3)
        of_theta = Likelihood(self._groups, points, values, variances)

        def log_likelihood(normal: Array) -> float:
            return of_theta(self._theta(normal))

        likelihood, samples = log_likelihood(current), []
        for _ in range(BURN_IN + NUM_SAMPLES * THINNING):
            auxiliary = self._rng.standard_normal(len(current))
            threshold = likelihood + np.log(self._rng.random())
            angle = self._rng.uniform(0, 2 * np.pi)
            low, high = angle - 2 * np.pi, angle
            for _ in range(MAX_SHRINKS):
                proposal = current * np.cos(angle) + auxiliary * np.sin(angle)
                likelihood = log_likelihood(proposal)
                if not likelihood < threshold:
                    break
                low, high = (angle, high) if angle < 0 else (low, angle)
                angle = self._rng.uniform(low, high)
            else:  # the interval has shrunk to the current point, but for rounding
                proposal, likelihood = current, log_likelihood(current)
            current = proposal
            samples.append(self._theta(current))
        return samples[BURN_IN + THINNING - 1 :: THINNING]

    def _theta(self, normal: Array) -> Array:
        """Return the log hyperparameters: the length scales, the variance, the noise.

        A priori each value of ``normal`` has a standard normal distribution.
        """
        *scales, variance, noise = normal
        median = np.log(len(scales) / 2) / 2
        log_scales = median + LENGTH_SCALE_DEVIATION * np.array(scales)
        return np.r_[log_scales, variance, np.log(NOISE_MEDIAN) + NOISE_DEVIATION * noise]

    def predict(self, points: Array, samples: slice = slice(None)) -> tuple[Array, Array]:
        """Return the mean and standard deviation of log(error + `OFFSET`), each (samples, n).

        The error is that after the last epoch, without the noise of one training.

        Args:
            points: the points (n, columns).
            samples: the sets of hyperparameters to use.
        """
        means, deviations = [], []
        for process in self._processes[samples]:
            mean, deviation = process.predict(points, return_std=True)
            noise = process.kernel_.k2.noise_level
            means.append(self._center + self._unit * mean)
            deviations.append(self._unit * np.sqrt(np.maximum(deviation**2 - noise, MIN_VARIANCE)))
        return np.array(means), np.array(deviations)

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
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky, lapack, solve_triangular

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


class GroupedMatern:
    r"""The Matern kernel with nu = 5/2 and one length scale for each group of columns.

    .. math:: k(r) = v (1 + \sqrt 5 r + 5 r^2 / 3) e^{-\sqrt 5 r}, \quad r^2 = \sum_g d_g^2 / \ell_g^2

    :math:`d_g` is the Euclidean distance in the columns of group g, and :math:`\ell_g` its length scale (Rasmussen and
    Williams 2006, equation 4.17). With one column in each group this is automatic relevance determination (ARD).

    Args:
        groups: the group of each column, 0 ... G - 1.
        length_scales: the length scale of each group (G).
        variance: the variance v, which is the kernel of a point with itself.
    """

    def __init__(self, groups: Sequence[int], length_scales: ArrayLike, variance: float = 1.0) -> None:
        self._scales, self.variance = np.asarray(length_scales)[np.asarray(groups)], variance

    def __call__(self, points: Array, others: Array | None = None) -> Array:
        """Return the kernel of each point (n, columns) with each of ``others`` (m, columns), or with each point."""
        a = points / self._scales
        b = a if others is None else others / self._scales
        # In place and in blocks, because each proposal evaluates thousands of points.
        kernel = np.empty((len(a), len(b)))
        for start in range(0, len(a), BLOCK_ROWS):
            rows = a[start : start + BLOCK_ROWS]
            r2 = rows @ (-2 * b.T)
            r2 += (rows * rows).sum(1)[:, None] + (b * b).sum(1)
            _correlate(np.maximum(r2, 0.0, out=r2))
            np.multiply(r2, self.variance, out=kernel[start : start + BLOCK_ROWS])
        return kernel


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

    The kernel is `GroupedMatern` plus white noise (Rasmussen and Williams 2006, equation 2.30). The squared distances
    of all pairs in each group are computed once, so a new set of hyperparameters costs one product, one exponential for
    each pair and a Cholesky decomposition.

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


class Process(NamedTuple):
    """A Gaussian process with given hyperparameters, conditioned on observations.

    By the Cholesky decomposition of their covariance (Rasmussen and Williams 2006, algorithm 2.1).
    """

    theta: Array
    """logarithms of the length scales, the variance and the noise variance"""
    kernel: GroupedMatern
    noise: float
    """variance of the noise of an observation, in addition to what is known of each"""
    points: Array
    """of the observations (n, columns)"""
    factor: Array
    """lower Cholesky factor of their covariance (n, n)"""
    weights: Array
    """inverse covariance times values (n)"""

    @classmethod
    def of(cls, groups: Sequence[int], theta: Array, points: Array, values: Array, variances: Array) -> Self:
        """Return the process for observed values; ``variances`` are the known variances of their noise (n)."""
        *scales, variance, noise = np.exp(theta)
        kernel = GroupedMatern(groups, scales, variance)
        factor = cholesky(_with_diagonal(kernel(points), noise, variances), lower=True, check_finite=False)
        return cls(theta, kernel, noise, points, factor, cho_solve((factor, True), values, check_finite=False))

    def with_pending(self, pending: Array) -> Self:
        """Return the process with further observations (m, columns), each equal to the predicted mean.

        They leave the mean of all points as it is, so their weights are 0, and the factor gets m more rows.
        """
        n, m = len(self.points), len(pending)
        across = solve_triangular(self.factor, self.kernel(pending, self.points).T, lower=True, check_finite=False)
        own = _with_diagonal(self.kernel(pending), self.noise, np.zeros(m)) - across.T @ across
        factor = np.zeros((n + m, n + m), order="F")
        factor[:n, :n], factor[n:, :n] = self.factor, across.T
        factor[n:, n:] = cholesky(own, lower=True, check_finite=False)
        points, weights = np.concatenate([self.points, pending]), np.append(self.weights, np.zeros(m))
        return self._replace(points=points, factor=factor, weights=weights)

    def mean(self, points: Array) -> Array:
        """Return the mean at points (m, columns) without noise (m)."""
        return self.kernel(points, self.points) @ self.weights

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return mean and variance at points (m, columns) without noise, each (m)."""
        covariance = self.kernel(points, self.points)
        mean = covariance @ self.weights
        explained = solve_triangular(self.factor, covariance.T, lower=True, check_finite=False, overwrite_b=True)
        variance = self.kernel.variance - np.einsum("ij,ij->j", explained, explained)
        return mean, np.maximum(variance, MIN_VARIANCE)


def _with_diagonal(covariance: Array, noise: float, variances: Array) -> Array:
    """Return the covariance (n, n), which is changed, of observations with noise."""
    covariance[np.diag_indices(len(covariance))] += noise + (variances + JITTER)
    return covariance


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
            Process.of(self._groups, theta, points, values, variances)
            for theta in self._posterior(points, values, variances)
        ]
        if pending is not None and len(pending):
            self._processes = [process.with_pending(pending) for process in self._processes]

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
            mean, variance = process.predict(points)
            means.append(self._center + self._unit * mean)
            deviations.append(self._unit * np.sqrt(variance))
        return np.array(means), np.array(deviations)

    def means(self, points: Array) -> Array:
        """Return the mean of log(error + `OFFSET`) at points (n, columns), (samples, n), as `predict` does."""
        return np.array([self._center + self._unit * process.mean(points) for process in self._processes])

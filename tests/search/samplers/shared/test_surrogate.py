"""The Gaussian process surrogate, against arithmetic and against samples from its prior."""

from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from search.analysis.learning_curves import OFFSET
from search.samplers.shared.surrogate import (
    BLOCK_ROWS,
    JITTER,
    LENGTH_SCALE_DEVIATION,
    MIN_VARIANCE,
    NOISE_DEVIATION,
    NOISE_MEDIAN,
    WINSOR_QUANTILE,
    GroupedMatern,
    Likelihood,
    Process,
    Surrogate,
)


def test_the_kernel_is_matern_over_distances_scaled_by_group() -> None:
    kernel = GroupedMatern([0, 0, 1], [1.0, 2.0], variance=3.0)

    # Columns 0 and 1 together are 5 apart, column 2 is 4 apart: r^2 = 25 + 4 = 29.
    value = kernel(np.array([[0.0, 0.0, 0.0]]), np.array([[3.0, 4.0, 4.0]]))

    r = np.sqrt(29)
    assert value[0, 0] == pytest.approx(3 * (1 + np.sqrt(5) * r + 5 * 29 / 3) * np.exp(-np.sqrt(5) * r))


def test_the_kernel_of_many_points_is_that_of_each_pair() -> None:
    points = np.random.default_rng(0).random((2 * BLOCK_ROWS + 3, 3))
    kernel = GroupedMatern([0, 1, 1], [0.5, 0.8])

    whole = kernel(points)

    assert whole[BLOCK_ROWS + 1, 2] == pytest.approx(kernel(points[[BLOCK_ROWS + 1]], points[[2]])[0, 0])
    assert np.allclose(np.diag(whole), kernel.variance, atol=1e-6)
    assert np.allclose(whole, whole.T)


def fitted(deviation: float = 0.0, pending: np.ndarray | None = None) -> Surrogate:
    """Return a model of a line, on which the log error falls from -1 to -2 over 12 points, and an outlier at 0.5."""
    x = np.append(np.linspace(0, 1, 12), 0.5)[:, None]
    errors = np.exp(np.append(-1 - x[:-1, 0], -3.0)) - OFFSET
    return Surrogate([0], x, errors, np.random.default_rng(0), np.append(np.zeros(12), deviation), pending)


def mean_and_deviation(model: Surrogate, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means, deviations = model.predict(points)
    return means.mean(axis=0), np.sqrt(np.mean(deviations**2, axis=0) + means.var(axis=0))


def test_an_observation_counts_by_its_own_deviation() -> None:
    middle = np.array([[0.5]])

    certain, vague = (mean_and_deviation(fitted(deviation), middle)[0][0] for deviation in (0.001, 2.0))

    assert vague == pytest.approx(-1.5, abs=0.1)
    assert certain < vague - 0.1


def test_a_running_trial_lowers_the_deviation_at_its_point_and_keeps_the_mean() -> None:
    beyond = np.array([[1.6]])

    alone, with_pending = fitted(2.0).predict(beyond), fitted(2.0, beyond).predict(beyond)

    assert with_pending[0] == pytest.approx(alone[0], abs=0.02)
    assert (with_pending[1] < alone[1] / 2).all()


def test_the_model_learns_which_group_matters() -> None:
    # The log error depends on column 0 alone; the others are random.
    rng = np.random.default_rng(0)
    x, test = rng.random((40, 6)), rng.random((200, 6))

    model = Surrogate(range(6), x, np.exp(-1 - x[:, 0]) - OFFSET, rng)

    mean, _ = mean_and_deviation(model, test)
    assert np.corrcoef(mean, -test[:, 0])[0, 1] > 0.95


def test_predictions_are_calibrated_from_the_first_trials_on() -> None:
    # Errors are sampled from the prior. Large ones are winsorised at the quantile of the known errors, as in the model.
    rng = np.random.default_rng(0)
    standardised = []
    for _ in range(20):
        x = rng.random((60, 10))
        scales = np.exp(np.log(np.sqrt(5)) + 0.5 * rng.standard_normal(10))
        logs = rng.multivariate_normal(np.full(60, -1.5), 0.3**2 * GroupedMatern(range(10), scales.tolist())(x))
        model = Surrogate(range(10), x[:8], np.exp(logs[:8]) - OFFSET, rng)
        mean, deviation = mean_and_deviation(model, x[8:])
        largest = np.quantile(logs[:8], WINSOR_QUANTILE)
        standardised.append((np.minimum(logs[8:], largest) - np.minimum(mean, largest)) / deviation)

    assert 0.7 < np.sqrt(np.mean(np.square(standardised))) < 1.4


@pytest.mark.medium
def test_without_information_the_hyperparameters_have_the_distribution_of_the_prior() -> None:
    # The deviation of each observation is far larger than the differences of the errors.
    rng = np.random.default_rng(0)
    x, samples = rng.random((5, 2)), []
    for _ in range(60):
        model = Surrogate([0, 1], x, [0.3, 0.31, 0.32, 0.33, 0.34], rng, deviations=1e3)
        samples += [process.theta for process in model._processes]
    *scales, variance, noise = np.array(samples).T

    # Two groups: the median of their length scales is sqrt(2 / 2) = 1. Samples five steps apart are still correlated.
    assert np.mean(scales) == pytest.approx(0.0, abs=0.1)
    assert np.std(scales) == pytest.approx(LENGTH_SCALE_DEVIATION, rel=0.15)
    assert (variance.mean(), variance.std()) == (pytest.approx(0.0, abs=0.2), pytest.approx(1.0, rel=0.2))
    assert noise.mean() == pytest.approx(np.log(NOISE_MEDIAN), abs=0.3)
    assert noise.std() == pytest.approx(NOISE_DEVIATION, rel=0.2)


#: the group of each column of the points of `data`
GROUPS = [0, 0, 1, 2]


def data(count: int = 30) -> tuple[Any, ...]:
    """Return points, values and known variances."""
    rng = np.random.default_rng(0)
    return rng.random((count, 4)), rng.normal(size=count), rng.random(count) / 10


def scikit_learn(theta: np.ndarray, points: np.ndarray, values: np.ndarray, variances: np.ndarray) -> Any:
    """Return scikit-learn's process with its own kernel, of the same hyperparameters."""
    *scales, variance, noise = np.exp(theta)
    matern: Any = Matern  # its type annotations, and those of the regressor, are too narrow
    regressor: Any = GaussianProcessRegressor
    kernel = ConstantKernel(variance) * matern(np.array(scales)[GROUPS], nu=2.5) + WhiteKernel(noise)
    return regressor(kernel, alpha=variances + JITTER, optimizer=None).fit(points, values)


def test_the_likelihood_is_that_of_scikit_learn() -> None:
    points, values, variances = data()

    likelihood = Likelihood(GROUPS, points, values, variances)

    for theta in np.random.default_rng(1).normal(size=(5, 5)):
        expected = scikit_learn(theta, points, values, variances).log_marginal_likelihood_value_
        assert likelihood(theta) == pytest.approx(expected)


def test_a_process_predicts_as_that_of_scikit_learn() -> None:
    points, values, variances = data()
    test = np.random.default_rng(2).random((2 * BLOCK_ROWS + 3, 4))

    for theta in np.random.default_rng(1).normal(size=(5, 5)):
        mean, variance = Process.of(GROUPS, theta, points, values, variances).predict(test)

        expected, deviation = scikit_learn(theta, points, values, variances).predict(test, return_std=True)
        assert mean == pytest.approx(expected)
        assert variance == pytest.approx(np.maximum(deviation**2 - np.exp(theta[-1]), MIN_VARIANCE), abs=1e-9)


def test_running_trials_count_as_observations_of_what_is_predicted() -> None:
    points, values, variances = data()
    test, pending = np.random.default_rng(2).random((50, 4)), np.random.default_rng(3).random((7, 4))

    for theta in np.random.default_rng(1).normal(size=(5, 5)):
        process = Process.of(GROUPS, theta, points, values, variances)
        mean, variance = process.with_pending(pending).predict(test)

        all_points, all_values = np.concatenate([points, pending]), np.append(values, process.mean(pending))
        again = Process.of(GROUPS, theta, all_points, all_values, np.append(variances, np.zeros(7))).predict(test)
        assert mean == pytest.approx(again[0], abs=1e-6)
        assert variance == pytest.approx(again[1], abs=1e-6)

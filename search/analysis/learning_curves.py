"""Forecast the final error of a training from its learning curve so far, by the learning curves of other trials.

Method: Bayesian linear regression of the log error after one epoch on the log error after the epoch before, on the
error that the sampler predicted for the trial, and on its cost, with a conjugate (normal inverse gamma) prior; the
regressions of the remaining epochs are chained. Such regressions are in "Bayesian Data Analysis" (Gelman, Carlin,
Stern, Dunson, Vehtari, Rubin, 3rd edition, CRC Press, 2013), chapter 14. Epochs that no trial has reached continue the
last known step, its mean by a power law.
"""

from collections.abc import Sequence
from itertools import chain
from math import inf, isfinite, log, log1p, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.analysis.pareto import Direction

Array = NDArray[np.float64]

#: Added to each error before the logarithm. log(0) does not exist, and without it the differences between errors below
#: a hundredth would outweigh all others.
OFFSET = 0.01
#: lower bound of a cost in front of a logarithm
MIN_COST = 1e-12
#: Prior of a regression: mean of the slopes on the error before, on the predicted error and on the cost.
PRIOR_SLOPES = np.array([1.0, 0.0, 0.0])
#: Precisions of these slopes. That of an error is a sum of squared distances of log errors from their mean; that of
#: the cost a number of trials, as log costs are in units of their standard deviation.
PRIOR_PRECISIONS = np.array([0.1, 0.1, 1.0])
#: Standard deviation of the residuals of all epochs of a training together; an epoch has its share of the variance.
PRIOR_DEVIATION = 0.2
#: Weight of the prior of the residual variance, as a number of trials.
PRIOR_TRIALS = 3
#: Learning curves from which forecasts are used before trials have finished: twice the initial design of one worker.
MIN_CURVES = 16


def errors(measured: Sequence[float], direction: Direction) -> list[float]:
    """Return values that are minimised: 1 - rate for a rate (direction "max"), a loss (direction "min") as it is."""
    return [1.0 - value for value in measured] if direction == "max" else list(measured)


class Curve(NamedTuple):
    """The learning curve of a training so far, and what was known about it before."""

    errors: Sequence[float]
    """its errors after each finished epoch (see `errors`)"""
    epochs: int
    """number of epochs of the whole training"""
    predicted: float | None = None
    """the final error that the sampler predicted; None if it predicted none"""
    cost: float | None = None
    """a cost of the model"""


class _Step(NamedTuple):
    """The regression of the log error after one epoch on that after the epoch before, and on two more values."""

    slopes: Array
    mean_before: Array
    """mean values before, over the trials that it was fitted to"""
    mean_after: float
    """mean log error after"""
    covariance: Array
    """of the slopes, in units of ``variance``"""
    variance: float
    """variance of a residual, by Student's t"""
    trials: float
    """number of trials that it was fitted to; infinite for a continued step, which has no leverage"""

    def __call__(self, mean: float, variance: float, known: Array) -> tuple[float, float]:
        """Return mean and variance of the log error after the step, for those before it and the two known values."""
        distance = np.array([mean, *known]) - self.mean_before
        leverage = distance @ self.covariance @ distance + self.covariance[0, 0] * variance
        predictive = self.variance * (1 + 1 / self.trials + leverage)
        return self.mean_after + float(self.slopes @ distance), float(self.slopes[0] ** 2 * variance + predictive)

    def continued(self, epoch: int) -> "_Step":
        """Return the next step, after ``epoch``, where no trial has taken it.

        It has the variance of this one. Its slope on the error before is 1, and it adds the mean change of a power law
        of the epoch through this one.
        """
        change = (self.mean_after - float(self.mean_before[0])) * log1p(1 / epoch) / log1p(1 / (epoch - 1))
        return _Step(np.array([1.0, 0.0, 0.0]), np.zeros(3), change, np.zeros((3, 3)), self.variance, inf)


class Curves:
    """Forecast final errors from learning curves.

    For each pair of successive epochs, the log errors after the later epoch are regressed on those after the earlier
    one, on the logarithm of the error that was predicted before the training, and on the logarithm of the cost. A
    forecast chains the regressions of the epochs that are left. So a stopped or running trial contributes to the
    regressions of the epochs that it finished, and one finished trial is enough for all of them. Each epoch that no
    trial has reached is taken to be as uncertain as the last known one: errors become more stable during a training, so
    the deviation is rather too large. Such a forecast serves to compare trials, which share its mean change. If early
    errors do not predict later ones, the slope is near 0 and the residual variance is that of the trials: the forecast
    then ignores early errors. The predicted error is a regressor, not a second opinion: how much it says is learned
    from the trials.

    Args:
        curves: the trials. Trainings of different lengths are compared at the same fraction of their length. Trials
            with an error that is not finite are ignored. A missing prediction or cost counts as the mean of the others.
    """

    def __init__(self, curves: Sequence[Curve]) -> None:
        sound = [curve for curve in curves if all(map(isfinite, curve.errors))]
        lengths = np.array([len(curve.errors) for curve in sound], dtype=np.intp)
        # For each value of all curves: its curve, its epoch and the number of epochs of its training.
        self._rows = np.repeat(np.arange(len(sound)), lengths)
        self._epoch = 1 + np.arange(len(self._rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._epochs = np.repeat([curve.epochs for curve in sound], lengths).astype(int)
        values = chain.from_iterable(curve.errors for curve in sound)
        self._logs = np.log(np.fromiter(values, dtype=float) + OFFSET)
        known = np.array([_known(curve) for curve in sound], dtype=float).reshape(len(sound), 2)
        self._mean, self._unit = _scale(known)
        self._known = self._scaled(known)
        self._tables: dict[int, Array] = {}
        self._steps: dict[tuple[int, int], _Step | None] = {}

    def _scaled(self, known: Array) -> Array:
        """Return predictions and costs (..., 2) relative to their means, costs in units of their deviation."""
        return np.nan_to_num((known - self._mean) / self._unit, nan=0.0)

    def _table(self, epochs: int) -> Array:
        """Return the log errors (trials, epochs) as in a training of ``epochs``; NaN where a trial has none."""
        if epochs not in self._tables:
            at = self._epoch * epochs // self._epochs
            # A longer training has epochs between two of these; they are left out.
            exact = (at > 0) & (-(-at * self._epochs // epochs) == self._epoch)
            table = np.full((self._rows.max(initial=-1) + 1, epochs), np.nan)
            table[self._rows[exact], at[exact] - 1] = self._logs[exact]
            self._tables[epochs] = table
        return self._tables[epochs]

    def _step(self, epoch: int, epochs: int) -> _Step | None:
        """Return the step after ``epoch``; None if no trial has taken it or one before it."""
        if (epoch, epochs) not in self._steps:
            table = self._table(epochs)
            before = np.column_stack([table[:, epoch - 1], self._known[: len(table)]])
            step = _fit(before, table[:, epoch], epochs)
            if step is None and epoch > 1 and (last := self._step(epoch - 1, epochs)):
                step = last.continued(epoch)
            self._steps[epoch, epochs] = step
        return self._steps[epoch, epochs]

    def forecast(self, curve: Curve) -> tuple[float, float] | None:
        """Return mean and standard deviation of log(final error + `OFFSET`) of a training.

        The standard deviation is the predictive one of Student's t, as the residual variance is estimated from few
        trials. It grows with the distance from the errors of the other trials: stopped trials are worse than those that
        the regressions of later epochs were fitted to.

        The forecast is None before the first epoch, if the training has diverged, or if no trial has taken the step
        after its last epoch or one before it.
        """
        if not curve.errors or not isfinite(curve.errors[-1]):
            return None
        mean, variance = log(curve.errors[-1] + OFFSET), 0.0
        known = self._scaled(np.array(_known(curve)))
        for epoch in range(len(curve.errors), curve.epochs):
            step = self._step(epoch, curve.epochs)
            if step is None:
                return None
            mean, variance = step(mean, variance, known)
        return mean, sqrt(variance)


def _known(curve: Curve) -> tuple[float, float]:
    """Return the logarithms of the predicted error and of the cost; NaN where one is not known."""
    predicted = np.nan if curve.predicted is None else log(max(curve.predicted, 0.0) + OFFSET)
    return predicted, np.nan if curve.cost is None else log(max(curve.cost, MIN_COST))


def _scale(known: Array) -> tuple[Array, Array]:
    """Return the means of predictions and costs, and their units: 1, and the standard deviation of the costs."""
    means, units = np.zeros(2), np.ones(2)
    for column, values in enumerate(known.T):
        if len(there := values[~np.isnan(values)]):
            means[column] = there.mean()
            units[column] = (there.std() or 1.0) if column else 1.0
    return means, units


def _fit(before: Array, after: Array, epochs: int) -> _Step | None:
    """Return the regression of one of ``epochs`` on the values before it (trials, 3) and the log errors after it.

    Trials with a NaN are ignored. None without any trial.
    """
    there = ~np.isnan(before[:, 0]) & ~np.isnan(after)
    count = int(there.sum())
    if not count:
        return None
    before, after = before[there], after[there]
    mean_before, mean_after = before.mean(0), float(after.mean())
    x, y = before - mean_before, after - mean_after
    precision = x.T @ x + np.diag(PRIOR_PRECISIONS)
    prior = PRIOR_PRECISIONS * PRIOR_SLOPES
    slopes = np.linalg.solve(precision, x.T @ y + prior)
    if slopes[0] < 0:  # it would forecast that a worse trial ends better
        slopes = np.append(0.0, np.linalg.solve(precision[1:, 1:], x[:, 1:].T @ y + prior[1:]))
    residual = y - x @ slopes
    prior_variance = PRIOR_DEVIATION**2 / (epochs - 1)
    squares = float(
        residual @ residual + PRIOR_PRECISIONS @ np.square(slopes - PRIOR_SLOPES) + PRIOR_TRIALS * prior_variance
    )
    # d = count + PRIOR_TRIALS - 1 degrees of freedom, one less for the mean. Student's t has a variance of
    # squares / d * d / (d - 2).
    variance = squares / max(count + PRIOR_TRIALS - 3, 1)
    return _Step(slopes, mean_before, mean_after, np.linalg.inv(precision), variance, count)

"""Forecast the final error of a training from its learning curve so far, by the learning curves of other trials.

Method: Bayesian linear regression of the log error after one epoch on the log error after the epoch before, with a
conjugate (normal inverse gamma) prior; the regressions of the remaining epochs are chained. Such regressions are in
"Bayesian Data Analysis" (Gelman, Carlin, Stern, Dunson, Vehtari, Rubin, 3rd edition, CRC Press, 2013), chapter 14.
"""

from collections.abc import Sequence
from itertools import chain
from math import isfinite, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.analysis.pareto import Direction
from search.analysis.rank_correlation import correlation

Array = NDArray[np.float64]

#: Added to each error before the logarithm. log(0) does not exist, and without it the differences between errors below
#: a hundredth would outweigh all others.
OFFSET = 0.01
#: minimal number of finished trials for a rank correlation with their final errors
MIN_FINISHED = 4
#: Prior of a regression: mean of the slope.
PRIOR_SLOPE = 1.0
#: Precision of the slope, as a sum of squared distances of log errors from their mean.
PRIOR_PRECISION = 0.1
#: Standard deviation of the residuals of all epochs of a training together; an epoch has its share of the variance.
PRIOR_DEVIATION = 0.5
#: Weight of the prior of the residual variance, as a number of trials.
PRIOR_TRIALS = 3


def errors(measured: Sequence[float], direction: Direction) -> list[float]:
    """Return values that are minimised: 1 - rate for a rate (direction "max"), a loss (direction "min") as it is."""
    return [1.0 - value for value in measured] if direction == "max" else list(measured)


class _Step(NamedTuple):
    """The regression of the log error after one epoch on that after the epoch before."""

    slope: float
    mean_before: float
    """mean log error before, over the trials that it was fitted to"""
    mean_after: float
    """mean log error after"""
    precision: float
    """precision of the slope: sum of squared distances from ``mean_before``, with the prior's"""
    variance: float
    """variance of a residual, by Student's t"""
    trials: int
    """number of trials that it was fitted to"""

    def __call__(self, mean: float, variance: float) -> tuple[float, float]:
        """Return mean and variance of the log error after the step, for those before it."""
        distance = mean - self.mean_before
        predictive = self.variance * (1 + 1 / self.trials + (distance**2 + variance) / self.precision)
        return self.mean_after + self.slope * distance, self.slope**2 * variance + predictive


class Curves:
    """Forecast final errors from learning curves.

    For each pair of successive epochs, the log errors after the later epoch are regressed on those after the earlier
    one. A forecast chains the regressions of the epochs that are left. So a stopped or running trial contributes to the
    regressions of the epochs that it finished, and one finished trial is enough for a forecast. If early errors do not
    predict later ones, the slope is near 0 and the residual variance is that of the trials: the forecast then ignores
    early errors.

    Args:
        curves: for each trial, its errors after each finished epoch (see `errors`) and the number of epochs of the
            whole training. Trainings of different lengths are compared at the same fraction of their length. Trials
            with an error that is not finite are ignored.
    """

    def __init__(self, curves: Sequence[tuple[Sequence[float], int]]) -> None:
        sound = [(curve, epochs) for curve, epochs in curves if all(map(isfinite, curve))]
        lengths = np.array([len(curve) for curve, _ in sound], dtype=np.intp)
        # For each value of all curves: its curve, its epoch and the number of epochs of its training.
        self._rows = np.repeat(np.arange(len(sound)), lengths)
        self._epoch = 1 + np.arange(len(self._rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._epochs = np.repeat([epochs for _, epochs in sound], lengths).astype(int)
        self._logs = np.log(np.fromiter(chain.from_iterable(curve for curve, _ in sound), dtype=float) + OFFSET)
        self._tables: dict[int, Array] = {}
        self._steps: dict[tuple[int, int], _Step | None] = {}

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
        if (epoch, epochs) not in self._steps:
            self._steps[epoch, epochs] = _fit(self._table(epochs)[:, epoch - 1 : epoch + 1], epochs)
        return self._steps[epoch, epochs]

    def agreement(self, epoch: int, epochs: int) -> float | None:
        """Return Spearman's rank correlation of the errors after ``epoch`` with those after the last of ``epochs``.

        It is None if fewer than `MIN_FINISHED` trials have both.
        """
        pairs = self._table(epochs)[:, [epoch - 1, -1]]
        pairs = pairs[~np.isnan(pairs).any(1)]
        return correlation(*pairs.T) if len(pairs) >= MIN_FINISHED else None

    def forecast(self, curve: Sequence[float], epochs: int) -> tuple[float, float] | None:
        """Return mean and standard deviation of log(final error + `OFFSET`) for a training of ``epochs`` epochs.

        ``curve`` has its errors so far. The standard deviation is the predictive one of Student's t, as the residual
        variance is estimated from few trials. It grows with the distance from the errors of the other trials: stopped
        trials are worse than those that the regressions of later epochs were fitted to.

        The forecast is None before the first epoch, if the training has diverged, or if one of the epochs that are left
        was not finished by any other trial.
        """
        if not curve or not isfinite(curve[-1]):
            return None
        mean, variance = log(curve[-1] + OFFSET), 0.0
        for epoch in range(len(curve), epochs):
            step = self._step(epoch, epochs)
            if step is None:
                return None
            mean, variance = step(mean, variance)
        return mean, sqrt(variance)


def _fit(pairs: Array, epochs: int) -> _Step | None:
    """Return the regression of one of ``epochs`` on pairs (trials, 2) of log errors before and after it.

    Pairs with a NaN are ignored. None without any pair.
    """
    before, after = pairs[~np.isnan(pairs).any(1)].T
    count = len(before)
    if not count:
        return None
    mean_before, mean_after = float(before.mean()), float(after.mean())
    x, y = before - mean_before, after - mean_after
    precision = float(x @ x) + PRIOR_PRECISION
    # A negative slope would forecast that a worse trial ends better.
    slope = max(0.0, (float(x @ y) + PRIOR_PRECISION * PRIOR_SLOPE) / precision)
    residual = y - slope * x
    prior_variance = PRIOR_DEVIATION**2 / (epochs - 1)
    squares = float(residual @ residual) + PRIOR_PRECISION * (slope - PRIOR_SLOPE) ** 2 + PRIOR_TRIALS * prior_variance
    # d = count + PRIOR_TRIALS - 1 degrees of freedom, one less for the mean. Student's t has a variance of
    # squares / d * d / (d - 2).
    return _Step(slope, mean_before, mean_after, precision, squares / max(count + PRIOR_TRIALS - 3, 1), count)

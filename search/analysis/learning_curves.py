"""How much an epoch tells of the last one, learnt from all trials that went on from there."""

from collections.abc import Sequence
from itertools import chain
from math import isfinite, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.analysis.pareto import Direction
from search.analysis.rank_correlation import correlation

Array = NDArray[np.float64]


#: added to each error: the logarithm of 0 has no value, and below a hundredth it would be all that counts
OFFSET = 0.01


#: of fewer finished trials no order at the end is known
LEAST = 4


#: what is known before of a step from one epoch to the next: the slope of the regression, as sure as points whose
#: squared distances from their mean add up to `SURE` make it; and the deviation from it, as sure as it is after `SEEN`
#: trials, such that the steps of a whole training come to `DEVIATION`
SLOPE, SURE = 1.0, 0.1


DEVIATION, SEEN = 0.5, 3


def errors(measured: Sequence[float], direction: Direction) -> list[float]:
    """Return what is to be as small as can be: what a rate lacks of 1, or a loss itself."""
    return [1.0 - value for value in measured] if direction == "max" else list(measured)


class _Step(NamedTuple):
    """A line from the log error of an epoch to that of the next, learnt from ``trials``.

    ``width`` is the sum of their squared distances from ``center``, and ``variance`` that of a deviation from the line.
    """

    slope: float
    center: float
    mean: float
    width: float
    variance: float
    trials: int

    def __call__(self, mean: float, variance: float) -> tuple[float, float]:
        """Return mean and variance after this step, given those before it."""
        away = mean - self.center
        further = self.variance * (1 + 1 / self.trials + (away**2 + variance) / self.width)
        return self.mean + self.slope * away, self.slope**2 * variance + further


class Curves:
    """The errors of trials so far as forecasts of the errors with which they will end.

    From each epoch to the next, the logarithms of the error are regressed on those before, from a conjugate prior; the
    steps that a trial still has to take are made one after the other. So a trial that was stopped or goes on tells of
    the steps that it took, and one that finished is enough to begin with. Where an epoch says nothing of the next, the
    slope is flat and the residual spread that of the trials themselves: early values are taken for what they are worth.

    ``curves`` has the errors after each epoch so far, and the number of epochs of that training. Trainings of another
    length are read by their share of it.
    """

    def __init__(self, curves: Sequence[tuple[Sequence[float], int]]) -> None:
        # What diverged says nothing of others.
        sound = [(curve, epochs) for curve, epochs in curves if all(map(isfinite, curve))]
        lengths = np.array([len(curve) for curve, _ in sound], dtype=np.intp)
        # Of each value of all curves: the curve, the epoch, and how many there are.
        self._rows = np.repeat(np.arange(len(sound)), lengths)
        self._epoch = 1 + np.arange(len(self._rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._of = np.repeat([epochs for _, epochs in sound], lengths).astype(int)
        self._logs = np.log(np.fromiter(chain.from_iterable(curve for curve, _ in sound), dtype=float) + OFFSET)
        self._tables: dict[int, Array] = {}
        self._steps: dict[tuple[int, int], _Step | None] = {}

    def _table(self, epochs: int) -> Array:
        """Return the logarithms (trials, epochs) as in a training of so many; NaN where there is none."""
        if epochs not in self._tables:
            at = self._epoch * epochs // self._of
            there = (at > 0) & (-(-at * self._of // epochs) == self._epoch)  # of a longer one some are between epochs
            table = np.full((self._rows.max(initial=-1) + 1, epochs), np.nan)
            table[self._rows[there], at[there] - 1] = self._logs[there]
            self._tables[epochs] = table
        return self._tables[epochs]

    def _step(self, epoch: int, epochs: int) -> _Step | None:
        if (epoch, epochs) not in self._steps:
            self._steps[epoch, epochs] = _learnt(self._table(epochs)[:, epoch - 1 : epoch + 1], epochs)
        return self._steps[epoch, epochs]

    def agreement(self, epoch: int, epochs: int) -> float | None:
        """Return Spearman's rank correlation of the errors after ``epoch`` with those at the end of ``epochs``.

        None where too few have come to their end.
        """
        pairs = self._table(epochs)[:, [epoch - 1, -1]]
        pairs = pairs[~np.isnan(pairs).any(1)]
        return correlation(*pairs.T) if len(pairs) >= LEAST else None

    def forecast(self, curve: Sequence[float], epochs: int) -> tuple[float, float] | None:
        """Return mean and standard deviation of log(last error + `OFFSET`) of a training of ``epochs``, given its own.

        The deviation is that of a new observation, by Student's t, for the noise is known from a few trials only. It
        grows with the distance from what others had, as it must, for those that were stopped lie beyond. None before
        the first epoch, where no other has come from there to its end, or where the trial has diverged.
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


def _learnt(pairs: Array, epochs: int) -> _Step | None:
    early, late = pairs[~np.isnan(pairs).any(1)].T
    count = len(early)
    if not count:
        return None
    center, mean = float(early.mean()), float(late.mean())
    x, y = early - center, late - mean
    width = float(x @ x) + SURE
    slope = max(0.0, (float(x @ y) + SURE * SLOPE) / width)
    residual = y - slope * x
    prior = DEVIATION**2 / (epochs - 1)
    squares = float(residual @ residual) + SURE * (slope - SLOPE) ** 2 + SEEN * prior
    # The mean takes one of the n + SEEN degrees of freedom, and the variance of t with d of these is d / (d - 2).
    return _Step(slope, center, mean, width, squares / max(count + SEEN - 3, 1), count)

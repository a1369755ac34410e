"""How much an epoch tells of the last one, learnt from the trials that ran to their end."""

from collections.abc import Sequence
from math import isfinite, sqrt

import numpy as np

from search.pareto import Direction
from search.ranks import correlation

#: added to each error: the logarithm of 0 has no value, and below a hundredth it would be all that counts
OFFSET = 0.01
#: of fewer finished trials nothing is learnt
LEAST = 4
#: what is known before: the slope of the regression, as sure as points whose squared distances from their mean add up
#: to `SURE` make it; and the deviation from it, as sure as it is after `SEEN` trials
SLOPE, SURE = 1.0, 0.1
DEVIATION, SEEN = 0.35, 3


def errors(measured: Sequence[float], direction: Direction) -> list[float]:
    """Return what is to be as small as can be: what a rate lacks of 1, or a loss itself."""
    return [1.0 - value for value in measured] if direction == "max" else list(measured)


class Curves:
    """The error of finished trials (finished, each its own epochs) as a forecast for those that are under way.

    At each epoch the logarithms of the last error are regressed on those of that epoch's, from a conjugate prior, so
    that a few trials are enough. Where an epoch does not tell the end, the residual spread is that of the finished
    trials themselves, and a forecast says nothing: so early values are taken for what they are worth.
    """

    def __init__(self, finished: Sequence[Sequence[float]]) -> None:
        # What diverged says nothing of others.
        self._curves = [curve for curve in finished if all(map(isfinite, curve))]

    def _pairs(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the logarithms of the error after ``epoch`` and at the end, of the trials that went on from there."""
        pairs = [(curve[epoch - 1], curve[-1]) for curve in self._curves if len(curve) > epoch]
        early, last = np.log(np.array(pairs).reshape(-1, 2) + OFFSET).T
        return early, last

    def agreement(self, epoch: int) -> float:
        """Return Spearman's rank correlation of the errors after ``epoch`` with those at the end; 0 if not known."""
        early, last = self._pairs(epoch)
        return correlation(early, last) if len(early) >= LEAST else 0.0

    def forecast(self, epoch: int, error: float) -> tuple[float, float] | None:
        """Return mean and standard deviation of log(last error + `OFFSET`), given the error after ``epoch``.

        The deviation is that of a new observation, by Student's t, for the noise is known from a few trials only. It
        grows with the distance from what finished trials had, as it must, for those that were stopped lie beyond. None
        where too few have finished, or the trial has diverged.
        """
        early, last = self._pairs(epoch)
        count = len(early)
        if count < LEAST or not isfinite(error):
            return None
        x, center = np.log(error + OFFSET), early.mean()
        width = float(((early - center) ** 2).sum()) + SURE
        slope = (float(((early - center) * (last - last.mean())).sum()) + SURE * SLOPE) / width
        slope = max(0.0, slope)
        residual = last - last.mean() - slope * (early - center)
        squares = float((residual**2).sum()) + SURE * (slope - SLOPE) ** 2 + SEEN * DEVIATION**2
        # The mean takes one of the n + SEEN degrees of freedom, and the variance of t with d of these is d / (d - 2).
        variance = squares / (count + SEEN - 3)
        return float(last.mean() + slope * (x - center)), sqrt(variance * (1 + 1 / count + (x - center) ** 2 / width))

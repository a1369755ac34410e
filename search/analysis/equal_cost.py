r"""What an option gains at equal cost: the difference of two fronts, with an interval.

The front of some runs is a curve: :math:`a(c)` is the best value of a run of cost at most c. The gain of runs A over
runs B is the mean of :math:`a_A(c) - a_B(c)` over the logarithm of the cost, from the least cost that both have to the
cost from which neither front rises any more.

The best of many runs is better than the best of few, whatever they are. So the interval compares equally many: both
sets are drawn with replacement, each as often as the smaller one has runs, and each value gets a normal error of the
size of its own. The ends are quantiles of the gains of many such draws, and the interval contains the gain itself. It
follows the bootstrap: "Bootstrap Methods: Another Look at the Jackknife" (Efron, Annals of Statistics, 1979).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from search.analysis.choices import Choice
from search.analysis.intervals import LEVEL, Estimate
from search.analysis.runs import Run

#: number of draws
DRAWS = 400
#: runs of one draw at most
MAX_DRAWN = 400
#: costs at which fronts are compared
GRID = 48
#: options of which every pair is compared
MAX_PAIRED = 4
#: runs on the smaller side below which an interval says little
FEW_RUNS = 4

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gain:
    """How much better the runs with one option are than others, at equal cost."""

    option: str
    against: str
    """another option, or empty for all others"""
    runs: int
    others: int
    with_option: float
    """mean of the front of the runs with it, over the compared costs"""
    without: float
    gain: Estimate
    """in the unit of the objective; above 0 is better, also for a loss"""

    @property
    def has_few_runs(self) -> bool:
        """Whether one side has fewer than `FEW_RUNS` runs."""
        return min(self.runs, self.others) < FEW_RUNS


def gains(choice: Choice, runs: Sequence[Run], maximise: bool) -> list[Gain]:
    """Return the gains of a choice: of each option over all others, then of the better of each pair of options.

    Of more than `MAX_PAIRED` options, each is paired with the first one only. Of two options there is the pair alone.
    Only runs in which the choice is active are compared. An option without a run, or without others to compare it with,
    has no gain.
    """
    active = [run for run in runs if run.trial.number in choice.taken]
    points = _points(active, maximise)
    taken = np.array([choice.taken[run.trial.number] for run in active], dtype=int)
    options = range(len(choice.options))

    def gain(option: int, other: int | None) -> Gain | None:
        own, others = taken == option, taken != option if other is None else taken == other
        if not (own.any() and others.any()):
            return None
        against = "" if other is None else choice.options[other]
        return _gain(choice.options[option], against, points[own], points[others], maximise)

    found = [gain(option, None) for option in options] if len(options) > 2 else []
    for first, second in combinations(options, 2):
        if first == 0 or len(options) <= MAX_PAIRED:
            pair = gain(second, first)
            found.append(gain(first, second) if pair and pair.gain.value < 0 else pair)
    return [found_gain for found_gain in found if found_gain]


def _points(runs: Sequence[Run], maximise: bool) -> Array:
    """Return log cost, value and error of runs (runs, 3); values are maximised."""
    sign = 1 if maximise else -1
    rows = [(math.log(max(run.cost, 1e-12)), sign * run.value, run.error) for run in runs]
    return np.array(rows, dtype=float).reshape(-1, 3)


def _gain(option: str, against: str, own: Array, others: Array, maximise: bool) -> Gain:
    low = max(own[:, 0].min(), others[:, 0].min())
    high = max(low, *(points[points[:, 1].argmax(), 0] for points in (own, others)))
    grid = np.linspace(low, high, GRID)
    with_option, without = (float(_front(points[None, :, :2], grid).mean()) for points in (own, others))
    rng = np.random.default_rng(0)
    size = min(len(own), len(others), MAX_DRAWN)
    fronts = [_front(_drawn(points, size, rng), grid) for points in (own, others)]
    # Where a draw has no run of so low a cost, it says nothing about it.
    fronts = [np.where(np.isfinite(front), front, np.nan) for front in fronts]
    differences = fronts[0] - fronts[1]
    differences = differences[~np.isnan(differences).all(axis=1)]
    gain, tail = with_option - without, (1 - LEVEL) / 2
    ends = (math.nan, math.nan)
    if len(differences):
        low_end, high_end = np.quantile(np.nanmean(differences, axis=1), [tail, 1 - tail]).tolist()
        ends = (min(low_end, gain), max(high_end, gain))
    sign = 1 if maximise else -1
    estimate = Estimate(gain, *ends)
    return Gain(option, against, len(own), len(others), sign * with_option, sign * without, estimate)


def _drawn(points: Array, size: int, rng: np.random.Generator) -> Array:
    """Return draws (draws, size, 2) of points with replacement: log cost, and value with its error."""
    drawn = points[rng.integers(len(points), size=(DRAWS, size))]
    drawn[..., 1] += drawn[..., 2] * rng.standard_normal(drawn.shape[:2])
    return drawn[..., :2]


def _front(points: Array, grid: Array) -> Array:
    """Return the best value at no more than each cost of ``grid`` (draws, grid), of points (draws, size, 2)."""
    # A tolerance, because the least cost of one side is a point of the grid.
    at = np.searchsorted(grid, points[..., 0] - 1e-9)
    best = np.full((len(points), len(grid) + 1), -np.inf)
    np.maximum.at(best, (np.arange(len(points))[:, None], at), points[..., 1])
    return np.maximum.accumulate(best[:, :-1], axis=1)

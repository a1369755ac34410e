"""Intervals of accuracies: by the number of clips, by the spread of several trainings, and of a difference.

A rate over n clips varies with the clips that happen to be in the split, and with the seed of the training. The first
is a binomial, which Wilson's score interval describes well also near 0 and 1: "Probable Inference, the Law of
Succession, and Statistical Inference" (Wilson, Journal of the American Statistical Association, 1927). The second is
estimated by Student's t where a model was trained several times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from search.analysis.metrics import RATES, TEST
from search.ledger.history import History
from vattn.data.motion import LABELS

#: coverage of all intervals
LEVEL = 0.95
#: half-width of that interval of a normal distribution, standard deviations
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval, which are NaN where they are not known."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval; False where it is not known."""
        return self.low > 0 or self.high < 0


def num_clips(history: History, split: str = "val") -> int | None:
    """Return the number of clips of a split on which trials were measured; None if it is not known.

    It is in the first event of a ledger. Earlier versions have not written it; there it follows from the config of
    generated clips only.
    """
    if history.search and (clips := history.search.clips.get(split)):
        return clips
    data = next((trial.config.get("data") or {} for trial in history.trials.values()), {})
    per_class = data.get(f"{split}_clips")
    return per_class * len(LABELS) if data.get("kind") == "motion" and per_class else None


def by_clips(name: str, value: float, clips: int | None) -> Estimate:
    """Return Wilson's interval of a metric over ``clips`` clips; it is not known for a metric that is no rate.

    For ``mean_class`` it is that of classes with equally many clips.
    """
    if clips is None or name.removeprefix(TEST) not in RATES or not 0 <= value <= 1:
        return Estimate(value)
    centre = (value + Z**2 / (2 * clips)) / (1 + Z**2 / clips)
    half = Z / (1 + Z**2 / clips) * math.sqrt(value * (1 - value) / clips + Z**2 / (4 * clips**2))
    # At a rate of 0 or 1 an end is the rate itself, but for rounding.
    return Estimate(value, max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half)))


def of_mean(name: str, values: Sequence[float], clips: int | None) -> Estimate:
    """Return the mean of several trainings, at least one, with its interval.

    The two parts, by the clips (`by_clips` of the mean) and by the spread of the trainings (Student's t), are added as
    independent errors: each training was measured on the same clips. With one training there is the first part only.
    """
    mean = fmean(values)
    clip_part = by_clips(name, mean, clips)
    if len(values) == 1:
        return clip_part
    from scipy.special import stdtrit  # most commands do not need it, and it takes a fifth of a second to import

    spread = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * stdev(values) / math.sqrt(len(values))
    return widened(name, clip_part, spread)


def widened(name: str, estimate: Estimate, half_width: float) -> Estimate:
    """Return an estimate of a metric with a further independent error of that half-width.

    Where an estimate has no interval, it gets that of this error alone. The interval of a rate stays in 0 ... 1.
    """
    value = estimate.value
    low, high = (0.0, 0.0) if not estimate.is_known else (value - estimate.low, estimate.high - value)
    ends = (value - math.hypot(low, half_width), value + math.hypot(high, half_width))
    if name.removeprefix(TEST) in RATES:
        ends = (max(0.0, ends[0]), min(1.0, ends[1]))
    return Estimate(value, *ends)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Return a - b with its interval, from the intervals of two independent estimates.

    Each end adds the distances of the two ends that matter as independent errors: "Interval Estimation for the
    Difference between Independent Proportions: Comparison of Eleven Methods" (Newcombe, Statistics in Medicine, 1998),
    method 10. Models that are measured on the same clips tend to fail on the same ones, so that their true difference
    is known better than this says.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Estimate(value, low, value + math.hypot(a.high - a.value, b.value - b.low))

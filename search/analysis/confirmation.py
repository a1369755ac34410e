r"""Confirmation: retrain the front with fresh seeds, and estimate how good its trials are by these alone.

A search picks its best trials by their accuracies, so these accuracies are too high (selection bias). The means over
fresh seeds, which nothing was picked by, are unbiased. There are few seeds for each trial, so one covariance :math:`S`
is pooled over all retrained trials, with :math:`\nu = \sum_i (k_i - 1)` degrees of freedom, where trial i has
:math:`k_i` seeds and the mean :math:`\bar x_i`. The expected values :math:`\mu_i` of its objectives then follow a
multivariate Student's t distribution, which is sampled:

.. math:: \mu_i \sim \bar x_i + \sqrt{\nu / \chi^2_\nu} \; N(0, S / k_i)

Joint samples for all trials give the intervals, and the share q of the samples in which a trial is on the front. This
is not yet the probability that it is on the front of the expected values: means have the noise of their seeds and
samples as much again, so trials that are near each other change places too often. On recorded tables the trials that
were on that front followed Platt's scaling ("Probabilistic Outputs for Support Vector Machines", 2000), logit p = a + b
logit q; p is what is stated.

Where the number n of validation clips is known, each sample of a rate also has an independent error of variance
p (1 - p) / n, with p = (n x + 2) / (n + 4), so that two seeds that agree, or are both always right, are not taken as
certain. Models fail on the same clips in part, so their differences are known better than these independent errors say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.analysis.front import in_order, on_front, settled, values
from search.analysis.intervals import LEVEL, num_clips
from search.analysis.metrics import RATES
from search.analysis.pareto import Objectives, front
from search.ledger.history import History, Trial

#: number of joint samples of the expected values
NUM_SAMPLES = 20_000
#: a and b of Platt's scaling, fitted to bins of 4,333 trials of three tables (docs/benchmarks.md, "Confirmation")
INTERCEPT, SLOPE = 0.33, 0.7
#: number of samples that are compared at once; divides `NUM_SAMPLES`
_BATCH = 1_000


@dataclass(frozen=True)
class Row:
    """The estimates for one confirmed trial."""

    trial: Trial
    """with the means of its fresh seeds as metrics"""
    seeds: int
    """number of finished retrainings"""
    searched: Mapping[str, float]
    """its metrics in the search"""
    half_width: Mapping[str, float]
    """half-width of the interval of each measured objective; NaN if no trial has two seeds, or if seeds agree in
    everything and the number of clips is not known"""
    probability: float
    """probability that it is on the front; NaN if no trial has two seeds"""
    on_front: bool
    """whether it is on the front of the means"""


@dataclass(frozen=True)
class Confirmation:
    """The estimates for all confirmed trials of a search."""

    rows: Sequence[Row]
    """in order of increasing cost"""
    accuracy: str
    """the first measured objective"""
    optimism: float
    """how much better the search showed its front than fresh seeds do: mean over the front, in units of ``accuracy``"""
    clips: int | None
    """number of validation clips; None if it is not known"""
    test_clips: int | None
    """number of clips of the test split"""


def plan(history: History, objectives: Objectives, top: int, seeds: int) -> list[tuple[Trial, int]]:
    """Return the retrainings that are still to be proposed: pairs of a trial and a seed that no training has.

    The trials to confirm are those of the search's front and its ``top`` nearest misses. A miss is measured by how much
    better the trial would have to be in one measured objective, as a fraction of the range of that objective. Each is
    retrained with ``seeds`` fresh seeds. The list is empty while a trial of the search has not ended.
    """
    if history.in_state("proposed", "running"):
        return []
    finished = history.in_state("finished")
    used = [trial.config["train"]["seed"] for trial in [*history.trials.values(), *history.extras.values()]]
    first = 1 + max(used, default=0)
    chosen = to_confirm(finished, objectives, top)
    return [(trial, first + n) for trial in chosen for n in range(seeds - len(trial.retrainings))]


def to_confirm(finished: Sequence[Trial], objectives: Objectives, top: int) -> list[Trial]:
    """Return the trials that `plan` confirms: the front, and the ``top`` trials that miss it by least."""
    return [*on_front(finished, objectives), *_near_misses(finished, objectives)[:top]]


def _near_misses(finished: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Return the trials that are not on the front, the nearest to it first."""
    whole = np.flatnonzero(np.isfinite(values(finished, objectives)).all(axis=1))
    trials = [finished[n] for n in whole.tolist()]
    if not trials:
        return []
    directions = list(objectives.values())
    best = front(values(trials, objectives), directions)
    numbers = {trials[n].number for n in best}
    gains = values(trials, objectives) * [1.0 if direction == "max" else -1.0 for direction in directions]
    measured = [n for n, name in enumerate(objectives) if name not in trials[0].cost]
    span = np.ptp(gains, axis=0)
    scaled = gains / np.where(span > 0, span, 1.0)
    missed = []
    for trial, gain, own in zip(trials, gains, scaled, strict=True):
        # It is enough to compare with the front: of all trials that dominate this one, it has the farthest ahead.
        ahead = scaled[best][(gains[best] >= gain).all(axis=1)] - own
        missed.append((float(ahead[:, measured].min(axis=1).max()), trial.number, trial))
    return [trial for _, number, trial in sorted(missed, key=lambda item: item[:2]) if number not in numbers]


def confirmation(history: History, objectives: Objectives) -> Confirmation | None:
    """Return the estimates from fresh seeds; None until all trials of the front have been confirmed."""
    trials = in_order(settled(history, objectives), objectives)
    if not trials:
        return None
    measured = [name for name in objectives if name not in trials[0].cost]
    seeds = [np.array([[metrics[name] for name in measured] for metrics in trial.fresh]) for trial in trials]
    clips = num_clips(history)
    samples = _sample(seeds, _clip_variance(seeds, measured, clips))
    means = np.array([[trial.metrics[name] for name in measured] for trial in trials])
    half_widths = np.quantile(np.abs(samples - means), LEVEL, axis=0)
    # Seeds that agree do not show that others will: without clips there is nothing to estimate an interval from.
    half_widths[half_widths == 0] = np.nan
    front_numbers = {trial.number for trial in on_front(trials, objectives)}
    searched = {trial.number: trial.metrics for trial in history.in_state("finished")}
    rows = [
        Row(
            trial=trial,
            seeds=len(trial.fresh),
            searched=searched[trial.number],
            half_width=dict(zip(measured, half_width.tolist(), strict=True)),
            probability=probability,
            on_front=trial.number in front_numbers,
        )
        for trial, half_width, probability in zip(
            trials, half_widths, _probabilities(samples, trials, objectives, measured), strict=True
        )
    ]
    accuracy = measured[0]
    shown = {trial.number for trial in on_front(history.in_state("finished"), objectives)}
    gaps = [row.searched[accuracy] - row.trial.metrics[accuracy] for row in rows if row.trial.number in shown]
    sign = 1 if objectives[accuracy] == "max" else -1
    optimism = sign * sum(gaps) / len(gaps) if gaps else 0.0
    return Confirmation(rows, accuracy, optimism, clips, num_clips(history, "test"))


def _clip_variance(
    seeds: Sequence[NDArray[np.float64]], measured: Sequence[str], clips: int | None
) -> NDArray[np.float64]:
    """Return the variance of each mean (trials, measured objectives) by the choice of clips; 0 where not known."""
    means = np.array([results.mean(axis=0) for results in seeds])
    if clips is None:
        return np.zeros_like(means)
    rate = (clips * means + 2) / (clips + 4)
    return np.where([name in RATES for name in measured], rate * (1 - rate) / clips, 0.0)


def _sample(seeds: Sequence[NDArray[np.float64]], clip_variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return joint samples of the expected values (samples, trials, measured objectives).

    ``seeds`` has for each trial the results of its seeds (seeds, measured objectives); ``clip_variance`` is that of
    their means. All samples are NaN if no trial has two seeds.
    """
    means = np.array([results.mean(axis=0) for results in seeds])
    freedom = sum(len(results) - 1 for results in seeds)
    if not freedom:
        return np.full((NUM_SAMPLES, *means.shape), np.nan)
    residuals = np.concatenate([results - results.mean(axis=0) for results in seeds])
    covariance = residuals.T @ residuals / freedom
    rng = np.random.default_rng(0)
    noise = rng.multivariate_normal(np.zeros(means.shape[1]), covariance, (NUM_SAMPLES, len(seeds)))
    scale = np.sqrt(freedom / rng.chisquare(freedom, NUM_SAMPLES))[:, None, None]
    samples = means + scale * noise / np.sqrt([len(results) for results in seeds])[:, None]
    return samples + np.sqrt(clip_variance) * rng.standard_normal(samples.shape) if clip_variance.any() else samples


def _probabilities(
    samples: NDArray[np.float64], trials: Sequence[Trial], objectives: Objectives, measured: Sequence[str]
) -> list[float]:
    """Return for each trial the probability that no other one dominates it, from the share of the samples."""
    if np.isnan(samples).any():
        return [float("nan")] * len(trials)
    gains = np.broadcast_to(values(trials, objectives), (NUM_SAMPLES, len(trials), len(objectives))).copy()
    gains[..., [list(objectives).index(name) for name in measured]] = samples
    gains *= [1.0 if direction == "max" else -1.0 for direction in objectives.values()]
    count = np.zeros(len(trials))
    for batch in np.split(gains, NUM_SAMPLES // _BATCH):
        own, rivals = batch[:, :, None], batch[:, None]
        dominated = (rivals >= own).all(axis=-1) & (rivals > own).any(axis=-1)
        count += (~dominated.any(axis=-1)).sum(axis=0)
    return calibrated(count / NUM_SAMPLES).tolist()


def calibrated(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of shares of samples; those of 0 and 1 are certain, such as that of the least cost."""
    with np.errstate(divide="ignore"):
        return 1 / (1 + np.exp(-INTERCEPT) * (1 / shares - 1) ** SLOPE)

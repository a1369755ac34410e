r"""Confirmation: the front and its near misses trained again with fresh seeds, by which nothing was chosen.

What a search shows of its best trials is too good, as it chose them by those very numbers; the mean over fresh seeds is
not. How much seeds matter is pooled over all retrained trials, as each has few of them: with k seeds of trial i, and a
pooled covariance :math:`S` of :math:`\nu` degrees of freedom, what the trial is worth is drawn from Student's t:

.. math:: \mu_i \sim \bar x_i + \sqrt{\nu / \chi^2_\nu} \; N(0, S / k_i)

Such draws, of all trials together, give the intervals, and the probability that a trial belongs to the front. They are
about other seeds, not about other validation clips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.analysis.front import in_order, on_front, settled, values
from search.analysis.pareto import Objectives, front
from search.ledger.history import History, Trial

#: draws of what all retrained trials are worth, and how many are compared at once
DRAWS, TOGETHER = 20_000, 1_000


#: of the intervals
LEVEL = 0.95


@dataclass(frozen=True)
class Row:
    """What fresh seeds say of one trial, whose metrics are their mean."""

    trial: Trial
    seeds: int
    searched: Mapping[str, float]
    """its metrics in the search"""
    reach: Mapping[str, float]
    """half of the interval of each objective that training measures; NaN where a single training tells of no spread"""
    probability: float
    """that it belongs to the front"""
    on_front: bool


@dataclass(frozen=True)
class Confirmation:
    """What fresh seeds say of a search."""

    rows: Sequence[Row]
    """cheapest first"""
    accuracy: str
    """the first objective that training measures"""
    optimism: float
    """how much better the search showed its front than fresh seeds do, on average, in units of ``accuracy``"""


def plan(history: History, objectives: Objectives, top: int, seeds: int) -> list[tuple[Trial, int]]:
    """Return each training that is still to be proposed: a trial, and a fresh seed, which no trial has.

    Trained again are the trials of the search's front, and the ``top`` that miss it by least: by what they would have
    to be better in one measured objective, as a part of its range. None is while trials of the search are under way.
    """
    if history.in_state("proposed", "running"):
        return []
    finished = history.in_state("finished")
    taken = [trial.config["train"]["seed"] for trial in [*history.trials.values(), *history.extras.values()]]
    first = 1 + max(taken, default=0)
    again = [*on_front(finished, objectives), *_near_misses(finished, objectives)[:top]]
    return [(trial, first + n) for trial in again for n in range(seeds - len(trial.retrainings))]


def _near_misses(finished: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Return the trials that are not on the front, nearest to it first."""
    whole = np.flatnonzero(np.isfinite(values(finished, objectives)).all(axis=1))
    kept = [finished[n] for n in whole.tolist()]
    if not kept:
        return []
    directions = list(objectives.values())
    best = front(values(kept, objectives), directions)
    chosen = {kept[n].number for n in best}
    gains = values(kept, objectives) * [1.0 if way == "max" else -1.0 for way in directions]
    measured = [n for n, name in enumerate(objectives) if name not in kept[0].cost]
    span = np.ptp(gains, axis=0)
    scaled = gains / np.where(span > 0, span, 1.0)
    missed = []
    for trial, gain, own in zip(kept, gains, scaled, strict=True):
        # What is farthest ahead is on the front.
        ahead = scaled[best][(gains[best] >= gain).all(axis=1)] - own
        missed.append((float(ahead[:, measured].min(axis=1).max()), trial.number, trial))
    return [trial for _, number, trial in sorted(missed, key=lambda item: item[:2]) if number not in chosen]


def confirmation(history: History, objectives: Objectives) -> Confirmation | None:
    """Return what fresh seeds say of a search; None until its whole front was trained again."""
    trials = in_order(settled(history, objectives), objectives)
    if not trials:
        return None
    measured = [name for name in objectives if name not in trials[0].cost]
    worth = _draws([np.array([[fresh[name] for name in measured] for fresh in trial.fresh]) for trial in trials])
    means = np.array([[trial.metrics[name] for name in measured] for trial in trials])
    reach = np.quantile(np.abs(worth - means), LEVEL, axis=0)
    chosen = {trial.number for trial in on_front(trials, objectives)}
    before = {trial.number: trial.metrics for trial in history.in_state("finished")}
    rows = [
        Row(
            trial, len(trial.fresh), before[trial.number], dict(zip(measured, half.tolist(), strict=True)), share,
            trial.number in chosen,
        )
        for trial, half, share in zip(trials, reach, _shares(worth, trials, objectives, measured), strict=True)
    ]  # fmt: skip
    accuracy = measured[0]
    shown_first = {trial.number for trial in on_front(history.in_state("finished"), objectives)}
    gaps = [row.searched[accuracy] - row.trial.metrics[accuracy] for row in rows if row.trial.number in shown_first]
    sign = 1 if objectives[accuracy] == "max" else -1
    return Confirmation(rows, accuracy, sign * sum(gaps) / len(gaps) if gaps else 0.0)


def _draws(samples: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return draws of what trials are worth, (draws, trials, objectives), from what each's fresh seeds came to.

    ``samples`` are (seeds, objectives). NaN where no trial has two seeds.
    """
    means = np.array([sample.mean(axis=0) for sample in samples])
    freedom = sum(len(sample) - 1 for sample in samples)
    if not freedom:
        return np.full((DRAWS, *means.shape), np.nan)
    rest = np.concatenate([sample - sample.mean(axis=0) for sample in samples])
    rng = np.random.default_rng(0)
    noise = rng.multivariate_normal(np.zeros(means.shape[1]), rest.T @ rest / freedom, (DRAWS, len(samples)))
    heavy = np.sqrt(freedom / rng.chisquare(freedom, DRAWS))[:, None, None]
    return means + heavy * noise / np.sqrt([len(sample) for sample in samples])[:, None]


def _shares(
    worth: NDArray[np.float64], trials: Sequence[Trial], objectives: Objectives, measured: Sequence[str]
) -> list[float]:
    """Return for each trial the share of the draws in which no other one dominates it."""
    if np.isnan(worth).any():
        return [float("nan")] * len(trials)
    gains = np.broadcast_to(values(trials, objectives), (DRAWS, len(trials), len(objectives))).copy()
    gains[..., [list(objectives).index(name) for name in measured]] = worth
    gains *= [1.0 if way == "max" else -1.0 for way in objectives.values()]
    alone = np.zeros(len(trials))
    for part in np.split(gains, DRAWS // TOGETHER):
        mine, others = part[:, :, None], part[:, None]
        dominated = (others >= mine).all(axis=-1) & (others > mine).any(axis=-1)
        alone += (~dominated.any(axis=-1)).sum(axis=0)
    return (alone / DRAWS).tolist()

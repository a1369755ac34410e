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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search import pareto
from search.ledger import History, Trial
from search.pareto import RATES, Objectives, aligned, describe, front, in_order, on_front, pick, settled, shown, values

#: draws of what all retrained trials are worth, and how many are compared at once
DRAWS, TOGETHER = 20_000, 1_000
#: of the intervals
LEVEL = 0.95
#: what the metrics of the test split begin with
TEST = "test_"


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


def as_json(history: History, objectives: Objectives) -> dict[str, Any]:
    """Return the front for machines (see `pareto.as_json`), and what fresh seeds said of it, null where none did."""
    found = confirmation(history, objectives)
    return pareto.as_json(history, objectives) | {"confirmation": found and _tree(found)}


def _tree(found: Confirmation) -> dict[str, Any]:
    models = [
        {
            "trial": row.trial.number,
            "on_front": row.on_front,
            "probability": _or_none(row.probability),
            "seeds": row.seeds,
            "mean": {name: row.trial.metrics[name] for name in row.reach},
            "interval": {name: _or_none(half) and _ends(row, name) for name, half in row.reach.items()},
            "searched": {name: row.searched[name] for name in row.reach},
            "test": {name.removeprefix(TEST): row.trial.metrics[name] for name in _test_names(row.trial)},
        }
        for row in found.rows
    ]
    return {"level": LEVEL, "optimism": {found.accuracy: found.optimism}, "models": models}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _ends(row: Row, name: str) -> list[float]:
    mean, half = row.trial.metrics[name], row.reach[name]
    return [mean - half, mean + half]


def _test_names(trial: Trial) -> list[str]:
    return sorted(name for name in trial.metrics if name.startswith(TEST))


def render(history: History, objectives: Objectives) -> str:
    """Return the front for people: `pareto.render`'s table, or once it was confirmed, one of all retrained trials."""
    found = confirmation(history, objectives)
    if found is None:
        return pareto.render(history, objectives)
    costs = [name for name in [*objectives, *found.rows[0].trial.cost] if name in found.rows[0].trial.cost]
    costs = list(dict.fromkeys(costs))
    test = TEST + found.accuracy
    tested = all(test in row.trial.metrics for row in found.rows)
    picks = {rule: pick(history, objectives, rule).number for rule in ("best", "knee")}
    measured = list(found.rows[0].reach)
    head = ["trial", *measured, "in search", "on front", *(["test split"] if tested else []), *costs, "", "model"]
    rows = [head]
    for row in found.rows:
        metrics = row.trial.metrics
        marks = [rule for rule, number in picks.items() if number == row.trial.number] if row.on_front else ["behind"]
        rows.append([
            str(row.trial.number),
            *(with_reach(name, metrics[name], row.reach[name]) for name in measured),
            shown(found.accuracy, row.searched[found.accuracy]),
            "-" if np.isnan(row.probability) else f"{100 * row.probability:.0f} %",
            *([shown(found.accuracy, metrics[test])] if tested else []),
            *(shown(name, metrics[name]) for name in costs),
            " ".join(marks),
            describe(row.trial),
        ])  # fmt: skip
    return "\n".join([aligned(rows, right=len(head) - 2), "", *_notes(found, tested)])


def _notes(found: Confirmation, tested: bool) -> list[str]:
    most = max(row.seeds for row in found.rows)
    means = ", ".join(found.rows[0].reach)
    lines = [
        f"{means}: mean of {most} fresh seeds, with its {100 * LEVEL:.0f} % interval (Student's t, one spread for all)",
        "on front: how probable it is, by that spread",
    ]
    if tested:
        lines.append(f"test split: {found.accuracy} there, mean of the same seeds; nothing was chosen by it")
    else:
        lines.append("the data have no test split: all numbers are of the validation split")
    if any(row.trial.source is not None for row in found.rows):
        lines.append("inherited weights are the same for all seeds of a trial: by other ones they would differ more")
    return [*lines, told_optimism(found)]


def told_optimism(found: Confirmation) -> str:
    """Return in words how optimistic a search was."""
    return f"optimism: {points(found)}, by how much the search showed its front better than fresh seeds do, on average"


def points(found: Confirmation) -> str:
    """Return the optimism of a search in units that people read: "+3.1 points of top1"."""
    if found.accuracy in RATES:
        return f"{100 * found.optimism:+.1f} points of {found.accuracy}"
    return f"{found.optimism:+.4g} of {found.accuracy}"


def with_reach(name: str, value: float, half: float) -> str:
    """Return a mean with half of its interval, as people read it: "62.5 ± 3.1 %"."""
    if np.isnan(half):
        return shown(name, value)
    return f"{100 * value:.1f} ± {100 * half:.1f} %" if name in RATES else f"{value:.4g} ± {half:.2g}"

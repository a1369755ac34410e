r"""Confirmation: the front and its near misses trained again with fresh seeds, by which nothing was chosen.

What a search shows of its best trials is too good, as it chose them by those very numbers; the mean over fresh seeds is
not. How much seeds matter is pooled over all retrained trials, as each has few of them: with k seeds of trial i, and a
pooled covariance :math:`S` of :math:`\nu` degrees of freedom, what the trial is worth is drawn from Student's t:

.. math:: \mu_i \sim \bar x_i + \sqrt{\nu / \chi^2_\nu} \; N(0, S / k_i)

Such draws, of all trials together, give the intervals, and the probability that a trial belongs to the front. They are
about other seeds, not about other validation clips.
"""

from typing import Any

import numpy as np

from search.analysis.confirmation import LEVEL, Confirmation, Row, confirmation
from search.analysis.metrics import RATES, TEST
from search.analysis.pareto import Objectives
from search.analysis.pick import pick
from search.ledger.history import History, Trial
from search.report import table
from search.report.describe import describe, shown
from search.report.table import aligned


def as_json(history: History, objectives: Objectives) -> dict[str, Any]:
    """Return the front for machines (see `search.report.table.as_json`), and what fresh seeds said of it, null where none did."""
    found = confirmation(history, objectives)
    return table.as_json(history, objectives) | {"confirmation": found and _tree(found)}


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
    """Return the front for people: `search.report.table.render`'s table, or once it was confirmed, one of all retrained trials."""
    found = confirmation(history, objectives)
    if found is None:
        return table.render(history, objectives)
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

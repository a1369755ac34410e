"""What fresh seeds say of the best trials, as a table for people and as plain values for other programs.

How it is computed is in `search.analysis.confirmation`.
"""

import math
from collections.abc import Mapping
from typing import Any

from search.analysis.confirmation import Confirmation, Row
from search.analysis.intervals import LEVEL, by_clips
from search.analysis.metrics import RATES, TEST
from search.analysis.pareto import Objectives
from search.report.tables.columns import align
from search.report.wording.trials import describe
from search.report.wording.values import format_mean, format_metric, format_probability


def confirmation_as_json(confirmed: Confirmation) -> dict[str, Any]:
    """Return the level of the intervals, the optimism of the search, and a plain row for each retrained trial."""
    return {
        "level": LEVEL,
        "optimism": {confirmed.accuracy: confirmed.optimism},
        "models": [row_as_json(row) for row in confirmed.rows],
    }


def row_as_json(row: Row) -> dict[str, Any]:
    """Return what fresh seeds say of one trial; an interval or probability that is not known is None."""
    metrics = row.trial.metrics
    tests = sorted(name for name in metrics if name.startswith(TEST))
    return {
        "trial": row.trial.number,
        "on_front": row.on_front,
        "probability": None if math.isnan(row.probability) else row.probability,
        "seeds": row.seeds,
        "mean": {name: metrics[name] for name in row.half_width},
        "interval": {name: _interval(metrics[name], half) for name, half in row.half_width.items()},
        "searched": {name: row.searched[name] for name in row.half_width},
        "test": {name.removeprefix(TEST): metrics[name] for name in tests},
    }


def _interval(mean: float, half_width: float) -> list[float] | None:
    return None if math.isnan(half_width) else [mean - half_width, mean + half_width]


def render_confirmation(confirmed: Confirmation, objectives: Objectives, picks: Mapping[str, int]) -> str:
    """Return a table of all retrained trials in order of increasing cost, and notes that explain its columns.

    ``picks`` has the numbers of the trials that are marked, by rule.
    """
    cost = confirmed.rows[0].trial.cost
    costs = list(dict.fromkeys(name for name in [*objectives, *cost] if name in cost))
    measured = list(confirmed.rows[0].half_width)
    test = TEST + confirmed.accuracy
    has_test = all(test in row.trial.metrics for row in confirmed.rows)
    head = ["trial", *measured, "in search", "on front", *(["test split"] if has_test else []), *costs, "", "model"]
    lines = [head]
    for row in confirmed.rows:
        metrics = row.trial.metrics
        marks = [rule for rule, number in picks.items() if number == row.trial.number] if row.on_front else ["behind"]
        lines.append([
            str(row.trial.number),
            *(format_mean(name, metrics[name], row.half_width[name]) for name in measured),
            format_metric(confirmed.accuracy, row.searched[confirmed.accuracy]),
            format_probability(row.probability),
            *([_test(confirmed, metrics[test])] if has_test else []),
            *(format_metric(name, metrics.get(name, math.nan)) for name in costs),
            " ".join(marks),
            describe(row.trial),
        ])  # fmt: skip
    return "\n".join([align(lines, right=len(head) - 2), "", *_notes(confirmed, has_test)])


def _test(confirmed: Confirmation, value: float) -> str:
    """Return the mean on the test split, with the interval by its number of clips where that is known."""
    estimate = by_clips(TEST + confirmed.accuracy, value, confirmed.test_clips)
    return format_mean(confirmed.accuracy, value, (estimate.high - estimate.low) / 2)


def _notes(confirmed: Confirmation, has_test: bool) -> list[str]:
    seeds = max(row.seeds for row in confirmed.rows)
    means, accuracy = ", ".join(confirmed.rows[0].half_width), confirmed.accuracy
    level = f"± half of its {100 * LEVEL:.0f} % interval"
    clips = f"; with the choice of {confirmed.clips:,} clips" if confirmed.clips else ""
    lines = [
        f"{means}: mean of {seeds} fresh seeds, {level} (Student's t, one variance for all trials{clips})",
        f"in search: {accuracy} of the single training in the search",
        "on front: probability to be on the front, from the same variance",
    ]
    if not all(row.on_front for row in confirmed.rows):
        lines.append("behind: not on the front of the means")
    if has_test:
        lines.append(f"test split: mean {accuracy} of the same seeds on the test split, not used for any choice")
    else:
        lines.append("the data have no test split: all numbers are of the validation split")
    if any(row.trial.source is not None for row in confirmed.rows):
        lines.append("all seeds of a trial start with the same inherited weights; with others they would vary more")
    overestimate = "mean overestimate of the front by the search, compared with fresh seeds"
    return [*lines, f"optimism: {format_optimism(confirmed)}, {overestimate}"]


def format_optimism(confirmed: Confirmation) -> str:
    """Return the optimism of a search with its unit, such as "+3.1 points of top1"."""
    if confirmed.accuracy in RATES:
        return f"{100 * confirmed.optimism:+.1f} points of {confirmed.accuracy}"
    return f"{confirmed.optimism:+.4g} of {confirmed.accuracy}"

"""Phrases that the paragraphs of `vattn why` share: metrics, lists of trials, changes from one value to another."""

import math
from collections.abc import Mapping, Sequence

from search.analysis.metrics import RATES
from search.report.why.parts import TrialValues
from search.report.wording.values import format_metric

#: trials, or reasons, that a list names
LISTED = 3


def list_metrics(values: Mapping[str, float]) -> str:
    """Return metrics such as "top1 62.5 %, gflops 0.2"."""
    return ", ".join(f"{name} {format_metric(name, value)}" for name, value in values.items())


def list_trials(trials: Sequence[TrialValues]) -> str:
    """Return the first trials with their objectives, such as "trial 1 (top1 62.5 %) and 4 more"."""
    return ", ".join(f"trial {trial.trial} ({list_metrics(trial.values)})" for trial in trials[:LISTED]) + and_more(
        len(trials)
    )


def and_more(count: int, what: str = "") -> str:
    """Return the number of items that a list of ``count`` leaves out, such as " and 4 more"; empty if there is none."""
    return f" and {count - LISTED} more {what}".rstrip() if count > LISTED else ""


def compare(values: Mapping[str, float], own: Mapping[str, float]) -> str:
    """Return another trial's metrics, each with its change from the metric in ``own``, if it is there."""
    return ", ".join(
        f"{name} {format_metric(name, value)}" + (change(name, own[name], value) if name in own else "")
        for name, value in values.items()
    )


def change(name: str, value: float, to: float) -> str:
    """Return the change from one value to another in brackets: of a rate in percentage points, else in percent."""
    if not (math.isfinite(value) and math.isfinite(to)):
        return ""
    if math.isclose(value, to):
        return " (equal)"
    if name in RATES:
        points = 100 * (to - value)
        return f" ({points:+.{decimals(points, 1)}f} points)"
    if not value:
        return f" ({to:+.4g})"
    percent = 100 * (to - value) / value
    return f" ({percent:+.{decimals(percent, 0)}f} %)"


def decimals(value: float, least: int) -> int:
    """Return the number of decimals, at least ``least``, with which a number is not shown as zero.

    A value that differs from zero only by rounding has ``least``.
    """
    return max(least, -math.floor(math.log10(abs(value)))) if abs(value) > 1e-9 else least


def count_times(count: int) -> str:
    """Return "once", or such as "3 times"."""
    return "once" if count == 1 else f"{count} times"

"""Numbers and config values as people read them: rates in percent, four digits, durations as h:mm:ss."""

import math
from collections.abc import Mapping
from typing import Any, Self

from search.analysis.intervals import Estimate
from search.analysis.metrics import RATES


class Shown(str):
    """A text that shows numbers, and those numbers, for files that programs read."""

    numbers: Mapping[str, float]

    def __new__(cls, text: str, **numbers: float) -> Self:
        """Make the text; ``numbers`` are named by what they are: ``value``, ``low``, ``high``, ``runs``, ..."""
        shown = super().__new__(cls, text)
        shown.numbers = numbers
        return shown


def format_metric(name: str, value: float) -> Shown:
    """Return a metric for people: a rate as "62.5 %", any other with four digits, and "-" if it is not finite."""
    if not math.isfinite(value):
        return Shown("-", value=value)
    return Shown(f"{100 * value:.1f} %" if name in RATES else f"{value:.4g}", value=value)


def format_mean(name: str, mean: float, half_width: float) -> str:
    """Return a mean and half the width of its interval, such as "62.5 ± 3.1 %"; without the latter if it is NaN."""
    if math.isnan(half_width):
        return format_metric(name, mean)
    return f"{100 * mean:.1f} ± {100 * half_width:.1f} %" if name in RATES else f"{mean:.4g} ± {half_width:.2g}"


def format_range(name: str, estimate: Estimate) -> Shown:
    """Return the interval of a metric, such as "89.1 to 94.0 %"; "-" where it is not known."""
    text = f"{estimate.low:.4g} to {estimate.high:.4g}"
    if not estimate.is_known:
        text = "-"
    elif name in RATES:
        text = f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f} %"
    return Shown(text, low=estimate.low, high=estimate.high)


def format_estimate(name: str, estimate: Estimate) -> Shown:
    """Return a metric with its interval, such as "91.9 % (89.1 to 94.0 %)"; without one where it is not known."""
    value = format_metric(name, estimate.value)
    text = f"{value} ({format_range(name, estimate)})" if estimate.is_known else value
    return Shown(text, value=estimate.value, low=estimate.low, high=estimate.high)


def format_gain(name: str, gain: Estimate) -> Shown:
    """Return a difference with its interval, such as "+5.0 points (1.1 to 8.9)", of a rate in percentage points."""
    factor, unit = (100, " points") if name in RATES else (1, "")
    digits = ".1f" if name in RATES else ".3g"
    text = f"{factor * gain.value:+{digits}}{unit}"
    if gain.is_known:
        text += f" ({factor * gain.low:{digits}} to {factor * gain.high:{digits}})"
    return Shown(text, value=gain.value, low=gain.low, high=gain.high)


def significance(is_significant: bool) -> str:
    """Return whether a difference is significant, in words."""
    return "significant" if is_significant else "not significant"


def format_probability(probability: float) -> str:
    """Return a probability such as "36 %", and "-" if it is NaN."""
    return "-" if math.isnan(probability) else f"{100 * probability:.0f} %"


def format_value(value: Any) -> str:
    """Return a config value for people: yes or no, a number with four digits, the kind of a section, a list.

    A list of lists, such as the dilations by stage, is "1,4,4,4 | 1,2".
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return str(value.get("kind", "")) or " ".join(f"{key} {format_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return (" | " if any(isinstance(item, list | tuple) for item in value) else ",").join(map(format_value, value))
    return str(value)


def format_duration(seconds: float) -> Shown:
    """Return seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return Shown(f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}", seconds=seconds)

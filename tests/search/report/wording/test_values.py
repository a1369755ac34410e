"""Metrics, durations and error messages as people read them."""

import math

from search.report.wording.errors import first_line
from search.report.wording.values import format_duration, format_mean, format_metric, format_probability


def test_rates_are_shown_in_percent() -> None:
    assert format_metric("top1", 0.8125) == "81.2 %"
    assert format_metric("gflops", 0.12345) == "0.1235"
    assert format_metric("loss", math.nan) == "-"


def test_a_mean_is_shown_with_its_interval_if_that_is_known() -> None:
    assert format_mean("top1", 0.625, 0.031) == "62.5 ± 3.1 %"
    assert format_mean("loss", 0.625, 0.031) == "0.625 ± 0.031"
    assert format_mean("top1", 0.625, math.nan) == "62.5 %"


def test_a_probability_is_in_percent_or_unknown() -> None:
    assert (format_probability(0.364), format_probability(math.nan)) == ("36 %", "-")


def test_durations_are_hours_minutes_and_seconds() -> None:
    assert (format_duration(3725.4), format_duration(59.6)) == ("1:02:05", "0:01:00")


def test_the_line_of_an_error_is_the_last_of_a_traceback_or_the_first() -> None:
    assert first_line("Traceback (most recent call last):\n  File ...\nValueError: too big\n") == "ValueError: too big"
    assert first_line("out of memory\nmore") == "out of memory"

"""Durations and error messages as people read them."""

from search.report.wording.errors import first_line
from search.report.wording.values import format_duration


def test_durations_are_hours_minutes_and_seconds() -> None:
    assert (format_duration(3725.4), format_duration(59.6)) == ("1:02:05", "0:01:00")


def test_the_line_of_an_error_is_the_last_of_a_traceback_or_the_first() -> None:
    assert first_line("Traceback (most recent call last):\n  File ...\nValueError: too big\n") == "ValueError: too big"
    assert first_line("out of memory\nmore") == "out of memory"

"""The progress of a preparation in a log."""

import pytest

from search.report.live import progress


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    for done in range(1, 101):
        progress.progress("motion", done, 100)

    assert capsys.readouterr().err.splitlines() == ["motion: 1 of 100", "motion: 100 of 100"]

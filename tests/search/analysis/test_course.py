"""The course of a search: hypervolume, lanes and compute, by hand."""

from typing import Any

import pytest

from search.analysis.course import attempts, compute, moments
from tests.search.events import history_of
from tests.search.report.ledgers import Trees

BOTH: Any = {"top1": "max", "gflops": "min"}


def test_the_hypervolume_after_each_finished_trial(events: Trees) -> None:
    history = history_of(events)

    found = moments(history, BOTH, history.constraints)

    # The fixture says 0.4 after trial 0, and 0.55 with trial 1; they end 5 and 18 events after the first, 2 s apart.
    assert [(m.trial, m.finished, m.seconds) for m in found] == [(0, 1, 10.0), (1, 2, 36.0)]
    assert [m.hypervolume for m in found] == pytest.approx([0.4, 0.55])


def test_attempts_at_once_are_in_different_lanes(events: Trees) -> None:
    found = {(a.trial, n): a for n, a in enumerate(attempts(history_of(events)))}
    by_trial: dict[int, list[tuple[int, float, float]]] = {}
    for attempt in found.values():
        by_trial.setdefault(attempt.trial, []).append((attempt.lane, attempt.start, attempt.end))

    assert by_trial[0] == [(0, 4.0, 10.0)]
    # Trials 1 and 2 start together; 3 starts when 2 has ended.
    assert by_trial[1] == [(0, 18.0, 36.0)]
    assert by_trial[2] == [(1, 20.0, 26.0)]
    assert by_trial[3] == [(1, 30.0, 32.0)]
    # Trial 4 failed after one epoch, and began again.
    assert by_trial[4] == [(0, 40.0, 42.0), (0, 48.0, 48.0)]


def test_compute_is_divided_by_purpose(events: Trees) -> None:
    # Epochs of 3 seconds: two of trials 0 and 1, one of 2 and 4, none of 3.
    assert compute(history_of(events), {0}) == {
        "on the front": (1, 6.0, 0.0), "not on the front": (1, 6.0, 0.0), "stopped early": (1, 3.0, 0.0),
        "failed": (1, 0.0, 0.0), "running": (1, 3.0, 0.0),
    }  # fmt: skip

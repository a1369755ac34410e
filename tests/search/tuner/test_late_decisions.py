"""Which reports were not judged before their process died."""

from typing import Any

from search.tuner.late_decisions import undecided
from tests.search.events import event


def trials(*trees: dict[str, Any]) -> dict[int, int]:
    return undecided([event(tree) for tree in trees])


def test_a_report_is_undecided_if_its_process_wrote_nothing_after_it() -> None:
    def report(trial: int) -> dict[str, Any]:
        return {"event": "report", "trial": trial, "epoch": 1, "metrics": {}}

    resumed, ended = {"event": "resumed"}, {"event": "ended", "reason": "budget"}
    assert trials() == {}
    assert trials(report(0), report(1)) == {1: 2}
    assert trials(report(0), {"event": "stopped", "trial": 0, "epoch": 1, "reason": "a rung"}) == {}
    # The second process died before the trial had reported again; in the third line, a report of another trial follows.
    assert trials(report(0), resumed, {"event": "started", "trial": 0}) == {0: 1}
    assert trials(report(0), resumed, report(1), ended) == {0: 1}
    # The trial continued and reported its next epoch.
    assert trials(report(0), resumed, report(0), report(1), ended) == {}

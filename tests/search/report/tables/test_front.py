"""The table of the front, for people and for machines."""

import pytest

from search.analysis.front import front_of
from search.analysis.pareto import Objectives
from search.report.tables.front import as_json, render, rows
from tests.search.events import event
from tests.search.trials import history, small_search, trial_events

BOTH: Objectives = {"top1": "max", "gflops": "min"}


def test_a_row_holds_objectives_cost_time_and_description() -> None:
    row = rows(front_of(small_search(), BOTH)[1:2], BOTH)[0]

    assert row == {
        "trial": 0, "top1": 0.8, "gflops": 2.0, "params_m": 1.0, "seconds": 4.0,
        "description": "tam a2 b4 K3 @res2-5 b, T8, lr 0.05", "identity": "id0",
    }  # fmt: skip


def test_the_printed_front_marks_the_picks() -> None:
    assert render(small_search(), BOTH).splitlines() == [
        "trial    top1  gflops  params_m        model",
        "    3  50.0 %       1         1        tam a2 b4 K3 @res2-5 b, T8, lr 0.05",
        "    0  80.0 %       2         1  knee  tam a2 b4 K3 @res2-5 b, T8, lr 0.05",
        "    1  90.0 %       4         1  best  tam a2 b4 K3 @res2-5 b, T8, lr 0.05",
    ]
    assert "  best knee  tam" in render(history(trial_events(0, [0.5], 1.0)), BOTH)
    assert render(history(trial_events(0, [], 1.0, end="running")), BOTH) == "no trial is finished yet: 1 running"


def test_an_interval_of_detectors_is_by_their_actions() -> None:
    events = trial_events(0, [], 1.0, end="running")
    events.append({"event": "report", "trial": 0, "epoch": 1, "metrics": {"map": 0.5}, "seconds": 2.0})
    search = history([*events, {"event": "finished", "trial": 0, "epoch": 1, "seconds": 2.0}])
    search.apply(event({"event": "search", "clips": {"val": 40}, "spec": {"search": {"budget": {}}}}))

    shown = render(search, {"map": "max", "gflops": "min"})

    assert "map 95 %: the interval by the 40 validation actions; each model was trained once" in shown


def test_intervals_are_those_of_the_number_of_clips() -> None:
    search = small_search()
    search.apply(event({"event": "search", "clips": {"val": 100}, "spec": {"search": {"budget": {}}}}))

    lines = render(search, BOTH).splitlines()

    # Wilson's interval of 90 of 100.
    assert lines[0].split()[:5] == ["trial", "top1", "top1", "95", "%"]
    assert "90.0 %  82.6 to 94.5 %" in lines[3]
    assert lines[5] == "top1 95 %: the interval by the 100 validation clips; each model was trained once"
    # 80 of 100 is in 71.1 to 86.7 %: 10 - hypot(7.4, 6.7) and 10 + hypot(4.5, 8.9) points.
    assert lines[6].startswith("best: +10.0 points (0.0 to 19.9) over trial 0, significant")
    assert as_json(search, BOTH)["intervals"]["1"] == pytest.approx([0.8256, 0.9448], abs=1e-4)

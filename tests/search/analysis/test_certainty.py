"""How sure a front is: steps, rivals and picks."""

from typing import Any

import pytest

from search.analysis.certainty import certainty
from search.analysis.pareto import Objectives
from search.ledger.history import History
from tests.search.confirmed import AGAIN, SEARCHED, SPEC, trained
from tests.search.events import history_of

BOTH: Objectives = {"top1": "max", "gflops": "min"}


def search(clips: int, *trials: list[dict[str, Any]]) -> History:
    began = {"event": "search", "name": "again", "spec": SPEC, "clips": {"val": clips}}
    return history_of([began, *(event for events in trials for event in events)])


def test_a_step_within_the_error_of_the_clips_is_unsure() -> None:
    three = [trained(0, 0.50, 1.0), trained(1, 0.54, 2.0), trained(2, 0.80, 4.0)]
    sure = certainty(search(100, *three), BOTH)

    # 4 points at 100 clips are within a standard error of 7 points; 26 points are not.
    assert [(step.cheaper.number, step.better.number) for step in sure.unsure] == [(0, 1)]
    assert [step.gain.value for step in sure.steps] == pytest.approx([0.04, 0.26])
    assert not certainty(search(100_000, *three), BOTH).unsure


def test_rivals_are_trials_of_no_higher_cost_within_chance() -> None:
    trials = [trained(0, 0.80, 2.0), trained(1, 0.78, 2.0), trained(2, 0.79, 3.0), trained(3, 0.50, 1.0)]
    sure = certainty(search(100, *trials), BOTH)

    # Trial 2 costs more than trial 0, and trial 3 is far behind.
    assert sure.rivals == {3: [], 0: [1]}
    assert sure.best is not None
    assert sure.best.number == 0


def test_without_a_number_of_clips_nothing_is_said() -> None:
    sure = certainty(
        history_of([{"event": "search", "spec": SPEC}, *trained(0, 0.5, 1.0), *trained(1, 0.6, 2.0)]), BOTH
    )

    assert not sure.unsure
    assert sure.rivals == {0: [], 1: []}
    assert not sure.estimates[0].is_known


def test_a_confirmed_front_has_the_intervals_of_fresh_seeds() -> None:
    sure = certainty(search(1000, *SEARCHED, *AGAIN), BOTH)

    assert sure.is_confirmed
    assert [trial.number for trial in sure.front] == [0, 1, 3]
    assert sure.estimates[0].value == pytest.approx(0.40)
    # t(0.975; 4) = 2.776 times the standard error of a mean of two, and 1.96 times that of 1000 clips.
    seeds, clips = 2.776**2 * 0.0014 / 8, 1.96**2 * 0.4 * 0.6 / 1000
    half = (sure.estimates[0].high - sure.estimates[0].low) / 2
    assert half == pytest.approx((seeds + clips) ** 0.5, rel=0.06)


def test_of_a_loss_less_is_better() -> None:
    loss: Objectives = {"loss": "min", "gflops": "min"}
    spec = SPEC | {"objectives": loss}
    trials = [trained(0, 0.5, 1.0), trained(1, 0.5, 2.0)]
    for n, value in ((0, 2.0), (1, 1.5)):
        trials[n][2]["metrics"] = {"loss": value}
    sure = certainty(history_of([{"event": "search", "spec": spec}, *trials[0], *trials[1]]), loss)

    assert sure.best is not None
    assert sure.best.number == 1
    assert sure.steps[0].gain.value == pytest.approx(0.5)

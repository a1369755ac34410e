"""The events of a search add up to its trials, their states and the time that was spent."""

from typing import Any

import pytest

from tests.search.events import event, history_of

Events = list[dict[str, Any]]


def test_a_ledger_adds_up(events: Events) -> None:
    search = history_of(events)

    assert {number: trial.state for number, trial in search.trials.items()} == {
        0: "finished", 1: "finished", 2: "stopped", 3: "failed", 4: "running",
    }  # fmt: skip
    assert search.trials[1].metrics == {"gflops": 0.4, "params_m": 2.0, "top1": 0.75, "loss": 0.25, "train_loss": 0.5}
    assert (search.trials[1].epoch, search.trials[1].seconds) == (2, 6.0)
    assert [trial.number for trial in search.in_state("finished", "stopped")] == [0, 1, 2]
    assert len(search.rejected) == 1
    # 25 events, 2 seconds apart; the pause before the resume, 2 seconds, is not active.
    assert search.active == pytest.approx(46.0)


def test_a_trial_that_failed_but_is_tried_again_waits_with_its_epochs(events: Events) -> None:
    trial = history_of(events[:23]).trials[4]

    assert (trial.state, trial.epoch, trial.end) == ("proposed", 1, None)


def test_an_epoch_that_is_reported_twice_counts_once(events: Events) -> None:
    again = {"event": "report", "time": 1.8e9, "trial": 1, "epoch": 2, "metrics": {"top1": 0.0}, "seconds": 3.0}

    search = history_of([*events, again])

    assert (search.trials[1].metrics["top1"], search.trials[1].seconds) == (0.75, 6.0)


def test_a_resume_undoes_the_end_and_may_change_the_budget(events: Events) -> None:
    search = history_of([*events, {"event": "ended", "time": 1.8e9, "reason": "interrupted"}])
    assert search.ended is not None

    search.apply(event({"event": "resumed", "time": 1.9e9, "budget": {"trials": 9}}))

    assert search.ended is None
    assert search.budget == {"trials": 9}

"""The estimate of the time that a search needs, redone on paper."""

import pytest

from search.report.live.time_left import seconds_left
from tests.search.events import history_of
from tests.search.report.ledgers import Trees


def test_the_estimate_follows_the_speed_and_the_length_of_ended_trials(events: Trees) -> None:
    # 4 trials have ended, with 2 + 2 + 1 + 0 = 5 epochs, 1.25 each. Of 6 trials one is still to be proposed, 1.25
    # epochs, and the running one needs 0.25: 1.5 epochs of 3 s, one after the other, as one trial is running.
    assert seconds_left(history_of(events), 60.0) == pytest.approx(4.5)


def test_a_trial_longer_than_most_still_needs_its_own_epochs(events: Trees) -> None:
    # Until trial 1 ends, one trial of 2 epochs and one of 1 have ended, 1.5 each; 3 are to be proposed. Trial 1 has run
    # 1 epoch, so it needs half an epoch more: 5 in all, of 3 s. After its second epoch of 3, it needs the third.
    longer = [tree | ({"config": {"train": {"epochs": 3}}} if tree["event"] == "proposed" else {}) for tree in events]
    assert seconds_left(history_of(longer[:14]), 60.0) == pytest.approx(3 * (3 * 1.5 + 0.5))
    second_epoch = events[17]
    assert second_epoch["trial"] == 1
    assert seconds_left(history_of([*longer[:14], second_epoch]), 60.0) == pytest.approx(3 * (3 * 1.5 + 1))


def test_the_estimate_is_at_most_the_budget(events: Trees) -> None:
    events[0]["spec"] = events[0]["spec"] | {"search": {"budget": {"trials": 6, "hours": 61 / 3600}}}
    assert seconds_left(history_of(events), 60.0) == pytest.approx(1.0)


def test_there_is_no_estimate_before_the_first_epoch(events: Trees) -> None:
    assert seconds_left(history_of(events[:3]), 60.0) is None

"""Trainings that give no sign of life, with the seconds of a clock that the tests move."""

from typing import Any

import pytest

import search.tuner.patience as module
from search.ledger.history import History
from search.tuner.patience import EPOCHS, FIRST, LEAST, LONGEST_STEP, Patience
from tests.search.events import history_of


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, patience: Patience, history: History, seconds: float) -> dict[int, float]:
        """Look every second; return what hung, with its silence at the first such look."""
        found: dict[int, float] = {}
        for _ in range(round(seconds)):
            self.now += 1
            found |= {number: found.get(number, silence) for number, silence in patience.hung(history).items()}
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def running(*trials: tuple[float, list[float]]) -> History:
    """Return running trials with these GFLOPs and these seconds of their epochs."""
    events: list[dict[str, Any]] = [{"event": "search"}]
    for number, (gflops, seconds) in enumerate(trials):
        of_trial: list[dict[str, Any]] = [
            {"event": "proposed", "config": {"train": {"epochs": 9}}, "cost": {"gflops": gflops}},
            {"event": "started"},
            *({"event": "report", "epoch": n, "metrics": {}, "seconds": each} for n, each in enumerate(seconds, 1)),
        ]
        events += [{"trial": number} | event for event in of_trial]
    return history_of(events)


def test_a_given_number_of_seconds_counts_from_the_last_sign_of_life(clock: Clock) -> None:
    patience, history = Patience(20.0), running((1.0, [9.0]), (1.0, []))

    assert clock.wait(patience, history, 15) == {}
    patience.heard(1)
    assert clock.wait(patience, history, 10) == {0: 21.0}
    assert clock.wait(patience, history, 11) == {1: 21.0}


def test_without_a_number_it_is_several_times_the_longest_epoch(clock: Clock) -> None:
    history = running((1.0, [100.0, 300.0, 100.0]))

    assert clock.wait(Patience(None), history, EPOCHS * 300) == {}
    assert clock.wait(Patience(None), history, EPOCHS * 300 + 1) == {0: EPOCHS * 300 + 1}


def test_short_epochs_are_given_time_and_a_first_epoch_that_of_its_cost(clock: Clock) -> None:
    # Epochs in proportion to the cost: 20, 40 and 80 s; so 4,000 s are predicted for the fourth trial.
    history = running((1.0, [20.0]), (2.0, [40.0]), (4.0, [80.0]), (200.0, []))

    assert clock.wait(Patience(None), history, LEAST + 1) == dict.fromkeys(range(3), LEAST + 1)
    assert clock.wait(Patience(None), history, EPOCHS * 4000 + 2)[3] == pytest.approx(EPOCHS * 4000, abs=2)


def test_before_any_epoch_an_hour_is_given(clock: Clock) -> None:
    assert clock.wait(Patience(None), running((1.0, [])), FIRST + 1) == {0: FIRST + 1}


def test_time_in_which_this_process_slept_does_not_count(clock: Clock) -> None:
    patience, history = Patience(20.0), running((1.0, []))

    clock.now += 100_000
    assert patience.hung(history) == {}
    assert clock.wait(patience, history, 20 - LONGEST_STEP) == {}
    assert clock.wait(patience, history, 1) == {0: 21.0}


def test_only_running_trials_can_hang(clock: Clock) -> None:
    history = history_of([
        {"event": "search"},
        {"event": "proposed", "trial": 0, "config": {"train": {"epochs": 9}}, "cost": {"gflops": 1.0}},
    ])  # fmt: skip

    assert clock.wait(Patience(20.0), history, 100) == {}

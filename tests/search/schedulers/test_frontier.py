"""Early stopping by the probability of improvement, on histories with a known decision."""

import math
from typing import Any

import pytest

from search.ledger.history import History
from search.schedulers.frontier import Frontier
from tests.search.schedulers.histories import history

FRONTIER = Frontier(min_epochs=1, probability=0.1, objectives={"top1": "max", "gflops": "min"}, measured="top1")
#: eight finished trials, each with an error e after one epoch, and about half of it after two
ERRORS = [
    (e, e * (0.5 + wobble))
    for e, wobble in zip((0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7), (0.02, -0.02) * 4, strict=True)
]
FINISHED = [(1.0, [1 - first, 1 - last]) for first, last in ERRORS]


def after_one_epoch(gflops: float, top1: float, why: dict[str, Any] | None = None) -> History:
    """Return a history of `FINISHED` and one more trial, number 8, after its first epoch."""
    trials = history(*FINISHED, (gflops, [top1]), finished=8)
    trials.trials[8].why = why or {}
    return trials


def test_a_trial_that_is_out_of_reach_of_the_front_stops() -> None:
    # The best trial of no higher cost has an error of 0.3 * 0.52 = 0.156; 0.65 halves to 0.33, twice as much.
    reason = FRONTIER.verdict(after_one_epoch(1.0, 1 - 0.65), 8)

    assert reason is not None
    assert reason.startswith("epoch 1: a chance of 2.")
    assert "to end better than trial 0, which costs no more; at least 10.00% is asked" in reason


@pytest.mark.parametrize(("gflops", "error"), [(1.0, 0.25), (1.0, 0.32), (0.9, 0.65)])
def test_a_trial_that_may_become_the_best_at_its_cost_continues(gflops: float, error: float) -> None:
    assert FRONTIER.verdict(after_one_epoch(gflops, 1 - error), 8) is None


def test_a_trial_that_was_proposed_with_a_small_probability_is_not_stopped_for_it() -> None:
    # The probability of 2.4 % of the first test is below a tenth of 1, and not below a tenth of 0.02.
    assert FRONTIER.verdict(after_one_epoch(1.0, 1 - 0.65, {"probability_of_front": 1.0}), 8) is not None
    assert FRONTIER.verdict(after_one_epoch(1.0, 1 - 0.65, {"probability_of_front": 0.02}), 8) is None


def test_an_epoch_that_does_not_predict_the_final_ranking_stops_no_trial() -> None:
    # The final errors of the first and the last trial are swapped: a rank correlation of 1 - 6 * 98 / 504 = -1/6.
    last = [FINISHED[i][1][1] for i in (7, 1, 2, 3, 4, 5, 6, 0)]
    swapped = [(1.0, [top1s[0], end]) for (_, top1s), end in zip(FINISHED, last, strict=True)]

    assert FRONTIER.verdict(history(*swapped, (1.0, [0.01]), finished=8), 8) is None


def test_a_finished_trial_that_diverged_stops_no_other() -> None:
    scheduler = Frontier(min_epochs=1, probability=0.1, objectives={"loss": "min", "gflops": "min"}, measured="loss")

    def verdict(final_loss: float) -> str | None:
        losses = [[first, final_loss if number == 4 else last] for number, (first, last) in enumerate(ERRORS)]
        return scheduler.verdict(history(*((1.0, curve) for curve in [*losses, [0.25]]), finished=8, metric="loss"), 8)

    assert verdict(math.nan) is None
    assert verdict(math.inf) is None
    assert verdict(0.01) is not None


def test_before_min_epochs_no_trial_stops() -> None:
    late = Frontier(min_epochs=2, probability=0.1, objectives=FRONTIER.objectives, measured="top1")

    assert late.verdict(after_one_epoch(1.0, 0.01), 8) is None
    assert FRONTIER.verdict(after_one_epoch(1.0, 0.01), 8) is not None


def test_while_too_few_trials_have_finished_none_stops() -> None:
    assert FRONTIER.verdict(history(*FINISHED, (1.0, [0.01])), 8) is None

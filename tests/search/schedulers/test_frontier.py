"""Early stopping by the probability of improvement, on histories with a known decision."""

import math
import re
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import pytest

from search.analysis.learning_curves import OFFSET
from search.ledger.history import History
from search.schedulers.frontier import Frontier, FrontierConfig, Outlooks, is_look
from tests.search.schedulers.histories import history

FRONTIER = Frontier(min_epochs=1, probability=0.3, objectives={"top1": "max", "gflops": "min"}, measured="top1")
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


def test_a_trial_that_is_out_of_reach_of_the_front_stops_and_the_reason_says_why() -> None:
    # The best trial of no higher cost has an error of 0.3 * 0.52 = 0.156; 0.65 halves to 0.33, twice as much.
    reason = FRONTIER.verdict(after_one_epoch(1.0, 1 - 0.65, {"probability_of_front": 0.21}), 8)

    assert reason is not None
    assert reason.startswith("after epoch 1 its chance of entering the front fell to ")
    assert "under 6 %, 0.3 times the 21 % that it was proposed with; its error is forecast to end at 32." in reason
    assert reason.endswith("and trial 0, which costs no more, has 15.6 %")


@pytest.mark.parametrize(("gflops", "error"), [(1.0, 0.25), (1.0, 0.32), (0.9, 0.65)])
def test_a_trial_that_may_become_the_best_at_its_cost_continues(gflops: float, error: float) -> None:
    assert FRONTIER.verdict(after_one_epoch(gflops, 1 - error), 8) is None


def chance(trials: History, number: int, *, finished_only: bool = False) -> float:
    """Return what the test says of a trial after its first epoch."""
    outlook = Outlooks(trials, FRONTIER.objectives, "top1").outlook(
        trials.trials[number], 1, finished_only=finished_only
    )
    assert outlook is not None
    return outlook.chance


def test_a_trial_that_was_proposed_with_a_small_probability_is_not_stopped_for_it() -> None:
    # 0.4 halves to 0.2 +- a tenth: the chance to fall below 0.156 is a few percent, between 0.3 times 0.01 and 0.1.
    assert FRONTIER.verdict(after_one_epoch(1.0, 1 - 0.42, {"probability_of_front": 1.0}), 8) is not None
    assert FRONTIER.verdict(after_one_epoch(1.0, 1 - 0.42, {"probability_of_front": 0.01}), 8) is None


def test_the_threshold_is_a_share_of_the_least_chance_that_a_trial_on_the_front_had() -> None:
    # The trials on the front have 0.3 and 0.55 after one epoch, and 0.156 and 0.152 at the end: the second one, which
    # costs more, had a small chance to end below the first.
    finished = [(1.0 + number % 2, curve) for number, (_, curve) in enumerate(FINISHED)]
    finished[5] = (2.0, [1 - 0.55, 1 - 0.152])
    stopped = 0

    for error in (0.3, 0.5, 0.52, 0.54, 0.56, 0.58, 0.6, 0.65):
        trials = history(*finished, (1.0, [1 - error]), finished=8)
        had = [chance(trials, number, finished_only=True) for number in (0, 5)]
        assert 0.001 < had[1] < 0.1 < had[0]
        reason = FRONTIER.verdict(trials, 8)

        assert (reason is not None) == (chance(trials, 8) < 0.3 * had[1])
        assert reason is None or ", 0.3 times the " in reason
        assert reason is None or " that trial 5, on today's front, had after as many epochs; " in reason
        stopped += reason is not None
    assert 0 < stopped < 7  # some go on that would stop at 10 %


def test_a_chance_above_a_tenth_is_never_stopped() -> None:
    stopped, spared = (FRONTIER.verdict(after_one_epoch(1.0, 1 - error), 8) for error in (0.42, 0.34))

    assert stopped is not None
    had = f"{100 * chance(after_one_epoch(1.0, 1 - 0.42), 0, finished_only=True):.0f} %"
    assert (
        f"under 10 %, the highest threshold and less than 0.3 times the {had} that trial 0, on today's front, had "
        "after as many epochs; "
    ) in stopped
    # Its forecast of 0.17 +- 0.02 against 0.156: above 10 %, although below 0.3 times the chance of trial 0.
    assert spared is None
    assert chance(after_one_epoch(1.0, 1 - 0.34), 8) > 0.1


def test_a_reason_tells_the_chance_from_the_threshold_and_keeps_an_error_rate_below_1() -> None:
    def reason(share: float) -> str:
        """Return the reason for a trial whose chance is ``share`` of the threshold."""
        probability = chance(trials, 8) / share / chance(trials, 0, finished_only=True)
        return replace(FRONTIER, probability=probability).verdict(trials, 8) or ""

    trials = after_one_epoch(1.0, 1 - 0.42)
    assert re.search(r"fell to 2 %, under 4 %, 0\.\d+ times", reason(0.5))
    close = re.search(r"fell to (\S+) %, under (\S+) %, 0\.\d+ times", reason(0.98))
    assert close is not None
    assert float(close[1]) < float(close[2])
    # An error of 0.99 in the first half of its epochs could end above 1, were it a loss.
    assert " to 100.0 %), and trial 0" in (FRONTIER.verdict(wave(math.log(1.0)), 16) or "")


def test_a_running_trial_that_is_forecast_to_end_better_is_a_rival_too() -> None:
    def verdict(gflops: float, error: float, number: int = 8) -> str | None:
        return FRONTIER.verdict(history(*FINISHED, (1.0, [1 - 0.3]), (gflops, [1 - error]), finished=8), number)

    # Both halve: 0.15 +- 0.02 may end below the 0.156 of trial 0, but not below 0.1 +- 0.01.
    reason = verdict(1.0, 0.2)
    assert reason is not None
    assert "and trial 9, which costs no more, has not ended and is forecast to end at 10.2 % (6.7 to 15.1 %)" in reason
    assert verdict(1.0, 0.2, number=9) is None
    # Two that are as likely to win both go on, and one that costs more is no rival.
    assert verdict(1.0, 0.29) is None
    assert verdict(1.1, 0.2) is None


def test_the_first_trials_of_the_initial_design_are_never_stopped() -> None:
    def verdict(initial: int) -> str | None:
        """Return the verdict on the last of 24 trials, of which the last ``initial`` are of the initial design."""
        trials = history(*FINISHED * 2, *[(1.0, [1 - 0.65])] * 8, finished=16)
        for number in range(24 - initial, 24):
            trials.trials[number].why = {"initial": True}
        return FRONTIER.verdict(trials, 23)

    assert verdict(0) is not None
    assert verdict(1) is None
    assert verdict(16) is None
    assert verdict(17) is not None  # with as many workers, it is one of a first wave


def wave(judged: float, good: int = 8) -> History:
    """Return trials of the same cost after 2 of 8 epochs, the last one with the log error ``judged``; 16 are others.

    Log errors are -1 and, of ``good`` trials, -2 after one epoch; all fall by 0.5, and by 0.1 more or less in turn.
    """
    logs = [(x, x - 0.5 + r) for x, r in zip([-2.0] * good + [-1.0] * 8, [-0.1, 0.1] * 8, strict=False)]
    curves = [[1 - math.exp(log) + OFFSET for log in pair] for pair in [*logs, (-1.5, judged)]]
    trials = history(*((1.0, curve) for curve in curves), epochs=8)
    for trial in trials.trials.values():
        trial.why = {"initial": True}
    return trials


def test_a_first_wave_is_judged_before_a_trial_has_finished() -> None:
    """Computed by hand: the judged trial is at the mean, so that the regression's slope is exactly 1."""
    trials = wave(-2.0)

    # Squares: 16 residuals of 0.1, and 3 prior variances of a step, 0.2^2 / 7; 17 trials. Six steps are left, each with
    # that variance, for the trial and for its rival, whose log error is -2.6 now; the changes are the same.
    variance = (16 * 0.1**2 + 3 * 0.2**2 / 7) / 17
    outlook = Outlooks(trials, FRONTIER.objectives, "top1").outlook(trials.trials[16], 2)
    assert outlook is not None
    assert outlook.rival.number == 0
    assert outlook.chance == pytest.approx(NormalDist().cdf(-0.6 / math.sqrt(12 * variance)))  # 4.5 %
    reason = FRONTIER.verdict(trials, 16)
    assert reason is not None
    assert "fell to 4 %, under 10 %, the highest threshold and less than " in reason
    assert "it was proposed with (none has finished, so each epoch after 2 is as uncertain as that); " in reason
    assert "and trial 0, which costs no more, has not ended and is forecast to end at " in reason


def test_a_first_wave_spares_what_may_still_win_what_came_first_and_all_while_few_are_known() -> None:
    assert FRONTIER.verdict(wave(-2.4), 16) is None
    assert FRONTIER.verdict(wave(-2.0), 15) is None  # worse, but one of the first 16
    few = wave(-1.4, good=7)  # only 16 have reached epoch 2
    few.trials[15].why = {}
    assert FRONTIER.verdict(few, 15) is None
    outlook = Outlooks(few, FRONTIER.objectives, "top1").outlook(few.trials[15], 2)
    assert outlook is not None
    assert outlook.chance < 0.1


def test_an_epoch_at_which_the_test_would_have_stopped_the_front_stops_no_trial() -> None:
    # Trial 7 is the worst after one epoch and the best at the end, so it is on the front.
    late = [*FINISHED[:7], (1.0, [0.3, 1 - 0.15])]
    hopeless = history(*late, (1.0, [0.31]), finished=8)
    assert FRONTIER.verdict(hopeless, 8) is None

    # Were it no member of the front, as another trial of the same cost is better, the epoch would be trusted.
    better = history(*late[:7], (1.0, [0.3, 1 - 0.33]), (1.0, [0.31]), finished=8)
    assert FRONTIER.verdict(better, 8) is not None


def test_a_prediction_that_came_true_so_far_spares_a_trial() -> None:
    """Errors after one epoch say nothing here, and the predictions are right."""
    first = (0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6)
    last = (0.30, 0.31, 0.4, 0.41, 0.5, 0.52, 0.6, 0.62)

    def verdict(predicted: float | None) -> str | None:
        curves = [(1.0, [1 - a, 1 - b]) for a, b in zip(first, last, strict=True)]
        trials = history(*curves, (1.0, [1 - 0.6]), finished=8)
        for number, error in enumerate(last):
            trials.trials[number].why = {"predicted_error": error}
        trials.trials[8].why = {} if predicted is None else {"predicted_error": predicted}
        return FRONTIER.verdict(trials, 8)

    assert verdict(0.28) is None
    assert verdict(0.6) is not None


def test_a_finished_trial_that_diverged_stops_no_other() -> None:
    scheduler = Frontier(min_epochs=1, probability=0.3, objectives={"loss": "min", "gflops": "min"}, measured="loss")

    def verdict(final_loss: float) -> str | None:
        losses = [[first, final_loss if number == 4 else last] for number, (first, last) in enumerate(ERRORS)]
        return scheduler.verdict(history(*((1.0, curve) for curve in [*losses, [0.25]]), finished=8, metric="loss"), 8)

    assert verdict(math.nan) is None
    assert verdict(math.inf) is None


def test_trials_are_judged_after_doubling_numbers_of_epochs_up_to_half_of_them() -> None:
    assert [epoch for epoch in range(1, 21) if is_look(epoch, 20, 1)] == [1, 2, 4, 8]
    assert [epoch for epoch in range(1, 10) if is_look(epoch, 9, 3)] == [3]
    assert [epoch for epoch in range(1, 17) if is_look(epoch, 16, 1)] == [1, 2, 4, 8]
    assert FrontierConfig(min_epochs=3).rungs(30) == {3, 6, 12}


def test_before_min_epochs_no_trial_stops() -> None:
    late = Frontier(min_epochs=2, probability=0.3, objectives=FRONTIER.objectives, measured="top1")

    assert late.verdict(after_one_epoch(1.0, 0.01), 8) is None
    assert FRONTIER.verdict(after_one_epoch(1.0, 0.01), 8) is not None


def test_while_too_few_trials_have_finished_none_stops() -> None:
    def verdict(finished: int) -> str | None:
        return FRONTIER.verdict(history(*FINISHED[:finished], (1.0, [0.01]), finished=finished), finished)

    assert verdict(3) is None
    assert verdict(4) is not None

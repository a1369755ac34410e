"""Confirmation: which trials are retrained, and the estimates from fresh seeds, against numbers computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.analysis.confirmation import calibrated, confirmation, plan
from search.analysis.front import front_of
from search.analysis.pareto import Objectives
from search.analysis.pick import pick
from search.ledger.history import History
from tests.search.confirmed import AGAIN, BOTH, SEARCHED, SPEC, again, history, trained
from tests.search.events import history_of


def numbers(search: History, top: int, seeds: int) -> list[tuple[int, int]]:
    """Return the trials and seeds that are planned."""
    return [(trial.number, seed) for trial, seed in plan(search, BOTH, top, seeds)]


@pytest.mark.parametrize(("top", "expected"), [(0, [0, 1, 2]), (1, [0, 1, 2, 3]), (9, [0, 1, 2, 3, 4])])
def test_the_front_and_its_nearest_misses_are_retrained(top: int, expected: list[int]) -> None:
    assert numbers(history(*SEARCHED), top, seeds=2) == [(number, seed) for number in expected for seed in (1, 2)]


def test_fresh_seeds_are_seeds_that_no_trial_has() -> None:
    with_seed_7 = trained(5, 0.9, 9.0, seed=7)
    assert {seed for _, seed in numbers(history(*SEARCHED, with_seed_7), 0, seeds=3)} == {8, 9, 10}


def test_nothing_is_retrained_while_a_trial_of_the_search_has_not_ended() -> None:
    assert numbers(history(*SEARCHED, trained(5, 0.9, 9.0, state="running")), 3, 2) == []


def test_a_proposed_retraining_is_not_planned_again_even_if_it_failed_or_runs() -> None:
    failed = trained(5, 0.5, 1.0, seed=1, state="failed", confirms=0)
    running = trained(6, 0.7, 2.0, seed=1, state="running", confirms=1)

    assert numbers(history(*SEARCHED, failed, running), 0, 2) == [(0, 2), (1, 2), (2, 2), (2, 3)]


def test_retrainings_are_not_among_the_trials_and_do_not_count_in_the_budget() -> None:
    search = history(*SEARCHED, *again(5, 0, 1.0, [0.1, 0.2]))

    assert sorted(search.trials) == [0, 1, 2, 3, 4]
    assert search.next_number == 7
    assert search.spent(5, None, None) == 1
    assert search.spent(6, None, None) == pytest.approx(5 / 6)
    # 5 trials of one epoch, 3 s on 2 GPUs each; the confirmation does not count.
    assert search.gpu_seconds == pytest.approx(30.0)
    assert search.spent(None, None, 30 / 3600) >= 1
    assert search.spent(None, None, 31 / 3600) == pytest.approx(30 / 31)


def test_once_the_whole_front_is_confirmed_it_is_the_front_of_the_means() -> None:
    last = trained(10, 0.54, 4.0, seed=2, state="running", confirms=2)
    partly, whole = history(*SEARCHED, *AGAIN[:5], last), history(*SEARCHED, *AGAIN)

    assert [trial.number for trial in front_of(partly, BOTH)] == [0, 1, 2]
    assert confirmation(partly, BOTH) is None
    front = front_of(whole, BOTH)
    assert [trial.number for trial in front] == [0, 1, 3]
    assert [trial.metrics["top1"] for trial in front] == pytest.approx([0.40, 0.60, 0.66])
    assert pick(whole, BOTH, "best").number == 3
    assert pick(whole, BOTH, "gflops<=2").metrics["top1"] == pytest.approx(0.60)
    assert pick(whole, BOTH, "trial=2").metrics["top1"] == pytest.approx(0.55)
    assert pick(whole, BOTH, "trial=4").metrics["top1"] == 0.50


def test_equal_numbers_of_correct_clips_are_equal_however_they_are_spread_over_seeds() -> None:
    first, second = [8 / 96, 9 / 96, 11 / 96], [8 / 96, 10 / 96, 10 / 96]
    assert sum(first) / 3 < sum(second) / 3  # in the last bit
    search = history(
        trained(0, 0.1, 1.0), trained(1, 0.2, 2.0), *again(2, 0, 1.0, first), *again(5, 1, 2.0, second),
    )  # fmt: skip

    assert [trial.number for trial in front_of(search, BOTH)] == [0]


def test_intervals_are_those_of_students_t_with_a_pooled_variance() -> None:
    result = confirmation(history(*SEARCHED, *AGAIN), BOTH)

    assert result is not None
    # t(0.975; 4) = 2.776, from tables. The standard error of a mean of two is sqrt(0.0014 / 4 / 2).
    expected = 2.776 * math.sqrt(0.0014 / 4 / 2)
    assert [row.half_width["top1"] for row in result.rows] == pytest.approx([expected] * 4, rel=0.03)
    assert [row.trial.number for row in result.rows] == [0, 1, 3, 2]
    assert [row.on_front for row in result.rows] == [True, True, True, False]


def test_optimism_is_the_mean_difference_of_searched_and_fresh_accuracy_over_the_front() -> None:
    result = confirmation(history(*SEARCHED, *AGAIN), BOTH)

    assert result is not None
    # Trials 0, 1 and 2: (0.50 - 0.40 + 0.70 - 0.60 + 0.80 - 0.55) / 3; the near miss was not on the front.
    assert result.optimism == pytest.approx(0.45 / 3)


def test_the_more_expensive_of_two_trials_is_on_the_front_as_often_as_it_is_better() -> None:
    # All residuals are 0.02: S = 4 * 0.02^2 / 2, which is also the variance of the difference of two means of two. The
    # means differ by 0.02, so the more expensive trial is better if a t with 2 degrees of freedom is above
    # -0.02 / sqrt(S).
    two = [trained(0, 0.5, 1.0), trained(1, 0.6, 2.0)]
    result = confirmation(history(*two, *again(2, 0, 1.0, [0.52, 0.48]), *again(4, 1, 2.0, [0.54, 0.50])), BOTH)

    assert result is not None
    x = 0.02 / math.sqrt(4 * 0.02**2 / 2)
    # The distribution function of Student's t with 2 degrees of freedom has a closed form.
    share = 0.5 + x / (2 * math.sqrt(2 + x * x))
    expected = 1 / (1 + math.exp(-0.33 - 0.7 * math.log(share / (1 - share))))
    cheaper, more_expensive = (row.probability for row in result.rows)
    assert cheaper == 1.0
    assert more_expensive == pytest.approx(expected, abs=0.01)


def test_probabilities_are_calibrated_by_their_logits() -> None:
    # The logit of 0.35 is -0.6190; 0.33 + 0.7 * -0.6190 = -0.1033, whose probability is 0.4742.
    assert calibrated(np.array([0.0, 0.35, 1.0])).tolist() == [0.0, pytest.approx(0.4742, abs=1e-4), 1.0]


def test_a_trial_is_not_on_the_front_if_all_its_retrainings_failed() -> None:
    failed = [trained(5 + n, 0.5, 1.0, seed=1 + n, state="failed", confirms=0) for n in range(2)]
    search = history(*SEARCHED, *failed, *AGAIN[2:])

    assert [trial.number for trial in front_of(search, BOTH)] == [1, 3]


@settings(max_examples=25)
@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=4), min_size=1, max_size=5), st.booleans())
def test_the_best_mean_is_on_the_front_and_probabilities_are_in_0_to_1(fresh: list[list[float]], by_loss: bool) -> None:
    objectives: Objectives = {"top1": "max", "gflops": "min"}
    searched = [trained(n, 0.5 + n / 100, float(n)) for n in range(len(fresh))]
    first, retrained = len(fresh), []
    for n, values in enumerate(fresh):
        retrained += again(first, n, float(n), values)
        first += len(values)

    result = confirmation(history(*searched, *retrained), objectives)

    assert result is not None
    assert all(0 <= row.probability <= 1 for row in result.rows)
    best = max(result.rows, key=lambda row: row.trial.metrics["top1"])
    assert best.on_front
    assert result.rows[0].probability == 1.0  # the cheapest is never dominated
    assert [row.trial.metrics["top1"] for row in result.rows] == pytest.approx([np.mean(values) for values in fresh])


def test_seeds_that_tie_have_an_interval_by_the_number_of_clips() -> None:
    tied = [trained(0, 2 / 32, 1.0), *again(1, 0, 1.0, [2 / 32, 2 / 32])]
    began = {"event": "search", "name": "again", "spec": SPEC}
    known, unknown = (
        confirmation(history_of([first, *(event for events in tied for event in events)]), BOTH)
        for first in (began | {"clips": {"val": 32}}, began)
    )

    assert known is not None
    assert unknown is not None
    # p = (2 + 2) / 36, and 1.96 standard errors of 32 clips.
    expected = 1.96 * math.sqrt(4 / 36 * 32 / 36 / 32)
    assert known.rows[0].half_width["top1"] == pytest.approx(expected, rel=0.03)
    assert math.isnan(unknown.rows[0].half_width["top1"])

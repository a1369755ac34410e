"""Asynchronous successive halving with non-dominated sorting, on histories with a known decision."""

import math

import pytest

from search.schedulers.halving import Halving, HalvingConfig
from tests.search.schedulers.histories import history

HALVING = Halving(min_epochs=2, reduction=3, objectives={"top1": "max", "gflops": "min"})


def test_a_dominated_trial_stops_at_a_rung() -> None:
    # The front is trial 0 alone: it is both better and of lower cost. One of three continues.
    trials = history((1.0, [0.1, 0.5]), (2.0, [0.3, 0.4]), (3.0, [0.2, 0.2]))

    assert HALVING.verdict(trials, 0) is None
    assert HALVING.verdict(trials, 1) == "rung of epoch 2: behind 1 of 3 trials, of which the best 1 go on"
    assert HALVING.verdict(trials, 2) is not None


def test_a_trial_that_no_other_dominates_continues_however_weak_it_is() -> None:
    # Each trial of higher cost is better: all are on the front, though only a third has to be kept.
    trials = history((1.0, [0.1, 0.1]), (2.0, [0.2, 0.2]), (3.0, [0.9, 0.9]))

    assert [HALVING.verdict(trials, number) for number in range(3)] == [None] * 3


def test_layers_are_kept_until_they_hold_enough_trials() -> None:
    # Six trials of one cost, so each is a layer of its own; ceil(6 / 3) = 2 continue.
    trials = history(*((1.0, [0.0, top1]) for top1 in (0.1, 0.6, 0.3, 0.2, 0.5, 0.4)))

    assert [HALVING.verdict(trials, number) is None for number in range(6)] == [False, True, False, False, True, False]


def test_between_rungs_no_trial_stops() -> None:
    # Rungs are epochs 2, 6, 18; later reports do not count at an earlier rung.
    for epochs, is_rung in ((1, False), (2, True), (3, False), (6, True), (12, False), (18, True)):
        trials = history((1.0, [0.9] * 20), (1.0, [0.8] * 20), (1.0, [0.1] * epochs))
        assert (HALVING.verdict(trials, 2) is not None) == is_rung, epochs


def test_a_rung_compares_the_metrics_that_the_trials_had_there() -> None:
    # Trials 0 and 1 are far ahead now, but were behind after two epochs.
    trials = history((1.0, [0.1, 0.1, 0.9]), (1.0, [0.1, 0.2, 0.9]), (1.0, [0.3, 0.3]))

    assert HALVING.verdict(trials, 2) is None


def test_diverged_trials_stop_even_if_all_diverged() -> None:
    # None of three is on any front, so the best third is empty.
    trials = history((1.0, [0.1, math.nan]), (2.0, [0.2, math.nan]), (3.0, [0.3, math.inf]))

    reasons = [HALVING.verdict(trials, number) for number in range(3)]

    assert reasons == ["rung of epoch 2: behind 0 of 3 trials, of which the best 1 go on"] * 3


def test_with_too_few_trials_none_stops() -> None:
    # A third of two is less than one.
    assert HALVING.verdict(history((1.0, [0.9, 0.9]), (1.0, [0.0, 0.0])), 1) is None


def test_the_expected_epochs_are_a_sum_over_rungs() -> None:
    # Rungs 1 and 3 of 9 epochs: all run 1, a third runs 2 more, a ninth 6 more.
    assert HalvingConfig(min_epochs=1, reduction=3).expected_epochs(9) == pytest.approx(1 + 2 / 3 + 6 / 9)
    assert HalvingConfig(min_epochs=1, reduction=2).expected_epochs(4) == pytest.approx(1 + 1 / 2 + 2 / 4)
    assert HalvingConfig(min_epochs=5, reduction=3).expected_epochs(2) == 2


def test_the_rungs_are_those_before_the_last_epoch() -> None:
    assert HalvingConfig(min_epochs=1, reduction=3).rungs(9) == {1, 3}
    assert HalvingConfig(min_epochs=2, reduction=2).rungs(9) == {2, 4, 8}

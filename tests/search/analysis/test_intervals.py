"""Intervals of accuracies, against published numbers, arithmetic by hand and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.analysis.intervals import Estimate, by_clips, difference, num_clips, of_mean
from tests.search.events import history_of

MOTION = {"data": {"kind": "motion", "val_clips": 30, "test_clips": 20}}


@pytest.mark.parametrize(
    ("correct", "clips", "low", "high"),
    # Newcombe, Two-sided confidence intervals for the single proportion, 1998, Table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_rate_is_wilsons(correct: int, clips: int, low: float, high: float) -> None:
    estimate = by_clips("top1", correct / clips, clips)

    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_a_loss_and_a_rate_over_an_unknown_number_of_clips_have_no_interval() -> None:
    assert not by_clips("loss", 0.5, 100).is_known
    assert not by_clips("top1", 0.5, None).is_known
    assert not by_clips("top1", math.nan, 100).is_known


def test_two_seeds_that_tie_have_the_interval_of_their_clips() -> None:
    # 2 of 32 clips: without the clips the interval would be 6.2 +- 0.0 %.
    tied = of_mean("top1", [2 / 32, 2 / 32], 32)

    assert tied == by_clips("top1", 2 / 32, 32)
    assert tied.low < 0.02
    assert tied.high > 0.19


def test_the_spread_of_seeds_and_that_of_clips_are_added_as_independent_errors() -> None:
    # Mean 0.5; t(0.975; 1) = 12.706, standard deviation sqrt(2) * 0.01, standard error 0.01.
    seeds, clips = 12.706 * 0.01, by_clips("top1", 0.5, 10_000)
    both = of_mean("top1", [0.49, 0.51], 10_000)

    assert both.high - 0.5 == pytest.approx(math.hypot(seeds, clips.high - 0.5), rel=1e-4)
    assert 0.5 - both.low == pytest.approx(math.hypot(seeds, 0.5 - clips.low), rel=1e-4)
    assert of_mean("top1", [0.49, 0.51], None).high == pytest.approx(0.5 + seeds, rel=1e-4)


def test_a_difference_has_newcombes_interval() -> None:
    # Newcombe, Interval estimation for the difference between independent proportions, 1998, Table II, method 10:
    # 56 of 70 minus 48 of 80 is in 0.0524 ... 0.3339.
    found = difference(by_clips("top1", 56 / 70, 70), by_clips("top1", 48 / 80, 80))

    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert found.excludes_zero


def test_a_difference_from_an_unknown_interval_is_unknown() -> None:
    assert not difference(Estimate(0.5), by_clips("top1", 0.4, 100)).is_known


@given(st.integers(1, 3000), st.data())
def test_a_rate_is_in_its_interval_and_the_interval_within_0_and_1(clips: int, data: st.DataObject) -> None:
    rate = data.draw(st.integers(0, clips)) / clips
    estimate = by_clips("top1", rate, clips)

    assert 0 <= estimate.low <= rate <= estimate.high <= 1


def test_the_interval_covers_the_true_rate_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [by_clips("top1", k / 300, 300) for k in rng.binomial(300, 0.85, 2000).tolist()]

    assert np.mean([e.low <= 0.85 <= e.high for e in found]) == pytest.approx(0.95, abs=0.02)


def test_the_number_of_clips_is_that_of_the_ledger_or_follows_from_generated_data() -> None:
    began = {"event": "search"}
    proposed = {"event": "proposed", "trial": 0, "config": MOTION}

    assert num_clips(history_of([began | {"clips": {"val": 77}}, proposed])) == 77
    # 16 classes.
    assert num_clips(history_of([began, proposed])) == 480
    assert num_clips(history_of([began, proposed]), "test") == 320
    assert num_clips(history_of([began, proposed | {"config": {"data": {"kind": "ucf101"}}}])) is None

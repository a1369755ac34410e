"""Domains: values, probes and samples are worked out by hand."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.domain import Choice, Float, Int, Subset


def test_probes_of_long_ranges_are_both_ends_and_their_neighbours() -> None:
    assert list(Int(0, 10_000, step=2).probes()) == [0, 2, 9_998, 10_000]
    assert list(Float(0.5, 2.0).probes()) == [0.5, 2.0]
    assert list(Float(0.0, 2_000.0, step=1.0).probes()) == [0, 1, 1_999, 2_000]
    large = Subset(tuple(map(str, range(12))), 1, 12)
    assert list(large.probes()) == [*((i,) for i in range(12)), tuple(range(12))]


def test_steps_of_a_float_are_exact_decimals() -> None:
    domain = Float(0.1, 0.7, step=0.2)

    assert list(domain.values()) == [0.1, 0.3, 0.5, 0.7]
    assert domain.member(0.1 + 0.2) == 0.3  # in binary floating point: 0.30000000000000004


@given(lo=st.integers(1, 50), width=st.integers(0, 50), seed=st.integers(0, 99))
@settings(max_examples=100)
def test_samples_of_numbers_are_in_their_domain(lo: int, width: int, seed: int) -> None:
    rng = random.Random(seed)
    for domain in (Int(lo, lo + width, log=True), Float(lo, lo + width, log=True), Float(lo, lo + width)):
        assert domain.member(domain.sample(rng)) in (
            range(lo, lo + width + 1) if isinstance(domain, Int) else [pytest.approx(lo, abs=width)]
        )


def test_each_decade_of_a_log_range_has_the_same_probability() -> None:
    rng, domain = random.Random(0), Float(0.001, 1.0, log=True)

    low = sum(domain.sample(rng) < 0.01 for _ in range(3_000))

    assert low == pytest.approx(1_000, abs=4 * (3_000 * 2 / 9) ** 0.5)  # four standard errors of a probability of 1/3


def test_the_plain_value_is_the_first_option_the_middle_of_numbers_and_the_largest_subset() -> None:
    assert Choice(("none", "tsm", "tam")).plain() == 0
    assert (Int(1, 9).plain(), Int(2, 6, step=2).plain(), Int(1, 100, log=True).plain()) == (5, 4, 10)
    assert (Float(0.0, 1.0).plain(), Float(0.1, 0.3, step=0.1).plain()) == (0.5, 0.2)
    assert Float(0.01, 1.0, log=True).plain() == pytest.approx(0.1)
    assert Subset(("2", "3", "4", "5"), min=1, max=3).plain() == (0, 1, 2)

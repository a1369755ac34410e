"""The text of `vattn check`."""

import pytest

from search.report.tables.check import render
from search.spec.check import check
from search.spec.validation import MAX_COMBINATIONS
from tests.search.spec.small import small


def test_the_numbers_of_a_space_that_is_counted() -> None:
    text = render(check(small()))

    assert text.startswith("small: spec is valid\n")
    assert "8 distinct, of 8 combinations" in text
    assert "16 distinct; the search ends by itself when all are done" in text
    assert "16 trials of 9 epochs, at most 144 epochs" in text
    assert "mechanisms" not in text


@pytest.mark.medium
def test_the_numbers_of_a_space_that_is_sampled() -> None:
    text = render(check(small(frames={"int": [1, MAX_COMBINATIONS]})))

    assert "in a sample of 2,000; the space has 400,000 combinations, not all counted" in text


@pytest.mark.medium
def test_a_sample_without_a_config_within_the_limits_proves_nothing() -> None:
    # Only 1 of 30,000 clip lengths is within the limit.
    one_frame = check(small(frames=1)).architectures[0]["gflops"]

    text = render(check(small(frames={"int": [1, 30_000]}, constraints={"gflops": {"max": 1.01 * one_frame}})))

    assert "none of the sample, which proves nothing" in text


def test_the_text_names_confirmations_on_top_of_the_budget_and_the_initial_weights() -> None:
    many = {"choice": [[], [{"kind": "tsm"}], [{"kind": "tea"}, {"kind": "nonlocal"}]]}
    search = {"budget": {"gpu_hours": 3}, "inherit": "base", "confirm": {"top": 4, "seeds": 5}}

    text = render(check(small(attention=many, search=search, resources={"gpus": 0.5})))

    assert "budget         3 GPU-hours; trials have 9 epochs" in text
    assert "weights        from the same model without mechanisms" in text
    assert "mechanisms     start as the identity: nonlocal, tea" in text
    assert "mechanisms     cannot be the identity, and start with their default weights: tsm" in text
    assert "on top of the budget: 5 trainings of each trial of the front, and of the 4 that miss it by least" in text

"""Expected improvement and expected hypervolume improvement, against arithmetic and against Monte Carlo."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.analysis.learning_curves import OFFSET
from search.analysis.pareto import Direction, hypervolume
from search.samplers.shared.acquisition import expected_hypervolume_improvement, expected_improvement

#: a standard deviation of a log error that is almost 0
CERTAIN = np.array([1e-9])


def log(error: float) -> np.ndarray:
    return np.array([np.log(error + OFFSET)])


def improvement(
    cost: float, error: float, front: list[tuple[float, float]], reference: float = 4.0, worst: float = 1.0
) -> float:
    """Return the improvement of a candidate with a certain error, for a front of (cost, error)."""
    points = np.array(front, dtype=float).reshape(-1, 2)
    improvements = expected_hypervolume_improvement(
        np.array([[cost]]), log(error), CERTAIN, points[:, :1], points[:, 1], [reference], worst
    )
    return float(improvements[0])


def test_the_improvement_of_a_certain_error_is_the_area_that_it_adds() -> None:
    # Steps: up to cost 1 the error is 1 (worst), from 1 it is 0.5, from 2 it is 0.25, up to 4.
    front = [(1.0, 0.5), (2.0, 0.25)]

    assert improvement(1.5, 0.2, front) == pytest.approx((2 - 1.5) * 0.3 + (4 - 2) * 0.05)
    assert improvement(0.5, 0.6, front) == pytest.approx((1 - 0.5) * 0.4)
    assert improvement(3.0, 0.05, front) == pytest.approx((4 - 3) * 0.2)
    assert improvement(1.0, 0.4, []) == pytest.approx(3 * 0.6)


@pytest.mark.parametrize(("cost", "error"), [(1.0, 0.5), (1.5, 0.5), (2.0, 0.3), (3.9, 0.26)])
def test_a_dominated_candidate_with_a_certain_error_improves_nothing(cost: float, error: float) -> None:
    assert improvement(cost, error, [(1.0, 0.5), (2.0, 0.25)]) == pytest.approx(0.0, abs=1e-9)


points = st.lists(st.tuples(st.floats(0.1, 3.9), st.floats(0.05, 0.95)), min_size=1, max_size=6)


@given(
    points, st.floats(0.1, 3.9), st.floats(0.05, 0.9), st.floats(0.05, 1.0), st.floats(0.1, 3.9), st.floats(0.05, 0.9)
)
def test_one_more_point_on_the_front_never_increases_the_improvement_of_a_candidate(
    front: list[tuple[float, float]], cost: float, error: float, deviation: float, more_cost: float, more_error: float
) -> None:
    def improvement_over(front: list[tuple[float, float]]) -> float:
        costs, errors = np.array(front).T
        improvements = expected_hypervolume_improvement(
            np.array([[cost]]), log(error), np.array([deviation]), costs[:, None], errors, [4.0], 1.0
        )
        return float(improvements[0])

    assert improvement_over([*front, (more_cost, more_error)]) <= improvement_over(front) + 1e-12


@pytest.mark.parametrize("costs", [0, 1, 2])
def test_the_closed_form_is_the_mean_over_random_errors(costs: int) -> None:
    rng = np.random.default_rng(costs)
    front = rng.uniform(0.2, 2.0, (5, costs))
    errors = rng.uniform(0.2, 0.8, 5)
    own, mean, deviation, reference = rng.uniform(0.2, 1.0, (1, costs)), log(0.35), 0.5, [2.5] * costs
    ways: list[Direction] = ["min"] * (costs + 1)
    before = np.column_stack([errors, front])
    base = hypervolume(before, [1.0, *reference], ways)

    closed = expected_hypervolume_improvement(own, mean, np.array([deviation]), front, errors, reference, 1.0)[0]
    sampled = np.exp(rng.normal(mean, deviation, 4_000)) - OFFSET
    after = [hypervolume(np.vstack([before, [error, *own[0]]]), [1.0, *reference], ways) - base for error in sampled]

    assert closed == pytest.approx(np.mean(after), abs=4 * np.std(after) / np.sqrt(len(after)))


def test_the_expected_improvement_of_a_certain_error_is_the_difference() -> None:
    assert expected_improvement(0.5, log(0.2), CERTAIN)[0] == pytest.approx(0.3)
    assert expected_improvement(0.2, log(0.5), CERTAIN)[0] == pytest.approx(0.0, abs=1e-12)

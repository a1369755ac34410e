"""The model of accuracy and the expected gain, against arithmetic by hand and against chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad

from search.curves import OFFSET
from search.pareto import Direction, hypervolume
from search.surrogate import Grouped, Surrogate, expected_gain, expected_improvement

SURE = np.array([1e-9])


def log(error: float) -> np.ndarray:
    return np.array([np.log(error + OFFSET)])


def gain(
    cost: float, error: float, front: list[tuple[float, float]], reference: float = 4.0, worst: float = 1.0
) -> float:
    """The gain of a candidate that is known to have an error, on a front of (cost, error)."""
    points = np.array(front, dtype=float).reshape(-1, 2)
    return float(
        expected_gain(np.array([[cost]]), log(error), SURE, points[:, :1], points[:, 1], [reference], worst)[0]
    )


def test_the_gain_of_what_is_certain_is_the_area_that_it_adds() -> None:
    # Steps: up to cost 1 the error is 1 (worst), from 1 it is 0.5, from 2 it is 0.25, as far as 4.
    front = [(1.0, 0.5), (2.0, 0.25)]

    assert gain(1.5, 0.2, front) == pytest.approx((2 - 1.5) * 0.3 + (4 - 2) * 0.05)
    assert gain(0.5, 0.6, front) == pytest.approx((1 - 0.5) * 0.4)
    assert gain(3.0, 0.05, front) == pytest.approx((4 - 3) * 0.2)
    assert gain(1.0, 0.4, []) == pytest.approx(3 * 0.6)


@pytest.mark.parametrize(("cost", "error"), [(1.0, 0.5), (1.5, 0.5), (2.0, 0.3), (3.9, 0.26)])
def test_what_is_certain_and_dominated_gains_nothing(cost: float, error: float) -> None:
    assert gain(cost, error, [(1.0, 0.5), (2.0, 0.25)]) == pytest.approx(0.0, abs=1e-9)


points = st.lists(st.tuples(st.floats(0.1, 3.9), st.floats(0.05, 0.95)), min_size=1, max_size=6)


@given(
    points, st.floats(0.1, 3.9), st.floats(0.05, 0.9), st.floats(0.05, 1.0), st.floats(0.1, 3.9), st.floats(0.05, 0.9)
)
def test_a_point_more_on_the_front_never_raises_the_gain_of_another(
    front: list[tuple[float, float]], cost: float, error: float, spread: float, other: float, its: float
) -> None:
    def of(front: list[tuple[float, float]]) -> float:
        costs, errors = np.array(front).T
        return float(
            expected_gain(np.array([[cost]]), log(error), np.array([spread]), costs[:, None], errors, [4.0], 1.0)[0]
        )

    assert of([*front, (other, its)]) <= of(front) + 1e-12


@pytest.mark.parametrize("costs", [0, 1, 2])
def test_the_closed_form_is_the_mean_over_chance(costs: int) -> None:
    rng = np.random.default_rng(costs)
    front = rng.uniform(0.2, 2.0, (5, costs))
    errors = rng.uniform(0.2, 0.8, 5)
    own, mean, spread, reference = rng.uniform(0.2, 1.0, (1, costs)), log(0.35), 0.5, [2.5] * costs
    ways: list[Direction] = ["min"] * (costs + 1)
    before = np.column_stack([errors, front])
    base = hypervolume(before, [1.0, *reference], ways)

    closed = expected_gain(own, mean, np.array([spread]), front, errors, reference, 1.0)[0]
    drawn = np.exp(rng.normal(mean, spread, 4_000)) - OFFSET
    after = [hypervolume(np.vstack([before, [error, *own[0]]]), [1.0, *reference], ways) - base for error in drawn]

    assert closed == pytest.approx(np.mean(after), abs=4 * np.std(after) / np.sqrt(len(after)))


def test_the_improvement_of_a_certain_error_is_the_difference() -> None:
    assert expected_improvement(0.5, log(0.2), SURE)[0] == pytest.approx(0.3)
    assert expected_improvement(0.2, log(0.5), SURE)[0] == pytest.approx(0.0, abs=1e-12)


def test_the_kernel_is_materns_over_distances_scaled_by_group() -> None:
    kernel = Grouped([0, 0, 1], [1.0, 2.0])

    # Columns 0 and 1 together are 5 apart, column 2 is 4 apart: r^2 = 25 + 4 = 29.
    value = kernel(np.array([[0.0, 0.0, 0.0]]), np.array([[3.0, 4.0, 4.0]]))

    r = np.sqrt(29)
    assert value[0, 0] == pytest.approx((1 + np.sqrt(5) * r + 5 * 29 / 3) * np.exp(-np.sqrt(5) * r))


def test_the_gradient_of_the_kernel_is_its_slope() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3))

    def sums(theta: np.ndarray, gradient: bool) -> np.ndarray | float:
        found = Grouped([0, 1, 1], np.exp(theta).tolist())(x, eval_gradient=True)
        return found[1].sum(axis=(0, 1)) if gradient else found[0].sum()

    assert check_grad(lambda t: sums(t, False), lambda t: sums(t, True), np.array([0.2, -0.3])) < 1e-5


def learnt(spread: float = 0.0, pending: np.ndarray | None = None) -> Surrogate:
    """A model of a line: the log error falls from -1 to -2 over 12 points; and one value far from it at 0.5."""
    x = np.append(np.linspace(0, 1, 12), 0.5)[:, None]
    errors = np.exp(np.append(-1 - x[:-1, 0], -3.0)) - OFFSET
    model = Surrogate([0])
    model.fit(x, errors, np.append(np.zeros(12), spread), pending)
    return model


def test_what_an_observation_says_counts_by_its_own_spread() -> None:
    middle = np.array([[0.5]])

    sure, vague = learnt(0.001).predict(middle)[0][0], learnt(2.0).predict(middle)[0][0]

    assert vague == pytest.approx(-1.5, abs=0.1)
    assert sure < vague - 0.1


def test_a_running_trial_makes_sure_of_its_place_and_moves_nothing() -> None:
    beyond = np.array([[1.6]])

    alone, waited = learnt(2.0).predict(beyond), learnt(2.0, beyond).predict(beyond)

    assert waited[0][0] == pytest.approx(alone[0][0], abs=0.02)
    assert waited[1][0] < alone[1][0] / 2


def test_the_model_learns_which_group_matters() -> None:
    # Log error depends on column 0 alone; the others are chance.
    rng = np.random.default_rng(0)
    x, test = rng.random((40, 6)), rng.random((200, 6))
    model = Surrogate(range(6))

    model.fit(x, np.exp(-1 - x[:, 0]) - OFFSET)

    mean, _ = model.predict(test)
    assert np.corrcoef(mean, -test[:, 0])[0, 1] > 0.95

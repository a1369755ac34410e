"""The model of accuracy and the expected gain, against arithmetic by hand and against chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.analysis.learning_curves import OFFSET
from search.analysis.pareto import Direction, hypervolume
from search.samplers.shared.expected_gain import expected_gain, expected_improvement
from search.samplers.shared.surrogate import BAD, NOISE, NOISES, PART, SCALES, Grouped, Surrogate

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
    kernel = Grouped([0, 0, 1], [1.0, 2.0], variance=3.0)

    # Columns 0 and 1 together are 5 apart, column 2 is 4 apart: r^2 = 25 + 4 = 29.
    value = kernel(np.array([[0.0, 0.0, 0.0]]), np.array([[3.0, 4.0, 4.0]]))

    r = np.sqrt(29)
    assert value[0, 0] == pytest.approx(3 * (1 + np.sqrt(5) * r + 5 * 29 / 3) * np.exp(-np.sqrt(5) * r))


def test_the_kernel_of_many_points_is_that_of_each_pair() -> None:
    points = np.random.default_rng(0).random((2 * PART + 3, 3))
    kernel = Grouped([0, 1, 1], [0.5, 0.8])

    whole = kernel(points)

    assert whole[PART + 1, 2] == pytest.approx(kernel(points[[PART + 1]], points[[2]])[0, 0])
    assert np.allclose(np.diag(whole), kernel.diag(points), atol=1e-6)
    assert np.allclose(whole, whole.T)


def learnt(spread: float = 0.0, pending: np.ndarray | None = None) -> Surrogate:
    """A model of a line: the log error falls from -1 to -2 over 12 points; and one value far from it at 0.5."""
    x = np.append(np.linspace(0, 1, 12), 0.5)[:, None]
    errors = np.exp(np.append(-1 - x[:-1, 0], -3.0)) - OFFSET
    return Surrogate([0], x, errors, np.random.default_rng(0), np.append(np.zeros(12), spread), pending)


def mean_and_spread(model: Surrogate, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means, spreads = model.predict(points)
    return means.mean(axis=0), np.sqrt(np.mean(spreads**2, axis=0) + means.var(axis=0))


def test_what_an_observation_says_counts_by_its_own_spread() -> None:
    middle = np.array([[0.5]])

    sure, vague = (mean_and_spread(learnt(spread), middle)[0][0] for spread in (0.001, 2.0))

    assert vague == pytest.approx(-1.5, abs=0.1)
    assert sure < vague - 0.1


def test_a_running_trial_makes_sure_of_its_place_and_moves_nothing() -> None:
    beyond = np.array([[1.6]])

    alone, waited = learnt(2.0).predict(beyond), learnt(2.0, beyond).predict(beyond)

    assert waited[0] == pytest.approx(alone[0], abs=0.02)
    assert (waited[1] < alone[1] / 2).all()


def test_the_model_learns_which_group_matters() -> None:
    # Log error depends on column 0 alone; the others are chance.
    rng = np.random.default_rng(0)
    x, test = rng.random((40, 6)), rng.random((200, 6))

    model = Surrogate(range(6), x, np.exp(-1 - x[:, 0]) - OFFSET, rng)

    mean, _ = mean_and_spread(model, test)
    assert np.corrcoef(mean, -test[:, 0])[0, 1] > 0.95


def test_forecasts_are_as_wrong_as_they_say_from_the_first_trials_on() -> None:
    # Errors by chance from the prior itself. Bad ones count as the model counts them: as a quantile of those known.
    rng = np.random.default_rng(0)
    off = []
    for _ in range(20):
        x = rng.random((60, 10))
        scales = np.exp(np.log(np.sqrt(5)) + 0.5 * rng.standard_normal(10))
        logs = rng.multivariate_normal(np.full(60, -1.5), 0.3**2 * Grouped(range(10), scales.tolist())(x))
        model = Surrogate(range(10), x[:8], np.exp(logs[:8]) - OFFSET, rng)
        mean, spread = mean_and_spread(model, x[8:])
        bad = np.quantile(logs[:8], BAD)
        off.append((np.minimum(logs[8:], bad) - np.minimum(mean, bad)) / spread)

    assert 0.7 < np.sqrt(np.mean(np.square(off))) < 1.4


def test_without_a_word_of_the_data_the_hyperparameters_are_those_of_the_prior() -> None:
    # Each observation is vaguer by far than errors differ.
    rng = np.random.default_rng(0)
    x, drawn = rng.random((5, 2)), []
    for _ in range(60):
        model = Surrogate([0, 1], x, [0.3, 0.31, 0.32, 0.33, 0.34], rng, spread=1e3)
        drawn += [process.kernel_.theta for process in model._processes]
    scale, other, variance, noise = np.array(drawn).T

    # Two groups: their scales are around sqrt(2 / 2) = 1. Draws five steps apart still depend on each other a little.
    assert np.mean(np.r_[scale, other]) == pytest.approx(0.0, abs=0.1)
    assert np.std(np.r_[scale, other]) == pytest.approx(SCALES, rel=0.15)
    assert (variance.mean(), variance.std()) == (pytest.approx(0.0, abs=0.2), pytest.approx(1.0, rel=0.2))
    assert (noise.mean(), noise.std()) == (pytest.approx(np.log(NOISE), abs=0.3), pytest.approx(NOISES, rel=0.2))

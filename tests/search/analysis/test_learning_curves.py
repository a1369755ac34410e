"""What an epoch tells of the end, on curves whose regression can be done by hand."""

import math

import pytest

from search.analysis.learning_curves import LEAST, OFFSET, Curves


def error(log: float) -> float:
    return math.exp(log) - OFFSET


def whole(*curves: list[float]) -> Curves:
    return Curves([(curve, len(curve)) for curve in curves])


def test_a_line_through_those_that_went_on_is_the_forecast_and_its_spread_grows_with_the_distance() -> None:
    """By hand, of the conjugate prior that the module states: slope 1 as sure as 0.1, deviation 0.5 of 3 trials."""
    # Logarithms after epoch 1: twice -1, -2, -3, -4; at the end half of it less 3, and 0.1 more or less.
    early = [-1.0, -2.0, -3.0, -4.0] * 2
    residual = [0.1] * 4 + [-0.1] * 4  # orthogonal to the line and to the mean
    curves = whole(*([error(x), error(-3 + x / 2 + r)] for x, r in zip(early, residual, strict=True)))

    # Mean of x -2.5, sum of squares 10, so the slope is (5 + 0.1) / 10.1 and the leverage at x 1 + 1/8 + (x + 2.5)^2
    # / 10.1. Squares: 0.08 of the residuals, 10 (1/2 - slope)^2 of the slope's shift, 0.1 (1 - slope)^2 of its distance
    # from the prior, 3 * 0.5^2. There are 7 + 3 degrees of freedom, and the variance of t with these is 10 / 8.
    slope = 5.1 / 10.1
    squares = 0.08 + 10 * (0.5 - slope) ** 2 + 0.1 * (1 - slope) ** 2 + 0.75
    for x in (-2.0, 1.0):
        found = curves.forecast([error(x)], 2)
        assert found is not None
        assert found[0] == pytest.approx(-4.25 + slope * (x + 2.5))
        assert found[1] == pytest.approx(math.sqrt(squares / 8 * (1.125 + (x + 2.5) ** 2 / 10.1)))


def test_steps_follow_one_another_each_learnt_from_all_that_took_it() -> None:
    """By hand: one trial of -1, -2, -3 and one of -1, -2 that was stopped; another one had -1 after its first epoch."""
    curves = Curves([([error(-1.0), error(-2.0), error(-3.0)], 3), ([error(-1.0), error(-2.0)], 3)])

    found = curves.forecast([error(-1.0)], 3)

    # A step's prior variance is 0.5^2 / 2 = 1/8 of 3 trials. The first is known from 2 trials: 3/8 / (2 + 3 - 3), by
    # 1 + 1/2. The second from one, 3/8 / 1 by 1 + 1/1, and by what is open before it: variance / 0.1; slope 1.
    first = 3 / 16 * 1.5
    assert found is not None
    assert found[0] == pytest.approx(-3.0)
    assert found[1] == pytest.approx(math.sqrt(first + 3 / 8 * (2 + first / 0.1)))


def test_where_none_has_come_to_its_end_nothing_is_forecast() -> None:
    curves = Curves([([0.5, 0.4], 3), ([0.6, 0.5], 3)])

    assert curves.forecast([0.5], 3) is None
    assert curves.forecast([], 3) is None
    assert curves.forecast([0.5], 2) is None


def test_trainings_of_another_length_are_read_by_their_share() -> None:
    long = [0.9, 0.8, 0.7, 0.6]

    assert whole(long).forecast([0.7], 2) == whole([0.8, 0.6]).forecast([0.7], 2)
    # A shorter one says nothing of steps that it has not: its 2 epochs are the 2nd and the 4th of 4.
    assert whole([0.8, 0.6]).forecast([0.9, 0.8], 4) is None


def test_too_few_finished_trials_have_no_order() -> None:
    some = [[0.2 + n / 10, 0.1 + n / 10] for n in range(LEAST)]

    assert whole(*some[1:]).agreement(1, 2) is None
    assert Curves([*((curve, 2) for curve in some[1:]), ([0.2], 2)]).agreement(1, 2) is None
    assert whole(*some).agreement(1, 2) == pytest.approx(1.0)


def test_agreement_is_the_correlation_of_ranks() -> None:
    same = whole(*([n / 10, n**2 / 100] for n in range(1, 9)))
    reversed_ = whole(*([n / 10, 1 - n / 10] for n in range(1, 9)))
    # Ranks 1 2 3 4 5 6 7 8 against 8 2 3 4 5 6 7 1: 1 - 6 * (49 + 49) / (8 * 63) = -1/6.
    mixed = whole(*([a / 10, b / 10] for a, b in zip(range(1, 9), (8, 2, 3, 4, 5, 6, 7, 1), strict=True)))

    assert same.agreement(1, 2) == pytest.approx(1.0)
    assert reversed_.agreement(1, 2) == pytest.approx(-1.0)
    assert mixed.agreement(1, 2) == pytest.approx(-1 / 6)


def test_an_epoch_that_orders_the_wrong_way_round_forecasts_the_mean() -> None:
    curves = whole(*([n / 10, error(-1 - n / 10)] for n in range(1, 9)))

    found = curves.forecast([0.9], 2)

    assert found is not None
    assert found[0] == pytest.approx(-1.45)


def test_what_diverged_says_nothing_of_others_and_has_no_forecast() -> None:
    sound = [[0.2 + n / 10, 0.1 + n / 10] for n in range(LEAST)]
    curves = whole(*sound, [0.4, math.nan], [math.inf, math.inf])

    assert curves.forecast([0.3], 2) == whole(*sound).forecast([0.3], 2)
    assert curves.forecast([math.nan], 2) is None


def test_where_nothing_is_known_nothing_is_forecast() -> None:
    assert Curves([]).forecast([0.5], 2) is None
    assert Curves([]).agreement(1, 2) is None
    assert Curves([([math.nan], 2)]).forecast([0.5], 2) is None

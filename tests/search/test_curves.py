"""What an epoch tells of the end, on curves whose regression can be done by hand."""

import math

import pytest

from search.curves import LEAST, OFFSET, Curves


def error(log: float) -> float:
    return math.exp(log) - OFFSET


def test_a_line_through_the_finished_ones_is_the_forecast_and_its_spread_grows_with_the_distance() -> None:
    """By hand, of the conjugate prior that the module states: slope 1 as sure as 0.1, deviation 0.35 of 3 trials."""
    # Logarithms after epoch 1: twice -1, -2, -3, -4; at the end half of it less 3, and 0.1 more or less.
    early = [-1.0, -2.0, -3.0, -4.0] * 2
    residual = [0.1] * 4 + [-0.1] * 4  # orthogonal to the line and to the mean
    curves = Curves([[error(x), error(-3 + x / 2 + r)] for x, r in zip(early, residual, strict=True)])

    # Mean of x -2.5, sum of squares 10, so the slope is (5 + 0.1) / 10.1 and the leverage at x 1 + 1/8 + (x + 2.5)^2
    # / 10.1. Squares: 0.08 of the residuals, 10 (1/2 - slope)^2 of the slope's shift, 0.1 (1 - slope)^2 of its distance
    # from the prior, 3 * 0.35^2. There are 7 + 3 degrees of freedom, and the variance of t with these is 10 / 8.
    slope = 5.1 / 10.1
    squares = 0.08 + 10 * (0.5 - slope) ** 2 + 0.1 * (1 - slope) ** 2 + 0.3675
    for x in (-2.0, 1.0):
        found = curves.forecast(1, error(x))
        assert found is not None
        assert found[0] == pytest.approx(-4.25 + slope * (x + 2.5))
        assert found[1] == pytest.approx(math.sqrt(squares / 8 * (1.125 + (x + 2.5) ** 2 / 10.1)))


def test_too_few_finished_trials_tell_nothing() -> None:
    curves = Curves([[0.2 + n / 10, 0.1 + n / 10] for n in range(LEAST - 1)])

    assert curves.forecast(1, 0.5) is None
    assert curves.agreement(1) == 0.0


def test_an_epoch_after_the_last_of_a_trial_has_no_pairs_with_it() -> None:
    curves = Curves([[0.2 + n / 10, 0.1 + n / 10] for n in range(LEAST)])

    assert curves.forecast(2, 0.2) is None


def test_agreement_is_the_correlation_of_ranks() -> None:
    same = Curves([[n / 10, n**2 / 100] for n in range(1, 9)])
    reversed_ = Curves([[n / 10, 1 - n / 10] for n in range(1, 9)])
    # Ranks 1 2 3 4 5 6 7 8 against 8 2 3 4 5 6 7 1: 1 - 6 * (49 + 49) / (8 * 63) = -1/6.
    mixed = Curves([[a / 10, b / 10] for a, b in zip(range(1, 9), (8, 2, 3, 4, 5, 6, 7, 1), strict=True)])

    assert same.agreement(1) == pytest.approx(1.0)
    assert reversed_.agreement(1) == pytest.approx(-1.0)
    assert mixed.agreement(1) == pytest.approx(-1 / 6)


def test_an_epoch_that_orders_the_wrong_way_round_forecasts_the_mean() -> None:
    curves = Curves([[n / 10, error(-1 - n / 10)] for n in range(1, 9)])

    found = curves.forecast(1, 0.9)

    assert found is not None
    assert found[0] == pytest.approx(-1.45)


def test_what_diverged_says_nothing_of_others_and_has_no_forecast() -> None:
    whole = [[0.2 + n / 10, 0.1 + n / 10] for n in range(LEAST)]
    curves = Curves([*whole, [0.4, math.nan], [math.inf, math.inf]])

    assert curves.forecast(1, 0.3) == Curves(whole).forecast(1, 0.3)
    assert curves.forecast(1, math.nan) is None

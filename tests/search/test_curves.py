"""What an epoch tells of the end, on curves whose regression can be done by hand."""

import math

import pytest

from search.curves import LEAST, Curves
from search.surrogate import OFFSET


def error(log: float) -> float:
    return math.exp(log) - OFFSET


def test_a_line_through_the_finished_ones_is_the_forecast_and_its_spread_grows_with_the_distance() -> None:
    # Logarithms after epoch 1: -2 ... 2 in steps of 1; at the end half of it, and alternately 0.1 more and less.
    early = [0.0, -1.0, -2.0, -3.0, -4.0]
    residual = [0.1, -0.1, 0.0, -0.1, 0.1]  # orthogonal to the line and to the mean
    curves = Curves([[error(x), error(-3 + x / 2 + r)] for x, r in zip(early, residual, strict=True)])

    # Residual variance 0.04 / (5 - 2); mean of x -2, sum of squares 10. Leverage at x: 1 + 1/5 + (x + 2)^2 / 10.
    for x in (-2.0, 1.0):
        found = curves.forecast(1, error(x))
        assert found is not None
        assert found[0] == pytest.approx(-3 + x / 2)
        assert found[1] == pytest.approx(math.sqrt(0.04 / 3 * (1.2 + (x + 2) ** 2 / 10)))


def test_too_few_finished_trials_tell_nothing() -> None:
    curves = Curves([[0.5 + n / 10, 0.1 + n / 10] for n in range(LEAST - 1)])

    assert curves.forecast(1, 0.5) is None
    assert curves.agreement(1) == 0.0


def test_an_epoch_after_the_last_of_a_trial_has_no_pairs_with_it() -> None:
    curves = Curves([[0.5 + n / 10, 0.1 + n / 10] for n in range(LEAST)])

    assert curves.forecast(2, 0.2) is None


def test_agreement_is_the_correlation_of_ranks() -> None:
    same = Curves([[n / 10, n**2 / 100] for n in range(1, 7)])
    reversed_ = Curves([[n / 10, 1 - n / 10] for n in range(1, 7)])
    # Ranks 1 2 3 4 5 against 2 1 3 5 4: 1 - 6 * (1 + 1 + 0 + 1 + 1) / (5 * 24) = 0.8.
    mixed = Curves([[a / 10, b / 10] for a, b in zip((1, 2, 3, 4, 5), (2, 1, 3, 5, 4), strict=True)])

    assert same.agreement(1) == pytest.approx(1.0)
    assert reversed_.agreement(1) == pytest.approx(-1.0)
    assert mixed.agreement(1) == pytest.approx(0.8)


def test_an_epoch_that_orders_the_wrong_way_round_forecasts_the_mean() -> None:
    curves = Curves([[n / 10, error(-1 - n / 10)] for n in range(1, 7)])

    found = curves.forecast(1, 0.9)

    assert found is not None
    assert found[0] == pytest.approx(-1.35)

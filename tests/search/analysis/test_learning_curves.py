"""Forecasts of final errors, on curves whose regression can be done by hand."""

import math

import pytest

from search.analysis.learning_curves import MIN_FINISHED, OFFSET, Curves


def error(log: float) -> float:
    return math.exp(log) - OFFSET


def whole(*curves: list[float]) -> Curves:
    return Curves([(curve, len(curve)) for curve in curves])


def test_the_forecast_is_on_the_regression_line_and_its_deviation_grows_with_the_distance() -> None:
    """Computed by hand with the module's prior: slope 1 of precision 0.1, deviation 0.5 with the weight of 3 trials."""
    # Log errors after epoch 1: twice -1, -2, -3, -4. At the end: half of it, minus 3, plus or minus 0.1.
    early = [-1.0, -2.0, -3.0, -4.0] * 2
    residual = [0.1] * 4 + [-0.1] * 4  # orthogonal to the line and to the mean
    curves = whole(*([error(x), error(-3 + x / 2 + r)] for x, r in zip(early, residual, strict=True)))

    # Mean of x -2.5, sum of squares 10, so the slope is (5 + 0.1) / 10.1 and the leverage at x 1 + 1/8 + (x + 2.5)^2
    # / 10.1. Squares: 0.08 of the residuals, 10 (1/2 - slope)^2 as the slope is shrunk, 0.1 (1 - slope)^2 for its
    # distance from the prior, 3 * 0.5^2. There are 7 + 3 degrees of freedom: Student's t has the variance 10 / 8.
    slope = 5.1 / 10.1
    squares = 0.08 + 10 * (0.5 - slope) ** 2 + 0.1 * (1 - slope) ** 2 + 0.75
    for x in (-2.0, 1.0):
        forecast = curves.forecast([error(x)], 2)
        assert forecast is not None
        assert forecast[0] == pytest.approx(-4.25 + slope * (x + 2.5))
        assert forecast[1] == pytest.approx(math.sqrt(squares / 8 * (1.125 + (x + 2.5) ** 2 / 10.1)))


def test_steps_are_chained_each_fitted_to_all_trials_that_took_it() -> None:
    """Computed by hand: a trial of -1, -2, -3, one of -1, -2 that was stopped, and the forecast for one that has -1."""
    curves = Curves([([error(-1.0), error(-2.0), error(-3.0)], 3), ([error(-1.0), error(-2.0)], 3)])

    forecast = curves.forecast([error(-1.0)], 3)

    # The prior variance of a step is 0.5^2 / 2 = 1/8 with the weight of 3 trials. The first step is fitted to 2 trials:
    # 3/8 / (2 + 3 - 3) times 1 + 1/2. The second to one: 3/8 / 1 times 1 + 1/1, plus the variance before it / 0.1.
    first = 3 / 16 * 1.5
    assert forecast is not None
    assert forecast[0] == pytest.approx(-3.0)
    assert forecast[1] == pytest.approx(math.sqrt(first + 3 / 8 * (2 + first / 0.1)))


def test_there_is_no_forecast_if_no_trial_has_finished_a_remaining_epoch() -> None:
    curves = Curves([([0.5, 0.4], 3), ([0.6, 0.5], 3)])

    assert curves.forecast([0.5], 3) is None
    assert curves.forecast([], 3) is None
    assert curves.forecast([0.5], 2) is None


def test_trainings_of_different_lengths_are_compared_at_the_same_fraction() -> None:
    long = [0.9, 0.8, 0.7, 0.6]

    assert whole(long).forecast([0.7], 2) == whole([0.8, 0.6]).forecast([0.7], 2)
    # A shorter training has no steps in between: its 2 epochs are the 2nd and the 4th of 4.
    assert whole([0.8, 0.6]).forecast([0.9, 0.8], 4) is None


def test_there_is_no_rank_correlation_with_too_few_finished_trials() -> None:
    some = [[0.2 + n / 10, 0.1 + n / 10] for n in range(MIN_FINISHED)]

    assert whole(*some[1:]).agreement(1, 2) is None
    assert Curves([*((curve, 2) for curve in some[1:]), ([0.2], 2)]).agreement(1, 2) is None
    assert whole(*some).agreement(1, 2) == pytest.approx(1.0)


def test_agreement_is_spearmans_rank_correlation() -> None:
    same = whole(*([n / 10, n**2 / 100] for n in range(1, 9)))
    reversed_ = whole(*([n / 10, 1 - n / 10] for n in range(1, 9)))
    # Ranks 1 2 3 4 5 6 7 8 against 8 2 3 4 5 6 7 1: 1 - 6 * (49 + 49) / (8 * 63) = -1/6.
    mixed = whole(*([a / 10, b / 10] for a, b in zip(range(1, 9), (8, 2, 3, 4, 5, 6, 7, 1), strict=True)))

    assert same.agreement(1, 2) == pytest.approx(1.0)
    assert reversed_.agreement(1, 2) == pytest.approx(-1.0)
    assert mixed.agreement(1, 2) == pytest.approx(-1 / 6)


def test_if_ranks_are_reversed_the_forecast_is_the_mean() -> None:
    curves = whole(*([n / 10, error(-1 - n / 10)] for n in range(1, 9)))

    forecast = curves.forecast([0.9], 2)

    assert forecast is not None
    assert forecast[0] == pytest.approx(-1.45)


def test_a_diverged_training_is_ignored_and_has_no_forecast() -> None:
    sound = [[0.2 + n / 10, 0.1 + n / 10] for n in range(MIN_FINISHED)]
    curves = whole(*sound, [0.4, math.nan], [math.inf, math.inf])

    assert curves.forecast([0.3], 2) == whole(*sound).forecast([0.3], 2)
    assert curves.forecast([math.nan], 2) is None


def test_without_any_trial_there_is_no_forecast() -> None:
    assert Curves([]).forecast([0.5], 2) is None
    assert Curves([]).agreement(1, 2) is None
    assert Curves([([math.nan], 2)]).forecast([0.5], 2) is None

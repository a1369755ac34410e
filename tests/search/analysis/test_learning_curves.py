"""Forecasts of final errors, on curves whose regression can be done by hand."""

import math

import pytest

from search.analysis.learning_curves import OFFSET, PRIOR_DEVIATION, Curve, Curves


def error(log: float) -> float:
    return math.exp(log) - OFFSET


def whole(*curves: list[float]) -> Curves:
    return Curves([Curve(curve, len(curve)) for curve in curves])


def test_the_forecast_is_on_the_regression_line_and_its_deviation_grows_with_the_distance() -> None:
    """Computed by hand with the module's prior: slope 1 of precision 0.1, a deviation with the weight of 3 trials."""
    # Log errors after epoch 1: twice -1, -2, -3, -4. At the end: half of it, minus 3, plus or minus 0.1.
    early = [-1.0, -2.0, -3.0, -4.0] * 2
    residual = [0.1] * 4 + [-0.1] * 4  # orthogonal to the line and to the mean
    curves = whole(*([error(x), error(-3 + x / 2 + r)] for x, r in zip(early, residual, strict=True)))

    # Mean of x -2.5, sum of squares 10, so the slope is (5 + 0.1) / 10.1 and the leverage at x 1 + 1/8 + (x + 2.5)^2
    # / 10.1. Squares: 0.08 of the residuals, 10 (1/2 - slope)^2 as the slope is shrunk, 0.1 (1 - slope)^2 for its
    # distance from the prior, and 3 prior variances. There are 7 + 3 degrees of freedom: Student's t has the variance
    # 10 / 8.
    slope = 5.1 / 10.1
    squares = 0.08 + 10 * (0.5 - slope) ** 2 + 0.1 * (1 - slope) ** 2 + 3 * PRIOR_DEVIATION**2
    for x in (-2.0, 1.0):
        forecast = curves.forecast(Curve([error(x)], 2))
        assert forecast is not None
        assert forecast[0] == pytest.approx(-4.25 + slope * (x + 2.5))
        assert forecast[1] == pytest.approx(math.sqrt(squares / 8 * (1.125 + (x + 2.5) ** 2 / 10.1)))


def test_steps_are_chained_each_fitted_to_all_trials_that_took_it() -> None:
    """Computed by hand: a trial of -1, -2, -3, one of -1, -2 that was stopped, and the forecast for one that has -1."""
    curves = Curves([Curve([error(-1.0), error(-2.0), error(-3.0)], 3), Curve([error(-1.0), error(-2.0)], 3)])

    forecast = curves.forecast(Curve([error(-1.0)], 3))

    # A step has half of the prior variance, with the weight of 3 trials. The first step is fitted to 2 trials: 3 halves
    # / (2 + 3 - 3) times 1 + 1/2. The second to one: 3 halves / 1 times 1 + 1/1, plus the variance before it / 0.1.
    half = PRIOR_DEVIATION**2 / 2
    first = 3 / 2 * half * 1.5
    assert forecast is not None
    assert forecast[0] == pytest.approx(-3.0)
    assert forecast[1] == pytest.approx(math.sqrt(first + 3 * half * (2 + first / 0.1)))


def test_an_epoch_that_no_trial_has_reached_continues_the_last_step() -> None:
    """Computed by hand: two trials of -1, -2 and -2, -3, so that the slope is 1 and no residual is left."""
    curves = Curves([Curve([error(-1.0), error(-2.0)], 4), Curve([error(-2.0), error(-3.0)], 4)])

    forecast = curves.forecast(Curve([error(-2.0)], 4))

    # A third of the prior variance, with the weight of 3 trials, / (2 + 3 - 3); the first step has 1 + 1/2 and the
    # leverage of -2, 0.5^2 / 0.6. The two steps after it add the variance alone.
    variance = 3 / 2 * PRIOR_DEVIATION**2 / 3
    assert forecast is not None
    # The power law that falls by 1 from epoch 1 to 2 falls by as much again from 2 to 4.
    assert forecast[0] == pytest.approx(-2.0 - math.log2(4))
    assert forecast[1] == pytest.approx(math.sqrt(variance * (1.5 + 0.25 / 0.6 + 2)))
    # What a trial has reached itself is known.
    assert curves.forecast(Curve([error(-2.0), error(-3.0)], 4)) == pytest.approx((-4.0, math.sqrt(2 * variance)))


def test_there_is_no_forecast_without_a_step_from_the_last_epoch_or_before() -> None:
    curves = Curves([Curve([0.5], 3), Curve([0.5, 0.4], 4)])

    assert curves.forecast(Curve([0.5], 3)) is None
    assert curves.forecast(Curve([], 4)) is None
    assert curves.forecast(Curve([0.5], 2)) is None


def test_trainings_of_different_lengths_are_compared_at_the_same_fraction() -> None:
    long = [0.9, 0.8, 0.7, 0.6]

    assert whole(long).forecast(Curve([0.7], 2)) == whole([0.8, 0.6]).forecast(Curve([0.7], 2))
    # A shorter training has no steps in between: its 2 epochs are the 2nd and the 4th of 4.
    assert whole([0.8, 0.6]).forecast(Curve([0.9, 0.8], 4)) is None


def test_if_ranks_are_reversed_the_forecast_is_the_mean() -> None:
    curves = whole(*([n / 10, error(-1 - n / 10)] for n in range(1, 9)))

    forecast = curves.forecast(Curve([0.9], 2))

    assert forecast is not None
    assert forecast[0] == pytest.approx(-1.45)


def test_a_diverged_training_is_ignored_and_has_no_forecast() -> None:
    sound = [[0.2 + n / 10, 0.1 + n / 10] for n in range(4)]
    curves = whole(*sound, [0.4, math.nan], [math.inf, math.inf])

    assert curves.forecast(Curve([0.3], 2)) == whole(*sound).forecast(Curve([0.3], 2))
    assert curves.forecast(Curve([math.nan], 2)) is None


def test_without_any_trial_there_is_no_forecast() -> None:
    assert Curves([]).forecast(Curve([0.5], 2)) is None
    assert Curves([Curve([math.nan], 2)]).forecast(Curve([0.5], 2)) is None


def test_the_predicted_error_and_the_cost_are_regressors_beside_the_error_before() -> None:
    """Computed by hand: eight trials on the corners of a cube, so that the three slopes do not depend on each other."""
    corners = [(x, p, c) for x in (-1, 1) for p in (-1, 1) for c in (-1, 1)]
    # Log errors -2 +- 1, predicted -3 +- 0.5, costs e^(+-2), whose logarithms have a deviation of 2. The end is
    # -4 + x / 2 + p / 4 + c / 8 in these units of 1, 0.5 and 2.
    curves = Curves(
        [
            Curve([error(-2 + x), error(-4 + x / 2 + p / 4 + c / 8)], 2, error(-3 + p / 2), math.exp(2 * c))
            for x, p, c in corners
        ]
    )

    # Sums of squares 8, 8 / 4 and 8 (the cost in its deviation). The priors: slope 1 of precision 0.1, 0 of 0.1, and 0
    # of 1.
    slopes = (0.5 * 8 + 0.1) / 8.1, 0.5 * 2 / 2.1, 1 / 8 * 8 / 9
    for x, p, c in [(-1, 1, 1), (0.5, -1, 0)]:
        forecast = curves.forecast(Curve([error(-2 + x)], 2, error(-3 + p / 2), math.exp(2 * c)))
        assert forecast is not None
        assert forecast[0] == pytest.approx(-4 + slopes[0] * x + slopes[1] * p / 2 + slopes[2] * c)


def test_a_trial_without_prediction_or_cost_is_forecast_as_one_with_the_mean_of_the_others() -> None:
    known = [Curve([n / 10, n / 20], 2, error(-n / 5), math.exp(n)) for n in range(1, 6)]
    curves = Curves(known)

    assert curves.forecast(Curve([0.3], 2)) == pytest.approx(curves.forecast(Curve([0.3], 2, error(-0.6), math.exp(3))))
    # An old search has none at all: then neither matters.
    old = whole(*(list(curve.errors) for curve in known)).forecast(Curve([0.3], 2))
    assert old is not None
    assert old[0] == pytest.approx(math.log(0.15 + OFFSET), abs=0.05)

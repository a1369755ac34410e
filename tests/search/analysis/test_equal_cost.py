"""Gains at equal cost and importances, on searches whose truth is known by construction."""

import math

import pytest

from search.analysis.choices import Choice, choices_of
from search.analysis.equal_cost import Gain, gains
from search.analysis.importance import Importances, importances
from search.analysis.runs import Run, runs_of
from search.ledger.history import History
from tests.search.constructed import EFFECTS, history
from tests.search.trials import small_search


def choices_and_runs(search: History) -> tuple[dict[str, Choice], list[Run]]:
    choices = choices_of(search.began.spec, list(search.trials.values()))
    return {choice.name: choice for choice in choices}, runs_of(search, search.objectives)


def gain(found: list[Gain], option: str, against: str) -> Gain:
    """Return a gain, turned around where it is listed for the other option."""
    return next(g for g in found if (g.option, g.against) == (option, against))


@pytest.mark.medium
@pytest.mark.parametrize("stopped", [0.0, 0.4])
def test_the_gain_of_a_mechanism_is_what_was_built_in(stopped: float) -> None:
    choices, runs = choices_and_runs(history(240, seed=1, stopped=stopped))

    found = gains(choices["attention"], runs, maximise=True)

    for option, against in (("tsm", "none"), ("tam", "none"), ("tsm", "tam")):
        truth, estimate = EFFECTS[option] - EFFECTS[against], gain(found, option, against).gain
        assert estimate.value == pytest.approx(truth, abs=0.03)
        assert estimate.low <= truth <= estimate.high
        assert estimate.excludes_zero
    # The best of the others is TSM, whatever else there is.
    assert gain(found, "tam", "").gain.value == pytest.approx(EFFECTS["tam"] - EFFECTS["tsm"], abs=0.03)
    assert sum(run.is_forecast for run in runs) == pytest.approx(240 * stopped, abs=25)


@pytest.mark.medium
def test_choices_without_effect_gain_nothing_beyond_chance() -> None:
    # 95 % intervals of many gains in four searches: few may miss 0.
    missed = total = 0
    for seed in range(4):
        choices, runs = choices_and_runs(history(120, seed=seed))
        for name in ("lr", "tam: alpha", "tam: beta", "tsm: stages 2", "tsm: stages 3", "tsm: stages 4", "frames"):
            for found in gains(choices[name], runs, maximise=True):
                missed, total = missed + found.gain.excludes_zero, total + 1

    assert total >= 40
    assert missed <= 0.1 * total


@pytest.mark.medium
def test_a_few_runs_against_many_are_no_loss() -> None:
    # 3 of 200 runs at random: the best of the 197 others is better, by their number alone.
    missed = 0
    for seed in range(20):
        search = history(200, seed=seed)
        runs = [run for run in runs_of(search, search.objectives) if not run.trial.config["model"]["attention"]]
        few = Choice("few", ("most", "few"), {run.trial.number: int(n < 3) for n, run in enumerate(runs)})
        (found,) = gains(few, runs, maximise=True)
        assert found.has_few_runs
        missed += found.gain.excludes_zero

    assert missed <= 3


def test_a_gain_is_the_area_between_two_fronts_by_hand() -> None:
    # Without: 0.5 from cost 1 on. With: 0.6 from cost 1, 0.9 from cost 10. On a logarithmic axis from 1 to 10 the gain
    # is 0.1 everywhere but at its right end.
    search = small_search()
    trials = list(search.trials.values())
    points = [(1.0, 0.5, 0), (1.0, 0.6, 1), (10.0, 0.9, 1), (10.0, 0.4, 0)]
    runs = [Run(trials[n], cost, value, 0.0, is_forecast=False) for n, (cost, value, _) in enumerate(points)]
    choice = Choice("c", ("without", "with"), {trials[n].number: option for n, (_, _, option) in enumerate(points)})

    (found,) = gains(choice, runs, maximise=True)

    assert (found.option, found.against, found.runs, found.others) == ("with", "without", 2, 2)
    # 47 of the 48 costs compared have 0.1, the last 0.4.
    assert found.gain.value == pytest.approx((47 * 0.1 + 0.4) / 48)
    assert (found.with_option, found.without) == pytest.approx(((47 * 0.6 + 0.9) / 48, 0.5))


def test_of_a_loss_less_is_a_gain() -> None:
    trials = list(small_search().trials.values())
    runs = [Run(trials[n], 1.0, value, 0.0, is_forecast=False) for n, value in enumerate((2.0, 1.5))]
    (found,) = gains(Choice("c", ("a", "b"), {trials[0].number: 0, trials[1].number: 1}), runs, maximise=False)

    assert (found.option, found.against) == ("b", "a")
    assert found.gain.value == pytest.approx(0.5)
    assert (found.with_option, found.without) == (1.5, 2.0)


def importance(trials: int, seed: int, stopped: float = 0.0) -> Importances:
    search = history(trials, seed=seed, stopped=stopped)
    choices, runs = choices_and_runs(search)
    return importances(list(choices.values()), runs, search.objectives, "top1")


@pytest.mark.medium
def test_the_choice_with_an_effect_is_the_most_important() -> None:
    for seed in range(3):
        found = importance(300, seed, stopped=0.3)

        assert next(iter(found.shares)) == "attention"
        assert found.shares["attention"] > 0.6
        assert sum(found.shares.values()) == pytest.approx(1)
        # Frames and width change the cost as much as the accuracy.
        assert max(found.shares[name] for name in ("frames", "width", "lr", "tam: alpha", "tam: beta")) < 0.15
        assert not found.has_few_runs
        assert found.forecasts > 50


def test_few_runs_are_said_to_be_few() -> None:
    found = importance(9, 0)

    assert found.has_few_runs
    assert found.runs == 9
    assert not math.isnan(sum(found.shares.values()))

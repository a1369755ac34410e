"""The metrics of a search: the best at round costs are those of the trials within them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.ledger.events import Reported, SearchBegan
from search.ledger.history import History, Trial
from search.report.tracking.progress import Progress, round_costs


def progress(objectives: dict[str, str] | None = None) -> Progress:
    spec = {"objectives": objectives or {"top1": "max", "gflops": "min"}, "search": {"budget": {}}}
    history = History()
    history.apply(SearchBegan(time=0.0, id="s", name="n", spec=spec, versions={}))
    return Progress(history)


def finished(number: int, gflops: float, top1: float) -> Trial:
    report = Reported(time=1.0, trial=number, epoch=1, metrics={"top1": top1}, seconds=1.0)
    return Trial(number, {}, {}, "i", "a", {"gflops": gflops}, reports=[report], state="finished")


@pytest.mark.parametrize(
    ("low", "high", "costs"),
    [
        (0.3, 0.3, [0.5]),
        (0.2, 0.2, [0.2]),
        (0.03, 1.5, [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]),
        (7.0, 7.0, [10.0]),
        (1e-5, 1e-5, [1e-5]),
    ],
)
def test_round_costs_are_one_two_and_five_times_powers_of_ten(low: float, high: float, costs: list[float]) -> None:
    assert list(round_costs(low, high)) == costs


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_best_at_a_round_cost_is_that_of_the_trials_within_it(points: list[tuple[float, float]]) -> None:
    whole, metrics = progress(), {}
    for number, (cost, value) in enumerate(points):
        metrics |= whole.add(finished(number, cost, value))

    found = {float(name.split()[2]): value for name, value in metrics.items() if name.startswith("best/")}
    assert found == {
        limit: max(value for cost, value in points if cost <= limit)
        for limit in round_costs(min(cost for cost, _ in points), max(cost for cost, _ in points))
    }
    best = max(value for _, value in points)
    assert (metrics["top1"], metrics["gflops"]) == (best, min(cost for cost, value in points if value == best))
    assert all(low < high for low, high in pairwise(sorted(found)))


def test_the_costs_of_the_best_are_those_of_all_objectives() -> None:
    whole = progress({"top1": "max", "gflops": "min", "latency_ms": "min"})
    cheap, best = finished(0, 0.2, 0.5), finished(1, 0.4, 0.6)
    cheap.cost["latency_ms"], best.cost["latency_ms"] = 3.0, 2.0

    metrics = whole.add(cheap) | whole.add(best)

    assert {name: metrics[name] for name in ("top1", "gflops", "latency_ms")} == {
        "top1": 0.6, "gflops": 0.4, "latency_ms": 2.0
    }  # fmt: skip


def test_a_trial_without_a_number_changes_only_the_hypervolume() -> None:
    assert set(progress().add(finished(0, 0.2, float("nan")))) == {"hypervolume"}
    assert set(progress().add(finished(0, 0.0, 0.5))) == {"hypervolume"}

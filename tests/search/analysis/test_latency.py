"""Forecasts of latency: exact where times are sums, and better than GFLOPs on networks that were measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.analysis.latency import Features, Forecast, features, informative
from tests.benchmarks.bench_latency import ranks
from vattn.config import ModelConfig
from vattn.cost import cost

OVERHEAD, WORK, PLACES = ("", "once"), ("resnet", "macs"), ("tam", "places")


def network(**changes: object) -> ModelConfig:
    tree = {"frames": 4, "size": 64, "backbone": {"kind": "resnet", "depth": 10, "width": 0.25}}
    return ModelConfig.parse(tree | changes)


def test_features_are_the_cost_by_component() -> None:
    # ResNet-10 has one block in each of four stages, and TAM stands in those of two.
    tam = network(attention=[{"kind": "tam", "stages": [4, 5]}])

    known = features(tam, 16)

    assert known["resnet", "places"] == 4
    assert known["tam", "places"] == 2
    assert known[OVERHEAD] == 1
    total = cost(tam, 16)
    assert sum(value for (_, what), value in known.items() if what == "macs") == pytest.approx(total.macs / 1e9)
    assert sum(value for (_, what), value in known.items() if what == "values") == pytest.approx(
        total.activations / 1e6
    )


@given(overhead=st.floats(0, 5), work=st.floats(0.1, 100), places=st.floats(0, 3))
def test_times_that_are_sums_are_found(overhead: float, work: float, places: float) -> None:
    def milliseconds(known: Features) -> float:
        return overhead + work * known[WORK] + places * known[PLACES]

    measured = [{OVERHEAD: 1.0, WORK: 1.0 + n % 3, PLACES: float(n % 4)} for n in range(12)]
    untried = {OVERHEAD: 1.0, WORK: 2.5, PLACES: 6.0}

    forecast = Forecast.of([(known, milliseconds(known)) for known in measured])

    # The ridge takes a little of each.
    assert forecast.milliseconds(untried) == pytest.approx(milliseconds(untried), rel=0.1)
    assert min(forecast.times.values()) >= 0


def test_without_a_measurement_nothing_takes_time() -> None:
    assert Forecast.of([]).milliseconds({OVERHEAD: 1.0}) == 0


def test_the_first_networks_to_measure_have_every_mechanism() -> None:
    kinds = ["none", "tsm", "tam", "tea", "se"]
    networks = [
        network(size=size, attention=[] if kind == "none" else [{"kind": kind}])
        for kind in kinds
        for size in (32, 40, 48, 56, 64)
    ]

    chosen = informative([features(each, 16) for each in networks], 8)

    assert len(set(chosen)) == 8
    assert {kinds[index // 5] for index in chosen} == set(kinds)
    assert sorted(informative([features(each, 16) for each in networks[:3]], 8)) == [0, 1, 2]


@pytest.mark.parametrize("measured", [8, 12, 16, 24])
def test_untried_networks_are_ranked_much_better_than_by_gflops(measured: int) -> None:
    # 90 networks with seven kinds of mechanisms in two families of backbones, measured while other programs ran.
    forecast, gflops, _ = ranks(measured)

    assert forecast > 0.8
    assert forecast > gflops + 0.2

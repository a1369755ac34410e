"""A training whose number of workers follows the cluster: the numbers by hand, and on nodes that join and are lost."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import cluster.elastic
from cluster import connect  # noqa: F401  # Ray reads the environment that it sets
from cluster.elastic import Growth, as_many_as_fit
from cluster.placement import Resources
from cluster.training import train
from tests.cluster.lab import isolated
from tests.cluster.test_workers import trial
from tests.processes import wait_for
from tests.search.tuner.test_outages import has_namespaces
from vattn.config import TrainConfig
from vattn.data import prepare

RANGE = Resources(workers=2, most=8, cpus=1, gpus=0)


def training(batch: int, accumulate: int = 1) -> TrainConfig:
    return TrainConfig(epochs=1, batch=batch, lr=0.1, accumulate=accumulate)


@pytest.mark.parametrize(
    ("train", "numbers"),
    [
        (training(16), [2, 4, 8]),
        (training(12), [2, 3, 4, 6]),
        # Each worker's share, 8, 4 or 2 clips, must have 4 equal parts.
        (training(16, accumulate=4), [2, 4]),
        (training(2), [2]),
    ],
)
def test_workers_share_a_batch_evenly(train: TrainConfig, numbers: list[int]) -> None:
    assert RANGE.numbers(train) == numbers


@pytest.mark.parametrize(
    ("free", "wanted", "workers"),
    [
        ([{"CPU": 8.0}], 0, 8),
        ([{"CPU": 4.0}, {"CPU": 3.5}], 0, 4),  # 7 places
        ([{"CPU": 8.0}], 5, 4),
        ([{"CPU": 8.0}], 1, 2),
    ],
)
def test_as_many_workers_begin_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, free: list[dict[str, float]], wanted: int, workers: int
) -> None:
    monkeypatch.setattr(cluster.elastic, "SETTLING", 0.0)
    monkeypatch.setattr(cluster.elastic, "free_nodes", lambda: free)

    assert as_many_as_fit(RANGE, training(16), wanted).workers == workers


def test_a_training_grows_when_there_was_room_at_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    now, free = 1000.0, 1.0
    monkeypatch.setattr(cluster.elastic.time, "monotonic", lambda: now)
    monkeypatch.setattr(cluster.elastic, "free_nodes", lambda: [{"CPU": free}])
    growth = Growth(RANGE.model_copy(update={"workers": 2}), training(16), world=2)

    def look() -> bool:
        nonlocal now
        now += cluster.elastic.LOOK
        return growth._look()

    assert not look()
    assert not look()  # three workers cannot share 16 clips
    free = 2.0
    assert not look()
    free = 0.0
    assert not look()
    free = 2.0
    assert not look()
    assert look()
    assert not Growth(RANGE, training(16), world=8).is_due(rank=0)
    assert Growth(Resources(workers=2, cpus=1, gpus=0), training(16), world=2).numbers == []


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of a head without CPUs and two nodes of one CPU."""
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            started.add_node(num_cpus=1)
        ray.init(address=started.address, log_to_driver=False)
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_goes_on_with_fewer_workers_and_then_with_more(nodes: Any, tmp_path: Path) -> None:
    config = trial(100_000)
    cache = prepare(config.data, tmp_path / "data").resolve()
    seen: list[tuple[int, int]] = []

    ended = threading.Event()

    def collect() -> None:
        for result in train(config, cache, tmp_path / "out", Resources(workers=1, most=2, cpus=1, gpus=0)):
            seen.append((result["epoch"], result["workers"]))
            if ended.is_set():
                return

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    wait_for(lambda: seen and seen[-1][1] == 2, 240, "it does not begin with two workers")
    nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
    wait_for(lambda: seen[-1][1] == 1, 240, "it does not go on with one worker")
    nodes.add_node(num_cpus=1)
    wait_for(lambda: seen[-1][1] == 2, 300, "it does not go on with two workers again")
    ended.set()
    thread.join(60)  # it would connect to Ray again

    epochs = [epoch for epoch, _ in seen]
    assert epochs == list(range(1, len(epochs) + 1))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not has_namespaces(), reason="this machine makes no namespaces")
@pytest.mark.timeout(1200)
def test_a_trial_of_a_search_follows_nodes_that_have_networks_of_their_own() -> None:
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    environment.pop("RAY_ADDRESS", None)

    subprocess.run(isolated(["-m", "tests.cluster.own_networks"]), env=environment, check=True)

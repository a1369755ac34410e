"""How many trainings fit a cluster is counted by hand, and by Ray with nodes whose GPUs do not exist."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group

from cluster.placement import Resources, gpu_problem, node_resources
from vattn.errors import UserError

NODE = {"CPU": 16.0, "GPU": 8.0, "memory": 1e9}


def resources(workers: int = 1, cpus: int = 1, gpus: float = 0) -> Resources:
    return Resources(workers=workers, cpus=cpus, gpus=gpus)


@pytest.mark.parametrize(
    ("wanted", "nodes", "fits"),
    [
        # CPUs: a node of 17 holds 4 workers of 4; a node of 3 holds none, so its CPUs do not count.
        (resources(cpus=4), [{"CPU": 17.0}], 4),
        (resources(cpus=4), [{"CPU": 17.0}, {"CPU": 3.0}, {"CPU": 4.0}], 5),
        # Shares: 10 of a tenth on a GPU; 3 of 0.3; 3 of 0.3333; 2 of 0.3334; 1 of 0.6.
        (resources(gpus=0.1), [{"CPU": 16.0, "GPU": 1.0}], 10),
        (resources(gpus=0.3), [{"CPU": 64.0, "GPU": 8.0}] * 8, 192),
        (resources(gpus=0.3333), [{"CPU": 16.0, "GPU": 1.0}], 3),
        (resources(gpus=0.3334), [{"CPU": 16.0, "GPU": 1.0}], 2),
        (resources(gpus=0.6), [NODE], 8),
        # 0.4 of a GPU twice on each of 5 GPUs; what is left of two GPUs is no share.
        (resources(gpus=0.4), [{"CPU": 16.0, "GPU": 5.0}], 10),
        # The scarcer resource of each node counts: 2 GPUs of the first, 3 CPUs of the second, no GPU on the third.
        (resources(gpus=1), [{"CPU": 9.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 4.0}, {"CPU": 9.0}], 5),
        # Workers: 2 + 3 + 3 places for workers of 2 CPUs hold 2 trainings of 3 workers, which may be on several nodes.
        (resources(workers=3, cpus=2), [{"CPU": 5.0}, {"CPU": 6.0}, {"CPU": 7.0}], 2),
        (resources(workers=4, cpus=2, gpus=1), [NODE], 2),
        (resources(workers=16, gpus=1), [NODE, NODE], 1),
    ],
)
def test_trainings_are_counted_node_by_node_and_gpu_by_gpu(
    wanted: Resources, nodes: list[dict[str, float]], fits: int
) -> None:
    assert wanted.concurrency(nodes) == fits


@pytest.mark.parametrize(
    ("wanted", "nodes", "message"),
    [
        (
            resources(cpus=8),
            [{"CPU": 4.0}, {"CPU": 6.0}],
            "resources: one training takes 8 CPUs, and no node has that (the largest has 6 CPUs, 0 GPUs); lower cpus "
            "or gpus",
        ),
        (
            resources(cpus=4, gpus=1),
            [{"CPU": 64.0}, {"CPU": 2.0, "GPU": 1.0}],
            "resources: one training takes 4 CPUs, 1 GPU, and no node has that (the largest has 2 CPUs, 1 GPU); lower "
            "cpus or gpus",
        ),
        (
            resources(workers=2, cpus=2, gpus=1),
            [{"CPU": 2.0}],
            "resources: one worker of a training takes 2 CPUs, 1 GPU, and no node has that (the largest has 2 CPUs, 0 "
            "GPUs); lower cpus or gpus",
        ),
        (
            resources(workers=8, cpus=4, gpus=1),
            [{"CPU": 8.0, "GPU": 4.0}, {"CPU": 32.0, "GPU": 2.0}],
            "resources: the 8 workers of a training, each with 4 CPUs, 1 GPU, do not fit: the nodes have room for 4 "
            "(the largest has 8 CPUs, 4 GPUs); lower workers, cpus or gpus",
        ),
    ],
)
def test_a_training_that_fits_nowhere_is_an_error_that_names_the_largest_node(
    wanted: Resources, nodes: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(UserError) as error:
        wanted.concurrency(nodes)

    assert str(error.value) == message


@pytest.mark.parametrize(("workers", "gpus"), [(1, 0), (1, 0.0001), (1, 0.5), (1, 1), (4, 0), (4, 1)])
def test_workers_can_use_no_gpu_or_one_each_and_a_single_worker_a_share(workers: int, gpus: float) -> None:
    assert gpu_problem(workers, gpus) is None


@pytest.mark.parametrize(
    ("workers", "gpus", "instead"),
    [(1, 2, (2, 1)), (1, 1.5, (2, 1)), (2, 2, (4, 1)), (2, 0.5, (2, 1)), (1, 0.00001, (1, 0.0001))],
)
def test_gpus_that_workers_cannot_use_are_a_problem_with_a_way_out(
    workers: int, gpus: float, instead: tuple[int, float]
) -> None:
    problem = gpu_problem(workers, gpus)

    assert problem is not None
    assert (problem.workers, problem.gpus) == instead
    assert gpu_problem(*instead) is None


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of two nodes, with 1 GPU and with 2 GPUs that do not exist."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=8, num_gpus=2)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def places(workers: int, gpus: float, counted: int) -> int:
    """Return how many trainings of a list that is too long Ray places."""
    groups = [placement_group([{"CPU": 1, "GPU": gpus}] * workers, strategy="PACK") for _ in range(counted + 2)]
    placed = 0
    # Ray may place a group only at a later try: the groups that were removed before give their GPUs back late. Only the
    # groups that must have no room are waited for shortly.
    while placed < len(groups) and groups[placed].wait(60 if placed < counted else 2):
        placed += 1
    for group in groups:
        remove_placement_group(group)
    return placed


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_places_as_many_trainings_as_are_counted_on_the_nodes_that_are_alive(nodes: Any) -> None:
    share, pair, three = resources(gpus=0.4), resources(workers=2, gpus=1), resources(workers=3, gpus=1)

    # 0.4: two on each of 3 GPUs, though 1.2 GPUs would be enough for three. 3 workers: one training on both nodes.
    counted = [wanted.concurrency(node_resources()) for wanted in (share, pair, three)]

    assert counted == [6, 1, 1]
    for wanted, count in zip((share, pair, three), counted, strict=True):
        assert places(wanted.workers, wanted.gpus, count) == count
    nodes.remove_node(next(iter(nodes.worker_nodes)))
    assert [node["GPU"] for node in node_resources()] == [1]
    with pytest.raises(UserError, match=r"room for 1 \(the largest has 4 CPUs, 1 GPU\)"):
        pair.concurrency(node_resources())

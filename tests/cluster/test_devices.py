"""Which GPU a training gets, what share of it, and what is refused."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster import connect  # noqa: F401  # Ray reads the environment that it sets
from cluster.devices import FAKE_MEMORY, GpuError, NodeGpus, _smallest, share_of, smallest_gpu, trial_device
from vattn.errors import UserError

GB = 10**9


@pytest.mark.parametrize(
    ("needed", "memory", "share"),
    [
        (1 * GB, 80 * GB, 0.05),  # 4 GB are reserved
        (4 * GB, 80 * GB, 0.05),
        (4 * GB + 1, 80 * GB, 0.1),
        (33 * GB, 80 * GB, 0.45),  # 0.4125, rounded up
        (79 * GB, 80 * GB, 1.0),
        (200 * GB, 80 * GB, 1.0),
    ],
)
def test_a_share_of_a_gpu_is_the_part_of_its_memory_rounded_up(needed: int, memory: int, share: float) -> None:
    assert share_of(needed, memory) == share


@given(needed=st.integers(1, 10**12), memory=st.integers(10**9, 10**12))
def test_trials_that_fit_a_gpu_by_their_shares_fit_it_by_their_memory(needed: int, memory: int) -> None:
    share = share_of(needed, memory)

    assert 0 < share <= 1
    assert round(share * 10_000) % 500 == 0  # Ray counts in units of 1 / 10,000
    if needed <= memory:
        assert int(1 / share + 1e-9) * needed <= memory


def test_the_smallest_gpu_of_a_cluster_counts() -> None:
    nodes = [(2, NodeGpus("10.0.0.1", (80 * GB, 80 * GB))), (1, NodeGpus("10.0.0.2", (40 * GB,)))]

    assert _smallest(nodes, "--gpus") == 40 * GB
    assert _smallest([], "--gpus") is None


def test_a_node_whose_torch_finds_fewer_gpus_than_ray_counts_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        _smallest([(2, NodeGpus("10.0.0.1", ()))], "resources.gpus")

    assert str(refused.value) == (
        "resources.gpus: node 10.0.0.1 is to train on GPUs, of which Ray counts 2 and torch finds 0; install torch "
        "with CUDA and a driver there, start Ray there with the right --num-gpus, or train on CPUs with 0"
    )


@pytest.fixture(scope="module")
def two_gpus() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv(FAKE_MEMORY, raising=False)
        ray.init(address="local", num_cpus=1, num_gpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@ray.remote(max_calls=1)
def device(fake: str) -> Any:
    if fake:
        os.environ[FAKE_MEMORY] = fake
    try:
        return str(trial_device())
    except GpuError as error:
        return error


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens where torch has no GPU")
def test_gpus_that_torch_cannot_use_are_refused_unless_they_are_simulated(two_gpus: None) -> None:
    with pytest.raises(UserError, match=r"--gpus: node [\d.]+ is to train on GPUs, of which Ray counts 2 and torch "):
        smallest_gpu("--gpus")
    error = ray.get(device.options(num_gpus=1).remote(""))
    assert isinstance(error, GpuError)
    assert "Ray assigned GPU 0" in str(error) or "Ray assigned GPU 1" in str(error)
    assert ray.get(device.options(num_gpus=1).remote("80")) == "cpu"
    assert ray.get(device.options(num_gpus=0).remote("")) == "cpu"

"""The device of each worker of Ray Train, on a local Ray with GPUs that do not exist."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import ray
import ray.train
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster import connect  # noqa: F401  # Ray reads the environment that it sets
from cluster.devices import rank_device

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def gpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def _write_devices(config: dict[str, str]) -> None:
    """Let rank 0 write the ids of the GPUs that Ray assigned to each rank, and the devices if torch had CUDA."""
    with patch("torch.cuda.is_available", return_value=True):
        device = rank_device()
    devices: list[Any] = [None, None]
    torch.distributed.all_gather_object(devices, (ray.get_gpu_ids(), str(device)))
    if ray.train.get_context().get_world_rank() == 0:
        Path(config["file"]).write_text(json.dumps(devices))


def test_each_rank_of_a_node_trains_on_its_own_gpu(tmp_path: Path) -> None:
    interrupt, file = signal.getsignal(signal.SIGINT), tmp_path / "devices.json"

    TorchTrainer(
        _write_devices,
        train_loop_config={"file": str(file)},
        scaling_config=ScalingConfig(num_workers=2, use_gpu=True),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(storage_path=str(tmp_path)),
    ).fit()

    signal.signal(signal.SIGINT, interrupt)  # Ray Train does not restore it
    # Both ranks see the GPUs 0 and 1; the device has the index of the GPU that is the rank's own.
    assert sorted(json.loads(file.read_text())) == [[[0], "cuda:0"], [[1], "cuda:1"]]

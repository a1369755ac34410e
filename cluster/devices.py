"""The GPUs of a cluster and of its processes: which one a process trains on, and how much of its memory.

Ray is imported only by the functions that need it, because `vattn check` reads a spec without Ray.
"""

import gc
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from cluster.placement import UNITS
from vattn.errors import UserError
from vattn.training.memory import CONTEXT

# Torch reads this before its first use of a GPU. Segments that grow leave no gaps when tensors of other sizes follow.
if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

#: Environment variable: Ray counts GPUs that do not exist, each with this many 1e9 bytes of memory, and what is placed
#: on them trains on the CPU. It makes a plan for a cluster, and the tests, run on a machine without GPUs.
FAKE_MEMORY = "VATTN_FAKE_GPU_GB"
#: Shares of a GPU are multiples of this. Trials of few different shares use each other's processes again.
SHARE_STEP = 0.05


class GpuError(OSError):
    """A node cannot use the GPU that Ray assigned to a process there; another node may."""


class NodeGpus(NamedTuple):
    """The GPUs of one node as torch finds them there."""

    node: str
    """its address"""
    memory: tuple[int, ...]
    """bytes of each GPU; empty if torch has no CUDA there"""


def trial_device() -> torch.device:
    """Return the device of a training in this process of Ray Tune: the GPU that Ray assigned to it, or the CPU.

    Ray shows a process the GPUs that it assigned to it, but all GPUs of the node if it assigned none.

    Raises:
        GpuError: Ray assigned a GPU, and torch cannot use it.
    """
    return torch.device("cuda", 0) if _has_gpu() else torch.device("cpu")


def rank_device() -> torch.device:
    """Return the device of this worker of Ray Train: the GPU that Ray assigned to it, or the CPU.

    Ray Train shows each worker the GPUs of all workers on its node.

    Raises:
        GpuError: Ray assigned a GPU, and torch cannot use it.
    """
    from ray.train.torch import get_device

    return get_device() if _has_gpu() else torch.device("cpu")


def _has_gpu() -> bool:
    import ray

    assigned = ray.get_gpu_ids()
    if not assigned or FAKE_MEMORY in os.environ:
        return False
    if not torch.cuda.is_available():
        raise GpuError(
            f"node {ray.util.get_node_ip_address()}: Ray assigned GPU {assigned[0]}, but {_no_cuda()}; install torch "
            "with CUDA and a driver there, and go on with --resume"
        )
    return True


def _no_cuda() -> str:
    return f"torch {torch.__version__} finds no GPU" if torch.version.cuda else f"torch {torch.__version__} has no CUDA"


def free_memory() -> None:
    """Give the GPU memory of an earlier training in this process back to the device."""
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def limit_memory(device: torch.device, share: float) -> None:
    """Let this process use at most ``share`` of the memory of ``device``, if that is a GPU, its CUDA context included.

    Beyond it, torch raises OutOfMemoryError here instead of in another process on the same GPU.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(max(share - CONTEXT / total, SHARE_STEP / 2), device)


def share_of(needed: int, memory: int) -> float:
    """Return the share of a GPU with ``memory`` bytes that a training which needs ``needed`` bytes reserves.

    It is rounded up to `SHARE_STEP`. A training that needs more than the GPU has gets all of it.
    """
    steps = min(-(-needed * round(1 / SHARE_STEP) // memory), round(1 / SHARE_STEP))
    return round(steps * SHARE_STEP * UNITS) / UNITS


def smallest_gpu(path: str) -> int | None:
    """Return the bytes of the smallest GPU of the cluster that this process is connected to; None if it has no GPU.

    ``path`` is the place where the user asked for GPUs.

    Raises:
        UserError: a node has fewer GPUs than Ray counts there, or torch cannot use them.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    with_gpus = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    # Without GPUs of its own a task sees all of its node, and it does not wait for one that is free. Its process ends
    # with it, so that no CUDA context stays.
    ask = ray.remote(num_cpus=0, max_calls=1)(_own_gpus)
    answers = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in with_gpus
    ]
    counts = [int(node["Resources"]["GPU"]) for node in with_gpus]
    return _smallest(list(zip(counts, ray.get(answers), strict=True)), path)


def _smallest(nodes: Sequence[tuple[int, NodeGpus]], path: str) -> int | None:
    """Return the bytes of the smallest GPU of nodes with as many GPUs as Ray counts there."""
    for counted, gpus in nodes:
        if len(gpus.memory) < counted:
            raise UserError(
                f"node {gpus.node} is to train on GPUs, of which Ray counts {counted} and torch finds "
                f"{len(gpus.memory)}",
                path=path,
                way_out="install torch with CUDA and a driver there, start Ray there with the right --num-gpus, or "
                "train on CPUs with 0",
            )
    return min((memory for _, gpus in nodes for memory in gpus.memory), default=None)


def _own_gpus() -> NodeGpus:
    import ray

    node: Any = ray.util.get_node_ip_address()
    if fake := os.environ.get(FAKE_MEMORY):
        count = next(n["Resources"].get("GPU", 0) for n in ray.nodes() if n["NodeID"] == _own_node())
        return NodeGpus(node, (round(1e9 * float(fake)),) * int(count))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return NodeGpus(node, tuple(torch.cuda.get_device_properties(n).total_memory for n in range(count)))


def _own_node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()

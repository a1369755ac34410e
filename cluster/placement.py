"""The CPUs and GPUs of trainings: how many fit a cluster, and how they are freed after a crash.

Ray is imported only by the functions that need it, because `vattn check` reads a spec without Ray.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vattn.base import Config
from vattn.config import TrainConfig
from vattn.errors import UserError

#: file in a training's folder with the id, in hexadecimal, of the placement group of its workers
GROUP_FILE = "placement_group"
#: units of one CPU or GPU; Ray rounds amounts to such units
UNITS = 10_000


class GpuProblem(NamedTuple):
    """A number of GPUs that workers cannot use, and what to ask for instead."""

    rule: str
    """the rule that is broken, with its reason"""
    workers: int
    """number of workers that can be used instead"""
    gpus: float
    """GPUs of each of these workers"""


def gpu_problem(workers: int, gpus: float) -> GpuProblem | None:
    """Return why ``workers`` cannot use ``gpus`` GPUs each; None if they can."""
    if gpus > 1:
        return GpuProblem("must be at most 1, because a worker trains on one GPU", workers * math.ceil(gpus), 1)
    if workers > 1 and 0 < gpus < 1:
        rule = "must be 1 or 0 with several workers, because NCCL cannot run two workers of a trial on one GPU"
        return GpuProblem(rule, workers, 1)
    if 0 < gpus < 1 / UNITS:
        return GpuProblem(f"must be at least {1 / UNITS:g}, the smallest share that Ray counts", workers, 1 / UNITS)
    return None


class Resources(Config):
    """The resources of one training: its number of workers, and the CPUs (torch threads) and GPUs of each worker."""

    workers: int
    cpus: int
    gpus: float
    #: the most workers, where their number follows the cluster; 0: always ``workers``
    most: int = 0

    def numbers(self, train: TrainConfig) -> list[int]:
        """Return the numbers of workers that can share a batch evenly, in increasing order.

        The global batch stays the same with each of them.
        """
        numbers = range(self.workers, max(self.workers, self.most) + 1)
        return [n for n in numbers if train.batch % n == 0 and not train.uneven_parts(n)]

    def concurrency(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Return how many trainings fit at once on a cluster.

        All workers are alike, and Ray places the workers of a training on any nodes that have room for them. So the
        count is the number of workers that fit the nodes, divided by the workers of a training.

        Args:
            nodes: the resources of each node, such as ``{"CPU": 8.0, "GPU": 2.0}``, as `node_resources` returns them.

        Raises:
            UserError: one training does not fit the nodes.
        """
        places = self.places(nodes)
        if places < self.workers:
            raise self._does_not_fit(nodes, places)
        return places // self.workers

    def places(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Return how many workers fit on ``nodes``, counted node by node."""
        return sum(map(self._workers_on, nodes))

    def _workers_on(self, node: Mapping[str, float]) -> int:
        """Return how many workers fit a node. A share of a GPU cannot be put together from two GPUs."""
        on_cpus = _units(node.get("CPU", 0)) // _units(self.cpus)
        if not self.gpus:
            return on_cpus
        return min(on_cpus, int(node.get("GPU", 0)) * (UNITS // _units(self.gpus)))

    def _does_not_fit(self, nodes: Sequence[Mapping[str, float]], places: int) -> UserError:
        scarcest = ("GPU", "CPU") if self.gpus else ("CPU", "GPU")
        largest = max(nodes, key=lambda node: [node.get(kind, 0) for kind in scarcest], default={})
        takes = counted(self.cpus, "CPU") + (f", {counted(self.gpus, 'GPU')}" if self.gpus else "")
        has = ", ".join(counted(largest.get(kind, 0), kind) for kind in ("CPU", "GPU"))
        if not places:
            who = "one worker of a training" if self.workers > 1 else "one training"
            rule, way_out = f"{who} takes {takes}, and no node has that (the largest has {has})", "lower cpus or gpus"
        else:
            rule = (
                f"the {self.workers} workers of a training, each with {takes}, do not fit: the nodes have room for "
                f"{places} (the largest has {has})"
            )
            way_out = "lower workers, cpus or gpus"
        return UserError(rule, path="resources", way_out=way_out)


def _units(amount: float) -> int:
    """Return an amount in the whole units that Ray counts, so that 0.1 is exactly a tenth of 1."""
    return round(amount * UNITS)


def counted(amount: float, kind: str) -> str:
    """Return an amount with its kind, such as "1 CPU" or "0.5 GPUs"."""
    return f"{amount:g} {kind}{'' if amount == 1 else 's'}"


def node_resources() -> list[dict[str, float]]:
    """Return the resources of each node of the cluster that this process is connected to.

    Nodes that are dead or about to leave are left out: nothing new starts there.
    """
    return nodes_and_leaving_hosts()[0]


def nodes_and_leaving_hosts() -> tuple[list[dict[str, float]], frozenset[str]]:
    """Return `node_resources`, and the addresses of the nodes that are about to leave.

    These are nodes such as spot machines that were given notice.
    """
    import ray
    from ray._private import state

    draining = state.state.get_draining_nodes()
    alive = [node for node in ray.nodes() if node["Alive"]]
    staying = [node["Resources"] for node in alive if node["NodeID"] not in draining]
    return staying, frozenset(node["NodeManagerAddress"] for node in alive if node["NodeID"] in draining)


def record_group(folder: Path) -> None:
    """Write the id of this worker's placement group into ``folder``, for `release`."""
    import ray.util

    group = ray.util.get_current_placement_group()
    if group:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GROUP_FILE).write_text(group.id.hex())


def release(folder: Path) -> None:
    """Free the CPUs and GPUs of the workers that trained into ``folder``, whose driver was stopped or has died.

    Ray itself removes a placement group only at the end of the job that created it.
    """
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    file = folder / GROUP_FILE
    if file.exists():
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(file.read_text()))))
        file.unlink()

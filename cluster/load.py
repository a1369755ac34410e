"""The load of the cluster that this process is connected to: what is free on its nodes, and how many jobs share it.

Ray is imported only by the functions that need it, because `vattn list` reads ledgers without Ray.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cluster.placement import Resources, counted

#: part of the command of a job that belongs to Ray itself
_OF_RAY = "/ray/dashboard/"


class Load(NamedTuple):
    """What a cluster has, what of it is free, and who else uses it."""

    total: Sequence[Mapping[str, float]]
    """the resources of each living node, such as ``{"CPU": 8.0, "GPU": 2.0}``"""
    free: Sequence[Mapping[str, float]]
    """what no task, actor or placement group has reserved of each"""
    jobs: int
    """number of other jobs that are running"""


class Shortage(NamedTuple):
    """Why a training cannot start."""

    why: str
    """the resource that is missing: "GPU" or "CPU"; "process" if nothing is missing"""
    text: str
    """in words, such as "4 GPUs wanted, 0 of 8 free; 3 other jobs" """


def current_load() -> Load | None:
    """Return the load of the cluster; None if this process is not connected to one."""
    import ray
    from ray._private import state

    if not ray.is_initialized():
        return None
    free = state.available_resources_per_node()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    own = ray.get_runtime_context().get_job_id()
    others = [
        job for job in state.jobs() if not job["IsDead"] and job["JobID"] != own and _OF_RAY not in job["Entrypoint"]
    ]
    return Load([node["Resources"] for node in nodes], [free.get(node["NodeID"], {}) for node in nodes], len(others))


def metrics_address() -> str:
    """Return the URL at which Prometheus reads the metrics of this process; "" if its node exports none."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        if node["NodeID"] == own and node["MetricsExportPort"]:
            return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return ""


def shortage(load: Load, wanted: Resources) -> Shortage:
    """Return what a training that reserves ``wanted`` lacks on a cluster with this load."""
    lacks: list[tuple[str, str]] = []
    for kind, each in (("GPU", wanted.gpus), ("CPU", float(wanted.cpus))):
        needed, free = each * wanted.workers, sum(node.get(kind, 0) for node in load.free)
        if free + 1e-9 < needed:
            total = sum(node.get(kind, 0) for node in load.total)
            lacks.append((kind, f"{counted(needed, kind)} wanted, {free:g} of {total:g} free"))
    if not lacks and wanted.places(load.free) < wanted.workers:
        # Enough is free in all, but not together.
        kind, each = ("GPU", wanted.gpus) if wanted.gpus else ("CPU", float(wanted.cpus))
        most = max((node.get(kind, 0) for node in load.free), default=0.0)
        lacks = [(kind, f"{counted(each, kind)} wanted on one node, the freest has {most:g} free")]
    if not lacks:
        lacks = [("process", "Ray starts a process, its resources are free")]
    jobs = f"; {load.jobs} other job{'' if load.jobs == 1 else 's'}" if load.jobs else ""
    return Shortage(lacks[0][0], ", ".join(text for _, text in lacks) + jobs)


def usage(load: Load, wanted: Resources, running: int, gpus: float) -> float:
    """Return the share of the cluster's GPUs that trainings use, 0 ... 1; of its CPUs if they use no GPU.

    Args:
        load: the load of the cluster.
        wanted: what one training reserves.
        running: number of trainings that are running.
        gpus: GPUs of all of them together.
    """
    kind, used = ("GPU", gpus) if gpus else ("CPU", float(running * wanted.workers * wanted.cpus))
    total = sum(node.get(kind, 0) for node in load.total)
    return min(used / total, 1.0) if total else 0.0

"""Shares a cluster between the searches and trainings that run on it at the same time.

Each of them writes what it wants into the key-value store of the cluster's head, and computes its own share from what
all of them have written. So there is no process that could be lost, and no order in which they have to start.

Ray is imported only by the functions that need it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

from cluster.placement import Resources

_NAMESPACE = b"vattn"
#: beginning of the keys, before the id of a job
_PREFIX = b"wants:"
#: seconds after which an entry that was not written again does not count; clocks of machines may differ
_STALE = 120.0


class Wants(NamedTuple):
    """What one job wants: a number of trainings, and what each of them reserves."""

    trainings: int
    cpus: float
    """CPUs of one training, of all its workers"""
    gpus: float
    """GPUs of one training"""

    @classmethod
    def of(cls, resources: Resources, trainings: int) -> Self:
        """Return that a job wants ``trainings`` trainings with ``resources`` each."""
        return cls(trainings, float(resources.workers * resources.cpus), resources.workers * resources.gpus)

    @property
    def kind(self) -> str:
        """The resource that jobs with such trainings compete for: "GPU" or "CPU"."""
        return "GPU" if self.gpus else "CPU"

    @property
    def each(self) -> float:
        """The amount of that resource that one training reserves."""
        return self.gpus or self.cpus


def fair_shares(total: float, wants: Sequence[Wants]) -> list[int]:
    """Return how many trainings each job may run, so that the smallest share is as large as possible (max-min).

    A job that wants less than an equal part gets what it wants, and the others share the rest. Parts are whole
    trainings: what rounding leaves goes to the jobs with the least. Each job may run at least one training.

    Args:
        total: the amount of the resource that all of them compete for.
        wants: what the jobs want, in an order that all of them agree on.
    """
    parts = [0.0] * len(wants)
    open_, left = [n for n, want in enumerate(wants) if want.trainings], total
    while open_:
        part = left / len(open_)
        content = [n for n in open_ if wants[n].trainings * wants[n].each <= part]
        for n in content or open_:
            parts[n] = wants[n].trainings * wants[n].each if content else part
        left -= sum(parts[n] for n in content)
        open_ = [n for n in open_ if n not in content] if content else []
    counts = [int(part / want.each + 1e-9) for part, want in zip(parts, wants, strict=True)]
    rest = total - sum(count * want.each for count, want in zip(counts, wants, strict=True))
    while more := [n for n, want in enumerate(wants) if counts[n] < want.trainings and want.each <= rest + 1e-9]:
        least = min(more, key=lambda n: counts[n] * wants[n].each)
        counts[least] += 1
        rest -= wants[least].each
    return [max(count, 1) for count in counts]


class Sharing:
    """The part of one job in a cluster that others may use too."""

    def __init__(self) -> None:
        import ray

        self._job = ray.get_runtime_context().get_job_id()

    def share(self, wants: Wants, nodes: Sequence[Mapping[str, float]]) -> int | None:
        """Write what this job wants; return how many trainings it may run, or None if no other job shares the cluster.

        Args:
            wants: what this job wants now.
            nodes: the resources of the nodes.
        """
        from ray.experimental import internal_kv as kv

        entry = json.dumps([*wants, round(time.time(), 1)]).encode()
        kv._internal_kv_put(_PREFIX + self._job.encode(), entry, overwrite=True, namespace=_NAMESPACE)
        all_wants = {
            job: entry for job, entry in self._others().items() if entry.kind == wants.kind and entry.trainings
        }
        if not all_wants:
            return None
        all_wants[self._job] = wants
        jobs = sorted(all_wants)
        total = sum(node.get(wants.kind, 0.0) for node in nodes)
        return fair_shares(total, [all_wants[job] for job in jobs])[jobs.index(self._job)]

    def _others(self) -> dict[str, Wants]:
        """Return what the other living jobs want, by job id."""
        from ray._private import state
        from ray.experimental import internal_kv as kv

        alive = {job["JobID"] for job in state.jobs() if not job["IsDead"]}
        found = {}
        for key in kv._internal_kv_list(_PREFIX, namespace=_NAMESPACE):
            job = key.removeprefix(_PREFIX).decode()
            entry = kv._internal_kv_get(key, namespace=_NAMESPACE)
            if job == self._job or entry is None:
                continue
            trainings, cpus, gpus, written = json.loads(entry)
            if job in alive and time.time() - written < _STALE:
                found[job] = Wants(trainings, cpus, gpus)
            elif job not in alive:
                kv._internal_kv_del(key, namespace=_NAMESPACE)
        return found

    def leave(self) -> None:
        """Want nothing any more."""
        from ray.experimental import internal_kv as kv

        with suppress(Exception):  # the cluster may be gone, and the entry of a job that has ended does not count
            kv._internal_kv_del(_PREFIX + self._job.encode(), namespace=_NAMESPACE)

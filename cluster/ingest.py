"""Reads files on the nodes of a Ray cluster: takes the place of `vattn.data.workers.run` in the ingest."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from vattn.data import workers

Job = TypeVar("Job")
Result = TypeVar("Result")

#: Jobs that a task works off one after the other: starting a process takes as long as decoding a few files.
_CHUNK = 8


def run(
    work: Callable[[Job], Result], jobs: Sequence[Job], processes: int, time_limit: float = float("inf")
) -> Iterator[tuple[Job, Result | workers.Failure]]:
    """Yield each job with ``work(job)``, or with why it failed, as `vattn.data.workers.run` does.

    ``processes`` tasks of one CPU are under way at once. Those of a node that is lost are done again on another. All
    nodes must see what ``work`` reads under the same path.
    """
    chunks = iter([jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)])
    under_way: dict[Any, Sequence[Job]] = {}
    try:
        while True:
            while len(under_way) < processes and (chunk := next(chunks, None)):
                under_way[_work_off.remote(work, chunk, time_limit)] = chunk
            if not under_way:
                return
            (ended,), _ = ray.wait(list(under_way))
            chunk = under_way.pop(ended)
            try:
                outcomes = ray.get(ended)
            except RayError as error:
                outcomes = [(job, workers.Failure(f"its task was lost: {error}")) for job in chunk]
            del ended  # or the cluster keeps the pixels
            yield from outcomes
    finally:
        for task in under_way:
            ray.cancel(task, force=True)


@ray.remote(num_cpus=1)
def _work_off(work: Callable[[Any], Any], jobs: Sequence[Any], time_limit: float) -> list[tuple[Any, Any]]:
    # In a process of its own, which a decoder may crash or hang without taking Ray's worker along.
    return list(workers.run(work, jobs, 1, time_limit))

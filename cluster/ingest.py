"""Runs jobs of the ingest on the nodes of a Ray cluster, instead of `vattn.data.workers.run`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from vattn.data import workers

Job = TypeVar("Job")
Result = TypeVar("Result")

#: Jobs of one Ray task, which runs them one after another: starting a process takes as long as decoding a few files.
_JOBS_PER_TASK = 8


def run(
    work: Callable[[Job], Result], jobs: Sequence[Job], processes: int, time_limit: float = float("inf")
) -> Iterator[tuple[Job, Result | workers.Failure]]:
    """Yield each job with the result of ``work(job)``, or with a failure, as `vattn.data.workers.run` does.

    If a node is lost, Ray repeats its tasks on another node. All nodes must see the files that ``work`` reads under the
    same paths.

    Args:
        work: a function that can be pickled.
        jobs: its arguments, which can be pickled.
        processes: number of Ray tasks, of one CPU each, that run at the same time.
        time_limit: longest time for one job, seconds.
    """
    chunks = iter([jobs[start : start + _JOBS_PER_TASK] for start in range(0, len(jobs), _JOBS_PER_TASK)])
    running: dict[Any, Sequence[Job]] = {}
    try:
        while True:
            while len(running) < processes and (chunk := next(chunks, None)):
                running[_run_jobs.remote(work, chunk, time_limit)] = chunk
            if not running:
                return
            (ended,), _ = ray.wait(list(running))
            chunk = running.pop(ended)
            try:
                outcomes = ray.get(ended)
            except RayError as error:
                outcomes = [(job, workers.Failure(f"its task was lost: {error}")) for job in chunk]
            del ended  # while a reference exists, the cluster keeps the pixels
            yield from outcomes
    finally:
        for task in running:
            ray.cancel(task, force=True)


@ray.remote(num_cpus=1)
def _run_jobs(work: Callable[[Any], Any], jobs: Sequence[Any], time_limit: float) -> list[tuple[Any, Any]]:
    # In a separate process, so that a decoder that crashes or hangs does not affect Ray's worker.
    return list(workers.run(work, jobs, 1, time_limit))

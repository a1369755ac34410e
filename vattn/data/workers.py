"""Run one function over many jobs in worker processes; a process that crashes or hangs does not affect the others."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Generic, TypeVar

from vattn.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a job has no result."""

    reason: str


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    work: Callable[[Job], Result], jobs: Sequence[Job], processes: int, time_limit: float = float("inf")
) -> Iterator[tuple[Job, Result | Failure]]:
    """Yield each job with the result of ``work(job)``, or with a `Failure`, in the order in which jobs end.

    A job fails if ``work`` raises, if its process dies, or if it takes too long. Processes are started anew, not
    forked: a video reader that was opened before a fork hangs in the child.

    Args:
        work: a function that can be pickled.
        jobs: its arguments, which can be pickled.
        processes: number of worker processes.
        time_limit: longest time for one job, seconds.

    Raises:
        RuntimeError: a worker process cannot start.
    """
    waiting = deque(jobs)
    workers: list[_Worker[Job, Result]] = []
    try:
        workers += [_Worker(work) for _ in range(min(processes, len(jobs)))]
        for worker in workers:
            worker.give(waiting.popleft())
        while workers:
            timeout = min(worker.deadline(time_limit) for worker in workers) - time.monotonic()
            wait([worker.pipe for worker in workers], None if timeout == float("inf") else max(timeout, 0))
            for worker in [worker for worker in workers if worker.has_ended(time_limit)]:
                job, outcome = worker.job, worker.outcome
                if worker.lost or not waiting:
                    worker.end()
                    workers.remove(worker)
                if worker.lost and waiting:
                    worker = _Worker(work)
                    workers.append(worker)
                if waiting:
                    worker.give(waiting.popleft())
                yield job, outcome  # the worker has its next job already
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[Job, Result]):
    """A process and its current job; ``lost`` if it cannot take another job."""

    job: Job
    outcome: Result | Failure

    def __init__(self, work: Callable[[Job], Result]) -> None:
        # multiprocessing's own processes would import the caller's script again, which must then be written for that.
        self.pipe, child_end = Pipe()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from vattn.data.workers import serve; serve({child_end.fileno()})"
        )
        # In a process group of its own Ctrl-C does not reach it: the parent handles Ctrl-C and ends it.
        self.process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[child_end.fileno()], process_group=0)
        child_end.close()
        self.pipe.send(work)
        self.ready = self.lost = False

    def give(self, job: Job) -> None:
        if not self.ready:
            try:
                self.ready = self.pipe.recv()
            except EOFError as end:
                raise RuntimeError("a worker process could not start; its standard error says why") from end
        self.job, self.since = job, time.monotonic()
        self.pipe.send(job)

    def deadline(self, time_limit: float) -> float:
        return self.since + time_limit

    def has_ended(self, time_limit: float) -> bool:
        """Return whether there is an outcome."""
        if self.pipe.poll():
            try:
                self.outcome = self.pipe.recv()
            except EOFError:
                self.outcome, self.lost = Failure(f"its process died, exit status {self.process.wait()}"), True
        elif time.monotonic() >= self.deadline(time_limit):
            self.outcome, self.lost = Failure(f"took longer than {time_limit:g} seconds"), True
        else:
            return False
        return True

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()


def serve(handle: int) -> None:
    """Run a worker: receive the function, then its jobs, from the pipe ``handle`` until the other end is closed."""
    pipe = Connection(handle)
    try:
        work: Callable[[Any], Any] = pipe.recv()
        pipe.send(True)
        while True:
            pipe.send(_outcome(work, pipe.recv()))
    except (EOFError, ConnectionError):  # the parent was killed
        return


def _outcome(work: Callable[[Any], Any], job: Any) -> Any:
    try:
        return work(job)
    except UserError as error:
        return Failure(str(error))
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}")

"""Run one function over many jobs, in processes that may crash or hang without taking the rest along."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no result."""

    reason: str


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    work: Callable[[Job], Result], jobs: Sequence[Job], processes: int, time_limit: float = float("inf")
) -> Iterator[tuple[Job, Result | Failure]]:
    """Yield each job with ``work(job)``, or with why it failed, in the order in which they end.

    A job fails when ``work`` raises, when its process dies, or after ``time_limit`` seconds. Processes are spawned, not
    forked: a video reader that was opened before a fork hangs the child. Raises RuntimeError where they cannot start.
    """
    waiting = deque(jobs)
    workers: list[_Worker[Job, Result]] = []
    try:
        workers += [_Worker(work) for _ in range(min(processes, len(jobs)))]
        for worker in workers:
            worker.give(waiting.popleft())
        while workers:
            patience = min(worker.deadline(time_limit) for worker in workers) - time.monotonic()
            wait([worker.pipe for worker in workers], None if patience == float("inf") else max(patience, 0))
            for worker in [worker for worker in workers if worker.has_ended(time_limit)]:
                yield worker.job, worker.outcome
                if worker.lost or not waiting:
                    worker.end()
                    workers.remove(worker)
                if worker.lost and waiting:
                    worker = _Worker(work)
                    workers.append(worker)
                if waiting:
                    worker.give(waiting.popleft())
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[Job, Result]):
    """A process and the job that it has; ``lost`` when it cannot take another one."""

    job: Job
    outcome: Result | Failure

    def __init__(self, work: Callable[[Job], Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = self.lost = False

    def give(self, job: Job) -> None:
        if not self.ready:
            try:
                self.ready = self.pipe.recv()
            except EOFError as end:
                # Most often a script without the guard: each child runs it again, and comes here itself.
                raise RuntimeError(
                    "a worker process could not start, see above; a script must do its work under "
                    "`if __name__ == '__main__':`, because every worker imports it"
                ) from end
        self.job, self.since = job, time.monotonic()
        self.pipe.send(job)

    def deadline(self, time_limit: float) -> float:
        return self.since + time_limit

    def has_ended(self, time_limit: float) -> bool:
        """Whether there is an outcome."""
        if self.pipe.poll():
            try:
                self.outcome = self.pipe.recv()
            except EOFError:
                self.process.join()
                self.outcome, self.lost = Failure(f"its process died, exit status {self.process.exitcode}"), True
        elif time.monotonic() >= self.deadline(time_limit):
            self.outcome, self.lost = Failure(f"took longer than {time_limit:g} seconds"), True
        else:
            return False
        return True

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    """Do the jobs that come through ``pipe`` until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends us.
    pipe.send(True)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            outcome = work(job)
        except ValueError as error:
            outcome = Failure(str(error))
        except Exception as error:
            outcome = Failure(f"{type(error).__name__}: {error}")
        pipe.send(outcome)

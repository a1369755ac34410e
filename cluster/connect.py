"""Connects to a Ray cluster, or starts a local one for this process."""

import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Event, Thread

from cluster import local
from cluster.address import ClusterAddress, resolve

# Ray reads these when it is imported.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray

#: milliseconds until a local cluster ends a worker process that has no work
IDLE_TIMEOUT = 60_000
#: seconds from the start until a cluster must have let this process in
JOIN_TIMEOUT = 25.0
#: seconds that an interrupted start may take to end by itself
GRACE = 8.0
#: seconds for which `Start.settle` keeps a CPU
HOLD = 0.5
#: seconds between two looks at a start that is waited for
_INTERVAL = 0.5


@contextmanager
def connected(address: str | None = None) -> Iterator[dict[str, float]]:
    """Connect to a cluster, and yield its resources, such as ``{"CPU": 2.0}``; disconnect at the end.

    Args:
        address: as for `cluster.address.resolve`. A local cluster ends with this context. So a forgotten cluster on a
            laptop is never joined by accident.

    Raises:
        UserError: no cluster answers at the address, or none can be started.
    """
    with connecting(address) as joined:
        yield joined()


@contextmanager
def connecting(address: str | ClusterAddress | None = None, modules: Sequence[str] = ()) -> Iterator["Start"]:
    """Start to connect, and yield the `Start`; to call it returns and raises what `connected` yields and raises.

    The start of a cluster takes seconds, most of them idle, in which the caller can do something else. SIGINT and
    SIGTERM end the wait: Ray would not listen to them.

    Args:
        address: as for `connected`.
        modules: imported by the worker processes of a local cluster when they start, not when they get work.
    """
    before = signal.getsignal(signal.SIGTERM)
    # `ray job stop` sends SIGTERM: it ends the process as Ctrl-C does, so that the work can be resumed.
    start = Start(address if isinstance(address, ClusterAddress) else resolve(address), modules)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield start
    finally:
        try:
            start.end()
        finally:
            signal.signal(signal.SIGTERM, before)


class Start:
    """A thread that joins or starts a cluster, and lives as long as the connection is used. Call it to wait for it.

    Ray's processes end when the thread that started them ends. The thread is a daemon, because one that hangs inside of
    Ray must not keep this process alive.
    """

    def __init__(self, address: ClusterAddress, modules: Sequence[str]) -> None:
        self._began, self._address = time.monotonic(), address
        self._result: Future[dict[str, float]] = Future()
        self._over, self._is_given_up = Event(), False
        Thread(target=self._work, args=(modules,), name="ray", daemon=True).start()

    def _work(self, modules: Sequence[str]) -> None:
        try:
            self._result.set_result(_join(self._address, modules))
        except BaseException as error:  # it is raised where the result is waited for
            self._result.set_exception(error)
        self._over.wait()
        if self._is_given_up:  # it came too late
            ray.shutdown()

    def check(self) -> None:
        """Raise UserError if it is known by now that there will be no cluster."""
        if self._result.done():
            self._result.result()
        elif self._address.text == "local":
            if ended := local.ended_server():
                self._is_given_up = True
                raise local.refusal(f"its {ended} ended while it started")
        elif time.monotonic() > self._began + JOIN_TIMEOUT:
            self._is_given_up = True
            raise self._address.error(f"a server answers there, but no cluster within {JOIN_TIMEOUT:g} seconds")

    def __call__(self) -> dict[str, float]:
        """Wait for the cluster, and return its resources."""
        while not wait([self._result], timeout=_INTERVAL).done:
            self.check()
        resources = self._result.result()
        signal.signal(signal.SIGTERM, _interrupt)  # ray.init has installed a handler of its own
        return resources

    def settle(self) -> None:
        """Wait until the worker processes of a new local cluster have imported what they need.

        That takes all CPUs for seconds, and would disturb whoever measures a time.
        """
        resources = self()
        if self._address.text == "local":
            # Each one keeps its CPU for so long that the others need a process of their own.
            hold = ray.remote(num_cpus=1)(_hold)
            ray.get([hold.remote(HOLD) for _ in range(int(resources.get("CPU", 0)))])

    def end(self) -> None:
        """Disconnect. A start that hangs is left alone after `GRACE`: nothing but the end of the process ends it."""
        try:
            if self._is_given_up or not wait([self._result], timeout=GRACE).done:
                self._is_given_up = True
            else:
                ray.shutdown()
        finally:
            self._over.set()


def _hold(seconds: float) -> None:
    time.sleep(seconds)


def _interrupt(*_: object) -> None:
    # Ray's handler prints a stack, lets this handler run, and sets an alarm that aborts the process after 3 seconds.
    signal.alarm(0)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a process that a script started in the background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _join(address: ClusterAddress, modules: Sequence[str]) -> dict[str, float]:
    address.probe()
    if address.text == "local":
        _start_local(modules)
    else:
        try:
            ray.init(address=address.text, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises many kinds, such as RuntimeError for another version of Ray
            raise address.error(f"no Ray cluster lets this process in ({_first_line(error)})") from None
    return {kind: float(amount) for kind, amount in ray.cluster_resources().items()}


def _start_local(modules: Sequence[str]) -> None:
    # By default Ray ends idle workers as soon as placement groups hold all CPUs, just before trials would use them.
    system = {"preload_python_modules": list(modules), "idle_worker_killing_time_threshold_ms": IDLE_TIMEOUT}
    try:
        with local.starting():
            ray.init(
                address="local", log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False,
                _system_config=system,
            )  # fmt: skip
    except Exception as error:
        ended = local.ended_server()
        raise local.refusal(f"its {ended} ended while it started" if ended else _first_line(error)) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

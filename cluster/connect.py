"""Connects to a Ray cluster, or starts a local one for this process."""

import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from vattn.errors import UserError

# Ray reads these when it is imported.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray

#: milliseconds until a local cluster ends a worker process that has no work
IDLE_TIMEOUT = 60_000
#: seconds to wait for an answer at the address of a cluster
PROBE_TIMEOUT = 10


@contextmanager
def connected(address: str | None = None) -> Iterator[dict[str, float]]:
    """Connect to a cluster, and yield its resources, such as ``{"CPU": 2.0}``; disconnect at the end.

    Args:
        address: as `ray.init` takes it. Without one: the cluster that this process is a job of, otherwise a new local
            one, which ends with this context. So a forgotten cluster on a laptop is never joined by accident.

    Raises:
        UserError: no cluster answers at the address.
    """
    with connecting(address) as joined:
        yield joined()


@contextmanager
def connecting(address: str | None = None, modules: Sequence[str] = ()) -> Iterator[Callable[[], dict[str, float]]]:
    """Start to connect, and yield a function that waits until it is done; it returns and raises what `connected` does.

    The start of a cluster takes seconds, most of them idle, in which the caller can do something else.

    Args:
        address: as for `connected`.
        modules: imported by the worker processes of a local cluster when they start, not when they get work.
    """
    before = signal.getsignal(signal.SIGTERM)
    # `ray job stop` sends SIGTERM: it ends the process as Ctrl-C does, so that the work can be resumed.
    signal.signal(signal.SIGTERM, _interrupt)
    # Ray's processes end when the thread that started them ends, so this thread lives until the end of the context.
    with ThreadPoolExecutor(1) as thread:
        joining = thread.submit(_join, address, modules)

        def joined() -> dict[str, float]:
            resources = joining.result()
            signal.signal(signal.SIGTERM, _interrupt)  # ray.init has installed a handler of its own
            return resources

        try:
            yield joined
        finally:
            wait([joining])
            signal.signal(signal.SIGTERM, before)
            ray.shutdown()


def _interrupt(*_: object) -> None:
    # Ray's handler prints a stack, lets this handler run, and sets an alarm that aborts the process after 3 seconds.
    signal.alarm(0)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a process that a script started in the background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _join(address: str | None, modules: Sequence[str]) -> dict[str, float]:
    if address is None:
        address = "auto" if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or os.environ.get("RAY_ADDRESS") else "local"
    # By default Ray ends idle workers as soon as placement groups hold all CPUs, just before trials would use them.
    system = {"preload_python_modules": list(modules), "idle_worker_killing_time_threshold_ms": IDLE_TIMEOUT}
    local = {"include_dashboard": False, "_system_config": system}
    try:
        if host_port := re.fullmatch(r"([^/:]+):(\d+)", address):
            # ray.init would try for minutes.
            socket.create_connection((host_port[1], int(host_port[2])), timeout=PROBE_TIMEOUT).close()
        ray.init(
            address=address, log_to_driver=False, logging_level=logging.ERROR, **(local if address == "local" else {})
        )
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers there ({error})",
            path=f"--address {address}",
            way_out="start one with: ray start --head, or, for one that asks for a token, set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH",
        ) from None
    return {kind: float(amount) for kind, amount in ray.cluster_resources().items()}

"""Joins a Ray cluster, or starts one for this process."""

import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

# Ray reads these when it is imported.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray

#: milliseconds that a process which waits for work is kept, of a cluster of our own
PATIENCE = 60_000


@contextmanager
def connected(address: str | None = None) -> Iterator[dict[str, float]]:
    """Yield the cluster's resources, such as ``{"CPU": 2.0}``; leave it (or end one of our own) afterwards.

    ``address`` as `ray.init` takes it. Without one: the cluster that this process is a job of, else one of our own, so
    that a forgotten cluster on a laptop is never joined by accident. Raises ValueError where nothing answers.
    """
    with connecting(address) as joined:
        yield joined()


@contextmanager
def connecting(address: str | None = None, modules: Sequence[str] = ()) -> Iterator[Callable[[], dict[str, float]]]:
    """Begin to connect, and yield a function that waits for it: it returns, or raises, what `connected` does.

    To start a cluster takes seconds, most of them spent waiting, in which the caller can do something else. The
    processes of one of our own import ``modules`` when they start, not when they are given work.
    """
    before = signal.getsignal(signal.SIGTERM)
    # `ray job stop` sends SIGTERM: end as for Ctrl-C, resumable.
    signal.signal(signal.SIGTERM, _interrupt)
    # Ray's processes end with the thread that started them: this one waits until they have ended.
    with ThreadPoolExecutor(1) as thread:
        joining = thread.submit(_join, address, modules)

        def joined() -> dict[str, float]:
            resources = joining.result()
            signal.signal(signal.SIGTERM, _interrupt)  # Ray has put a handler of its own over it
            return resources

        try:
            yield joined
        finally:
            wait([joining])
            signal.signal(signal.SIGTERM, before)
            ray.shutdown()


def _interrupt(*_: object) -> None:
    signal.alarm(0)  # Ray's handler prints a stack, lets this one go on, and aborts the process 3 seconds later
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in what a script started in the background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _join(address: str | None, modules: Sequence[str]) -> dict[str, float]:
    if address is None:
        address = "auto" if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or os.environ.get("RAY_ADDRESS") else "local"
    # Ray ends idle processes once placement groups hold all CPUs, which is just before trials would take them.
    system = {"preload_python_modules": list(modules), "idle_worker_killing_time_threshold_ms": PATIENCE}
    own = {"include_dashboard": False, "_system_config": system}
    try:
        if place := re.fullmatch(r"([^/:]+):(\d+)", address):
            # Ray itself tries for minutes.
            socket.create_connection((place[1], int(place[2])), timeout=10).close()
        ray.init(
            address=address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == "local" else {})
        )
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--address {address}: no Ray cluster answers there ({error}); start one with: ray start --head, or, for "
            "one that asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
        ) from None
    return {kind: float(amount) for kind, amount in ray.cluster_resources().items()}

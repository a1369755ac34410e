"""Connects to a Ray cluster, or starts a local one for this process."""

import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from cluster.address import ClusterAddress, resolve
from vattn.errors import UserError

# Ray reads these when it is imported.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray
from ray._private import ray_constants

#: milliseconds until a local cluster ends a worker process that has no work
IDLE_TIMEOUT = 60_000
#: seconds from the start until a cluster must have let this process in
JOIN_TIMEOUT = 20.0
#: seconds that an interrupted start may take to end by itself
GRACE = 8.0
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
def connecting(
    address: str | ClusterAddress | None = None, modules: Sequence[str] = ()
) -> Iterator[Callable[[], dict[str, float]]]:
    """Start to connect, and yield a function that waits until it is done; it returns and raises what `connected` does.

    The start of a cluster takes seconds, most of them idle, in which the caller can do something else. SIGINT and
    SIGTERM end the wait: Ray would not listen to them.

    Args:
        address: as for `connected`.
        modules: imported by the worker processes of a local cluster when they start, not when they get work.
    """
    before = signal.getsignal(signal.SIGTERM)
    # `ray job stop` sends SIGTERM: it ends the process as Ctrl-C does, so that the work can be resumed.
    start = _Start(address if isinstance(address, ClusterAddress) else resolve(address), modules)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield start.joined
    finally:
        try:
            start.end()
        finally:
            signal.signal(signal.SIGTERM, before)


class _Start:
    """A thread that joins or starts a cluster, and lives as long as the connection is used.

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

    def joined(self) -> dict[str, float]:
        """Wait for the cluster, and return its resources."""
        while not wait([self._result], timeout=_INTERVAL).done:
            if self._address.text == "local":
                if ended := _ended_server():
                    self._is_given_up = True
                    raise _no_start(f"its {ended} ended while it started")
            elif time.monotonic() > self._began + JOIN_TIMEOUT:
                self._is_given_up = True
                raise self._address.error(f"a server answers there, but no cluster within {JOIN_TIMEOUT:g} seconds")
        resources = self._result.result()
        signal.signal(signal.SIGTERM, _interrupt)  # ray.init has installed a handler of its own
        return resources

    def end(self) -> None:
        """Disconnect. A start that hangs is left alone after `GRACE`: nothing but the end of the process ends it."""
        try:
            if not self._is_given_up and wait([self._result], timeout=GRACE).done:
                ray.shutdown()
        finally:
            self._over.set()


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
        _protect_token()
        with _on_loopback():
            ray.init(
                address="local", log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False,
                _system_config=system,
            )  # fmt: skip
    except Exception as error:
        raise _no_start(_first_line(error)) from None


def _no_start(reason: str) -> UserError:
    if "AF_UNIX" in reason:
        reason, way_out = "the names of its sockets would be too long", "set RAY_TMPDIR to a folder with a short name"
    elif "home directory" in reason:
        reason, way_out = "there is no home folder for its token", "set HOME to a folder that can be written"
    else:
        folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"
        way_out = f"its reasons are in {folder}/session_latest/logs; set RAY_TMPDIR to use another folder than {folder}"
    return UserError(f"cannot be started on this machine: {reason}", path="Ray", way_out=way_out)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let the servers of a cluster that is started meanwhile listen on loopback alone.

    Ray does this by itself on macOS and Windows, and nowhere else offers it: it replaces 127.0.0.1 as the address of a
    node. Its processes inherit the environment variable, and this process has read it already.
    """
    name, enabled = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    before = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _protect_token() -> None:
    """Let only its owner read the token of local clusters, a file that Ray would create for all to read."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _ended_server() -> str:
    """Return the name of a server of Ray that this process has started and that has ended; empty if there is none."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, fields = stat.read_text(errors="replace").partition("(")[2].rpartition(")")
            state, parent = fields.split()[:2]
            if state == "Z" and int(parent) == os.getpid() and name in ("gcs_server", "raylet"):
                return name
    return ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

"""What a local cluster needs on this machine, and whom it lets in: the owner of its token, over loopback alone."""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vattn.errors import UserError

#: bytes of the longest name that the operating system gives a socket
MAX_SOCKET_NAME = 107
#: a name as Ray gives its longest socket, below its folder for temporary files
_SOCKET = "session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
#: environment variable with which Ray keeps to loopback where its value is 0
_ENABLE_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def refusal(reason: str, way_out: str = "") -> UserError:
    """Return the error for a local cluster that cannot be started."""
    logs = _temporary_folder() / "session_latest" / "logs"
    return UserError(f"cannot be started on this machine: {reason}", path="Ray", way_out=way_out or f"see {logs}")


def check() -> None:
    """Raise UserError if Ray cannot keep its files on this machine, before anything is prepared for it."""
    folder = _temporary_folder()
    existing = folder if folder.exists() else folder.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        rule = f"its folder for temporary files, {folder}, cannot be written"
        raise refusal(rule, "set RAY_TMPDIR to a folder that can be")
    if (excess := len(os.fsencode(folder / _SOCKET)) - MAX_SOCKET_NAME) > 0:
        rule = f"the names of its sockets in {folder} would be {excess} bytes too long"
        raise refusal(rule, "set RAY_TMPDIR to a folder with a shorter name")
    try:
        _protect_token()
    except RuntimeError:  # of Path.home
        raise refusal("there is no home folder for its token", "set HOME to a folder that can be written") from None
    except OSError as error:
        rule = f"its token cannot be kept ({error})"
        raise refusal(rule, "set HOME, or RAY_AUTH_TOKEN_PATH, to a place that can be written") from None


def _temporary_folder() -> Path:
    return Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"


def _protect_token() -> None:
    """Let only its owner read the token of local clusters, a file that Ray would create for all to read."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        path = Path(named)
    else:
        path = Path.home() / ".ray" / "auth_token"
        os.environ.setdefault("HOME", str(Path.home()))  # part of Ray looks here alone
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    _hide(path)


def hide_token() -> None:
    """Let only its owner read the token with which this process joins a cluster, if it is in a file of this user."""
    with suppress(OSError, RuntimeError):
        _hide(Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"))


def _hide(path: Path) -> None:
    if path.stat().st_mode & 0o077 and path.is_file() and path.stat().st_uid == os.getuid():
        path.chmod(0o600)


@contextmanager
def starting() -> Iterator[None]:
    """Change how Ray starts a local cluster meanwhile: its servers listen on loopback alone, and signals are handled.

    Ray keeps to loopback by itself on macOS and Windows, and nowhere else offers it: it replaces 127.0.0.1 as the
    address of a node. Its processes inherit the environment variable; this process has read it already. And it waits
    for its first server inside of C++, where for half a minute no thread of Python runs, even if that server has ended.
    """
    from ray._private import node as ray_node
    from ray._private import ray_constants

    node: Any = ray_node  # it does not export the function that is replaced

    before = os.environ.get(_ENABLE_CLUSTERS), ray_constants.ENABLE_RAY_CLUSTER, node.wait_for_persisted_port
    os.environ[_ENABLE_CLUSTERS], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    node.wait_for_persisted_port = _in_short_waits(node.wait_for_persisted_port)
    try:
        yield
    finally:
        value, ray_constants.ENABLE_RAY_CLUSTER, node.wait_for_persisted_port = before
        if value is None:
            del os.environ[_ENABLE_CLUSTERS]
        else:
            os.environ[_ENABLE_CLUSTERS] = value


def _in_short_waits(wait_for_port: Callable[..., int]) -> Callable[..., int]:
    """Return Ray's function that waits for a server's port, as one that lets other threads run."""

    def waiting(*places: str, timeout_ms: int = 30_000) -> int:
        end = time.monotonic() + timeout_ms / 1000
        while True:
            try:
                return wait_for_port(*places, timeout_ms=1)
            except RuntimeError:
                if time.monotonic() > end or ended_server():
                    raise
            time.sleep(0.05)

    return waiting


def ended_server() -> str:
    """Return the name of a server of Ray that this process has started and that has ended; empty if there is none."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, fields = stat.read_text(errors="replace").partition("(")[2].rpartition(")")
            state, parent = fields.split()[:2]
            if state == "Z" and int(parent) == os.getpid() and name in ("gcs_server", "raylet"):
                return name
    return ""

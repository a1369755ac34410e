"""MLflow's server, for the user alone who started it.

MLflow's page has no password, and whoever reaches it can do more than read: its assistant runs shell commands, and an
experiment can have its artifacts anywhere. On a machine of several users each of them reaches loopback. Linux knows
which user a connection of loopback comes from, so other users are refused. No token is needed in the link, and a tunnel
of SSH works as it did: it connects as the user who opened it.
"""

import os
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"
_REFUSAL = b"vattn ui: this page is for the user who started it\n"

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def is_own(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Whether a connection over loopback comes from a process of this process's user.

    Args:
        client: IPv4 address and port that it comes from.
        server: IPv4 address and port that it goes to.

    Returns:
        True where the system has no table of connections (`/proc/net/tcp`), too.
    """
    if not _TABLES[0].exists():
        return True
    here, there = _written(client), _written(server)
    for table in _TABLES:
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            _, local, remote, state, _, _, _, user, *_ = line.split()
            # A socket that its process has closed belongs to user 0, whoever that process was: only open ones count.
            if local in here and remote in there and state == _ESTABLISHED and int(user) == os.geteuid():
                return True
    return False


def _written(end: tuple[str, int]) -> tuple[str, str]:
    """Return how the system's tables write an IPv4 address and port: as such, and of a socket for IPv6."""
    address, port = end
    number = f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{port:04X}"
    mapped = f"{int.from_bytes(bytes((0, 0, 255, 255)), sys.byteorder):08X}"
    return number, f"{'0' * 16}{mapped}{number}"


def for_own_user(application: _Application) -> _Application:
    """Return an ASGI application that answers requests of this process's user, and others with status 403."""

    async def guarded(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan" or is_own(scope["client"], scope["server"]):
            await application(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": _REFUSAL})

    return guarded


def mlflow() -> _Application:
    """Return MLflow's application for this process's user; `mlflow server --app-name vattn` calls it."""
    from mlflow.server.fastapi_app import app  # it takes seconds

    return for_own_user(app)

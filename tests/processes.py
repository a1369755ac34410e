"""What tests of other processes need: those below a process, a wait for what they do, and a port for them."""

import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil


def wait_for(
    condition: Callable[[], Any], seconds: float = 120, what: str = "the condition did not become true"
) -> None:
    """Wait until a condition holds. Raises TimeoutError, which says ``what``, if it does not within ``seconds``."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"{what} within {seconds:g} s")
        time.sleep(0.05)


def descendants(title: str, root: int | None = None) -> list[int]:
    """Return the processes below ``root``, or this one, whose command line, in which Ray names its jobs, matches."""
    found = []
    for process in psutil.Process(root).children(recursive=True):
        with suppress(psutil.Error):  # it ended meanwhile
            if re.match(title, " ".join(process.cmdline())):
                found.append(process.pid)
    return sorted(found)


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]

"""What tests of other processes need: a wait for what they do, and a port for them."""

import socket
import time
from collections.abc import Callable
from typing import Any


def wait_for(
    condition: Callable[[], Any], seconds: float = 120, what: str = "the condition did not become true"
) -> None:
    """Wait until a condition holds. Raises TimeoutError, which says ``what``, if it does not within ``seconds``."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"{what} within {seconds:g} s")
        time.sleep(0.05)


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]

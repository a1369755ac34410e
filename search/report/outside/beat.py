"""The sign of life of a running search: a file in its output folder, replaced every few seconds.

Another process on any machine that sees the folder knows by it whether a process runs the search, which one, and what
the search waits for. The file is removed at the end. It is no state: a search never reads it.
"""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from search.ledger.file import NAME as LEDGER
from search.ledger.process import exists
from vattn.files import part_of, write_whole

#: name of the file in the output folder of a search
NAME = "status.json"
#: seconds between two signs of life
INTERVAL = 5.0
#: seconds after which a process that gave none is taken for dead; clocks of machines may differ
STALE = 60.0


class Beat(NamedTuple):
    """A sign of life."""

    time: float
    """when it was given, in Unix seconds"""
    host: str
    """name of the machine of the search's driver"""
    pid: int
    """its process"""
    phase: str
    """what it does: "prepares data" or "searches" """
    why: str
    """what it waits for, in one word, see `search.report.outside.waiting.Waiting`; "" if it makes progress"""
    waits_for: str
    """what it waits for, in words"""
    since: float
    """time of the last event, in Unix seconds"""
    metrics: str
    """URL of its metrics for Prometheus; "" if there is none"""

    @property
    def has_process(self) -> bool:
        """Whether a process of this machine has its number."""
        return self.host == socket.gethostname() and exists(self.pid)

    def alive(self, now: float) -> bool:
        """Return whether its process still runs at ``now``, as far as this machine can see."""
        if self.host == socket.gethostname() and not self.has_process:
            return False
        return now - self.time < STALE


def write(output: Path, beat: Beat) -> None:
    """Write a sign of life into the folder of a search, if its ledger is there: the folder may have disappeared."""
    with suppress(OSError):
        if (output / LEDGER).exists():
            text = json.dumps(beat._asdict()) + "\n"
            try:
                write_whole(output / NAME, text)
            except OSError:  # a full disk still has the room of the last one
                with (output / NAME).open("r+", encoding="utf-8") as file:
                    file.write(text)
                    file.truncate()


def remove(output: Path) -> None:
    """Remove the sign of life of a search."""
    with suppress(OSError):
        (output / NAME).unlink(missing_ok=True)
        part_of(output / NAME).unlink(missing_ok=True)


def read(output: Path) -> Beat | None:
    """Return the last sign of life of a search; None if there is none, or a damaged one."""
    with suppress(OSError, ValueError, TypeError):
        tree: dict[str, Any] = json.loads((output / NAME).read_text(encoding="utf-8"))
        kinds = Beat.__annotations__
        values = {name: tree[name] for name in kinds if name in tree}
        if all(
            isinstance(value, (int, float) if kinds[name] is float else kinds[name]) for name, value in values.items()
        ):
            return Beat(**values)
    return None


def new_beat(phase: str, why: str = "", waits_for: str = "", since: float = 0.0, metrics: str = "") -> Beat:
    """Return a sign of life of this process."""
    return Beat(round(time.time(), 3), socket.gethostname(), os.getpid(), phase, why, waits_for, since, metrics)

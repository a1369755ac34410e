"""The ledger's file: one event per line as JSON, appended and flushed, held by one process at a time."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from typing import Any

from search.ledger.events import Event, parse_event
from search.ledger.history import History
from vattn.errors import UserError
from vattn.files import writing

#: the name of the file in the output folder of a search
NAME = "ledger.jsonl"


def read(path: Path) -> Iterator[Event]:
    """Yield the events of a ledger; a last line that a killed process left incomplete is skipped.

    Raises UserError for a damaged line in the middle, naming file and line.
    """
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            tree = json.loads(line)
            assert "time" in tree
            event = parse_event(tree)
        except (ValueError, TypeError, AssertionError):
            raise UserError(
                "is not an event as JSON", file=path, path=f"line {number}", way_out="restore the file from a copy"
            ) from None
        yield event


def history(path: Path) -> History:
    """Return the history in the ledger at ``path``."""
    return History.of(read(path))


class Ledger:
    """Appends events to a ledger and keeps its history; a lock on the file admits one process at a time.

    Raises UserError if another process is running this search.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        # Without a buffer: what could not be written would be tried again when the file is closed.
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(
                "another process is running this search", file=path, way_out="wait for its end or stop it"
            ) from None
        self.history = history(path)
        complete = path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(complete)

    def append(self, event: Event | str, **fields: Any) -> Event:
        """Write one event through to the disk, apply it to the history, and return it with its time.

        Raises StorageError, naming the file, where the disk is full; the incomplete line is removed again.
        """
        if isinstance(event, str):  # TRANSITIONAL
            event = parse_event({"event": event, **fields})
        event = event.model_copy(update={"time": round(time.time(), 3)})
        content, before = (
            json.dumps(event.line(), separators=(",", ":")).encode() + b"\n",
            self._file.seek(0, os.SEEK_END),
        )
        with writing(self.path, "make room and go on with --resume"):
            try:
                if self._file.write(content) < len(content):
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(before)
                raise
        self.history.apply(event)
        return event

    def replay(self) -> Iterator[Event]:
        """Yield the events that were written so far."""
        return read(self.path)

    def close(self) -> None:
        """Release the lock."""
        self._file.close()

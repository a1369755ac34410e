"""The file of a ledger: one event per line as JSON, appended and flushed, written by one process at a time."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path

from pydantic import ValidationError

from search.ledger.events import Event, parse_event
from search.ledger.history import History
from vattn.errors import UserError
from vattn.files import writing

#: name of the file in the output folder of a search
NAME = "ledger.jsonl"


def read(path: Path) -> Iterator[Event]:
    """Yield the events of the ledger at ``path``.

    A last line that is incomplete, because its process was killed, is skipped. Raises UserError for any other
    unreadable line, naming the file and the line.
    """
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            event = _parse(line)
        except ValidationError:
            raise UserError(
                "is not an event that this version knows", file=path, path=f"line {number}",
                way_out="read the file with the version that wrote it, or restore it from a copy",
            ) from None  # fmt: skip
        except (ValueError, TypeError):
            raise UserError(
                "is not an event as JSON", file=path, path=f"line {number}", way_out="restore the file from a copy"
            ) from None
        yield event


def _parse(line: bytes) -> Event:
    tree = json.loads(line)
    # A field with a default, for events that are not written yet, but no line is without it.
    if "time" not in tree:
        raise ValueError("has no time")
    return parse_event(tree)


def history(path: Path) -> History:
    """Return the history in the ledger at ``path``."""
    return History.of(read(path))


class Ledger:
    """Append events to the ledger at ``path``, and keep its history up to date.

    A lock on the file admits one process at a time. Each event is flushed to the disk before it is applied, so the
    history never holds more than the file. An incomplete last line of a killed process is cut off.

    Raises UserError if another process is running this search.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        # Unbuffered: a buffer would try to write a failed line again when the file is closed.
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

    def append(self, event: Event) -> Event:
        """Write an event to the disk, apply it to the history, and return it with its time.

        Raises StorageError, naming the file, if the disk is full; the incomplete line is removed again.
        """
        event = event.model_copy(update={"time": round(time.time(), 3)})
        line = json.dumps(event.line(), separators=(",", ":")).encode() + b"\n"
        before = self._file.seek(0, os.SEEK_END)
        with writing(self.path, "make room and go on with --resume"):
            try:
                if self._file.write(line) < len(line):
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(before)
                raise
        self.history.apply(event)
        return event

    def replay(self) -> Iterator[Event]:
        """Yield the events written so far."""
        return read(self.path)

    def close(self) -> None:
        """Release the lock."""
        self._file.close()

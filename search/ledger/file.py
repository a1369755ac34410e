"""The file of a ledger: one event per line as JSON, appended and flushed, written by one process at a time."""

import fcntl
import json
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENOSPC
from io import FileIO
from pathlib import Path

from pydantic import ValidationError

from search.ledger.events import Event, parse_event
from search.ledger.history import History
from search.ledger.order import Order
from vattn.errors import UserError
from vattn.files import writing

#: name of the file in the output folder of a search
NAME = "ledger.jsonl"


#: the rule that a line breaks which a later version can have written
_UNKNOWN = "is not an event that this version knows"


@dataclass(frozen=True)
class Damage:
    """The first line of a ledger that is no event, or that contradicts those before it."""

    line: int
    """its number, from 1"""
    start: int
    """number of bytes before it"""
    rule: str
    """what is wrong with it"""
    is_torn: bool
    """whether it is the last line and has no end, as after a process was killed: readers leave it out"""


def read(path: Path) -> Iterator[Event]:
    """Yield the events of the ledger at ``path``.

    A last line that is incomplete, because its process was killed, is skipped. Raises UserError for any other line that
    is no event, or that contradicts those before it, naming the file and the line.
    """
    for event in _events(path):
        if not isinstance(event, Damage):
            yield event
        elif not event.is_torn:
            way_out = f"restore it from a copy, or see: vattn repair {shlex.quote(str(path.parent))}"
            if event.rule == _UNKNOWN:
                way_out = f"read the file with the version that wrote it; {way_out}"
            raise UserError(event.rule, file=path, path=f"line {event.line}", way_out=way_out)


def damage(path: Path) -> Damage | None:
    """Return the first damage of the ledger at ``path``; None if there is none."""
    return next((event for event in _events(path) if isinstance(event, Damage)), None)


def _events(path: Path) -> Iterator[Event | Damage]:
    """Yield the events of a ledger up to the first damage, and that damage."""
    order, start = Order(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                yield Damage(number, start, "is incomplete", is_torn=True)
                return
            try:
                event = _parse(line)
                rule = _broken_rule(order, event)
            except ValidationError:
                rule = _UNKNOWN
            except (ValueError, TypeError, RecursionError):
                rule = "is not an event as JSON"
            else:
                if not rule:
                    yield event
            if rule:
                yield Damage(number, start, rule, is_torn=False)
                return
            start += len(line)


def _parse(line: bytes) -> Event:
    tree = json.loads(line)
    # A field with a default, for events that are not written yet, but no line is without it.
    if "time" not in tree:
        raise ValueError("has no time")
    return parse_event(tree)


def _broken_rule(order: Order, event: Event) -> str:
    try:
        order.check(event)
    except ValueError as error:
        return str(error)
    return ""


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
        self._file = _locked(path)
        try:
            self.history = history(path)
        except UserError:
            self._file.close()
            raise
        complete = path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(complete)

    @staticmethod
    def cut(path: Path, size: int) -> None:
        """Keep the first ``size`` bytes of the ledger at ``path``. Raises UserError if a process is running it."""
        with _locked(path) as file:
            file.truncate(size)
            os.fsync(file.fileno())

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


def _locked(path: Path) -> FileIO:
    """Open a ledger for appending, and lock it. Raises UserError if another process has locked it."""
    # Unbuffered: a buffer would try to write a failed line again when the file is closed.
    file = path.open("a+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UserError(
            "another process is running this search", file=path, way_out="wait for its end or stop it"
        ) from None
    return file

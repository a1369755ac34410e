"""The file of a ledger: one event per line as JSON, appended and flushed, written by one process at a time."""

import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOSPC
from io import FileIO
from pathlib import Path

from pydantic import ValidationError

from search.ledger.events import Event, parse_event
from search.ledger.history import History
from search.ledger.order import Order
from vattn.errors import StorageError, UserError
from vattn.files import lock, writing

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


class ReplacedError(StorageError):
    """The ledger that a process writes is no longer at its path, and another file is, or it was removed."""


class Ledger:
    """Append events to the ledger at ``path``, and keep its history up to date.

    A lock on the file admits one process at a time. Each event is flushed to the disk before it is applied, so the
    history never holds more than the file. An incomplete last line of a killed process is cut off.

    Raises:
        UserError: another process is running this search.
        StorageError: the file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = _locked(path, os.O_CREAT)
        try:
            self.history = history(path)
        except UserError:
            self._file.close()
            raise
        content = path.read_bytes()
        #: bytes of the complete lines, and their hash
        self._size = content.rfind(b"\n") + 1
        self._hash = hashlib.sha256(content[: self._size])
        #: whether an incomplete line may follow them
        self._is_torn = len(content) > self._size

    @staticmethod
    def cut(path: Path, size: int) -> None:
        """Keep the first ``size`` bytes of the ledger at ``path``. Raises UserError if a process is running it."""
        with _locked(path) as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def append(self, event: Event) -> Event:
        """Write an event to the disk, apply it to the history, and return it with its time.

        Where it cannot be written, nothing is applied, and the call can be repeated: what was written of the line is
        cut off again, at the latest before the next line.

        Raises:
            StorageError: the disk is full, read-only or gone.
            ReplacedError: another file is at the path, or the ledger was removed; no repeated call will do.
        """
        event = event.model_copy(update={"time": round(time.time(), 3)})
        line = json.dumps(event.line(), separators=(",", ":")).encode() + b"\n"
        self.check()
        with writing(self.path, "make room"):
            if self._is_torn:
                self._file.truncate(self._size)
            self._is_torn = True
            try:
                if self._file.write(line) < len(line):
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                with suppress(OSError):
                    self._file.truncate(self._size)
                    self._is_torn = False
                raise
            self._is_torn = False
        self._size += len(line)
        self._hash.update(line)
        self.history.apply(event)
        return event

    def check(self) -> None:
        """Make sure that the file is at its path; open it again where its disk was gone and is back.

        Raises as `append` does.
        """
        try:
            there = self.path.stat()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self._was_removed():
                raise ReplacedError(
                    f"{self.path}: was removed while the search ran; what was done is lost with it"
                ) from None
            reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            raise StorageError(f"{self.path}: {reason}; is its disk mounted?") from error
        if not self._file.closed:
            with suppress(OSError):  # the file was opened on a disk that is gone
                if os.path.samestat(there, os.fstat(self._file.fileno())):
                    return
        self._reopen()

    def _was_removed(self) -> bool:
        try:
            return not self._file.closed and not os.fstat(self._file.fileno()).st_nlink
        except OSError:
            return False

    def _reopen(self) -> None:
        """Go on with the file that is at the path now, if it has the same content."""
        self.close()  # first: its lock may be one on the same file
        try:
            file = _locked(self.path)
            content = file.readall()
        except UserError as error:
            raise ReplacedError(str(error)) from None
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be opened: {error.strerror}; is its disk mounted?") from error
        is_same = hashlib.sha256(content[: self._size]).digest() == self._hash.digest()
        if not is_same or (len(content) > self._size and not self._is_torn):
            file.close()
            raise ReplacedError(
                f"{self.path}: is another ledger than the one that this search writes; put that one back, and go on "
                "with --resume"
            )
        self._file = file

    def replay(self) -> Iterator[Event]:
        """Yield the events written so far."""
        return read(self.path)

    def close(self) -> None:
        """Release the lock."""
        with suppress(OSError):  # its disk may be gone
            self._file.close()


def _locked(path: Path, create: int = 0) -> FileIO:
    """Open a ledger for appending, and lock it. Raises UserError if another process has locked it."""
    # Unbuffered: a buffer would try to write a failed line again when the file is closed.
    file = FileIO(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | create, 0o666), "r+")
    try:
        lock(file, path, wait=False)
    except BlockingIOError:
        file.close()
        raise UserError(
            "another process is running this search", file=path, way_out="wait for its end or stop it"
        ) from None
    except StorageError:
        file.close()
        raise
    return file

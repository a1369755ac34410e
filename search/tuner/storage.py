"""What a search does where its files cannot be read or written: it waits, says so, and goes on."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import TypeVar

from search.ledger.events import Event, Paused
from search.ledger.file import NAME, Ledger, ReplacedError
from vattn.data.cache import is_cache
from vattn.errors import StorageError
from vattn.training.state_file import WAY_OUT

#: seconds between two tries, and until a training is started again whose files could not be read or written; doubled
#: with each such training, up to the second value
RETRY, MAX_RETRY = 2.0, 60.0
#: seconds without an answer of a disk after which the search says that it waits for it
SLOW = 30.0
#: seconds by which the clock must run ahead of the time that the machine was awake, to be taken for a pause
JUMP = 5.0

_T = TypeVar("_T")


def check_places(output: Path | None, cache: Path) -> None:
    """Raise StorageError if the folder of a search (None: it is in a store) or its clip cache is not there.

    Their disk may be gone.
    """
    ledger = [] if output is None else [(output / NAME, (output / NAME).is_file())]
    for path, is_there in [*ledger, (cache, is_cache(cache))]:
        if not is_there:
            raise StorageError(f"{path}: is not there; is its disk mounted on this machine?")


class Storage:
    """The files of a search, as its driver reads and writes them.

    Args:
        ledger: its ledger.
        cache: its clip cache.
    """

    def __init__(self, ledger: Ledger, cache: Path) -> None:
        self._ledger, self._cache = ledger, cache
        #: called with what the search waits for: a word, and a text
        self.say: Callable[[str, str], None] = lambda why, text: None
        #: called when a disk is full
        self.make_room: Callable[[], None] = lambda: None
        #: whether an interrupt has ended a wait
        self.interrupted = False
        self._busy: tuple[float, Path] | None = None
        self._retry, self._not_before, self._has_problem = RETRY, 0.0, False
        self._clocks = time.time(), time.monotonic()

    @property
    def slow(self) -> str:
        """What the search waits for, where a disk has not answered for `SLOW` seconds; "" otherwise."""
        if (busy := self._busy) and time.monotonic() - busy[0] > SLOW:
            return f"{busy[1]}: its disk does not answer"
        return ""

    def append(self, event: Event) -> list[Event]:
        """Append an event to the ledger as soon as that is possible; return it, and a `Paused` where time was lost.

        Time is lost while the search waits for its files, while the machine sleeps, and where its clock is set forward.
        """
        waited: list[float] = []
        recorded = self._repeated(lambda: self._ledger.append(event), waited)
        lost = {"its files could not be read or written": sum(waited), "the machine slept or its clock was set": 0.0}
        wall, awake = time.time(), time.monotonic()
        if (jump := (wall - self._clocks[0]) - (awake - self._clocks[1])) > JUMP:
            lost["the machine slept or its clock was set"] = jump
        self._clocks = wall, awake
        pauses = [Paused(seconds=round(seconds, 3), reason=why) for why, seconds in lost.items() if seconds]
        return [recorded, *(self._repeated(lambda pause=pause: self._ledger.append(pause)) for pause in pauses)]

    def patiently(self, action: Callable[[], _T]) -> _T:
        """Return what ``action`` returns; where it raises OSError, wait, and call it again.

        It is not called while the ledger is not at its place.

        Raises:
            ReplacedError: the folder of the search is another one.
            KeyboardInterrupt: SIGINT or SIGTERM ended the wait.
            OSError: of ``action``, after an earlier wait was interrupted.
        """

        def checked() -> _T:
            self._ledger.check()
            return action()

        return self._repeated(checked)

    def _repeated(self, action: Callable[[], _T], waited: list[float] | None = None) -> _T:
        """Do as `patiently`, for an action that checks the ledger; add the seconds of the wait to ``waited``."""
        began = time.monotonic()
        problem = ""
        while True:
            self._busy = time.monotonic(), self._ledger.path.parent
            try:
                result = action()
            except OSError as error:
                if isinstance(error, ReplacedError) or self.interrupted:
                    raise
                problem = without_resume(error)
                self._react(problem)
            else:
                if problem and waited is not None:
                    waited.append(time.monotonic() - began)
                return result
            finally:
                self._busy = None
            self._sleep(RETRY)

    def postpone(self, message: str) -> None:
        """Let no training start for a while, after a process could not read or write its files."""
        self._react(without_resume(message))
        self._not_before = time.monotonic() + self._retry
        self._retry, self._has_problem = min(2 * self._retry, MAX_RETRY), True

    def _react(self, problem: str) -> None:
        self.say("files", problem)
        if any(os.strerror(number) in problem for number in (ENOSPC, EDQUOT)):
            self.make_room()

    def works(self) -> None:
        """Take note that a training has read and written all of its files."""
        self._retry, self._has_problem = RETRY, False

    def is_ready(self, wait: bool) -> bool:
        """Return whether trainings may start; with ``wait``, wait until they may.

        They may not while the clip cache is not there, nor soon after `postpone`.
        """
        while self._has_problem:
            if (left := self._not_before - time.monotonic()) > 0:
                if not wait:
                    return False
                self._sleep(left)
            try:
                check_places(self._ledger.path.parent, self._cache)
                break
            except StorageError as error:
                self.postpone(str(error))
        return True

    def _sleep(self, seconds: float) -> None:
        with _interruptible():
            try:
                time.sleep(seconds)
            except KeyboardInterrupt:
                self.interrupted = True
                raise


def without_resume(error: object) -> str:
    """Return a message without the advice to go on with ``--resume``: the search goes on by itself."""
    return str(error).replace(f"; {WAY_OUT}", "; make room")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt: Ray Tune's handler only sets a mark, which nothing reads meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

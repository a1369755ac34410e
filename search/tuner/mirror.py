"""A search whose output is an object store: it works in a folder of each machine, and copies its files to the store.

What is in the store:

* ``ledger/START.jsonl``: the ledger in parts that never change; the name of each is the number of bytes before it.
* ``lease.json``: which process writes. It is renewed every `FLUSH` seconds.
* ``trials/NUMBER/``: checkpoints and weights of each training, copied when they are complete.
* ``cache/NAME/``: the clip cache, file by file, its index last.

The end of a trial is in the store before the search goes on: first its weights, which its process copies before it
reports the last epoch, then the ledger. Other events follow within `FLUSH` seconds. So what a machine can lose when it
is lost are the latest reports of trainings that were running, which go on from their last checkpoint in the store.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.ledger.events import Ended, Event, Failed, Finished, SearchBegan, Stopped
from search.ledger.file import NAME, ReplacedError
from search.ledger.process import exists
from search.ledger.remote import LEDGER_PARTS, Remote, fetch_ledger, wait_for_change
from vattn.data.cache import is_cache
from vattn.data.cache.format import INDEX
from vattn.errors import StorageError, UserError
from vattn.files import locked
from vattn.training import best
from vattn.training.checkpoint import FILE, PARTIAL_FILE

#: file that says which process writes
LEASE = "lease.json"
#: seconds after which a lease that nobody renews is that of a dead process
EXPIRY = 60.0
#: seconds after which events are in the store at the latest, and between two renewals of the lease
FLUSH = 10.0
#: seconds within which the thread that writes to the store has to end
JOIN = 15.0
#: seconds until a new lease is looked at once more: another process may have taken it at the same time
SETTLING = 2.0

WEIGHTS = "model.pt"
#: files of a training that are copied
FILES = (FILE, PARTIAL_FILE, best.FILE, WEIGHTS)


def training_key(number: int, name: str) -> str:
    """Return where the store has a file of a training."""
    return f"trials/{number:04d}/{name}"


class Mirror:
    """Copies the files of a search's driver to a store; a projection of its ledger.

    Args:
        remote: the store.
        output: the folder in which the search works.
    """

    def __init__(self, remote: Remote, output: Path) -> None:
        self.remote, self._output = remote, output
        self._owner = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
        self._lock = threading.Lock()
        self._uploaded = 0
        self._lost = ""
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        #: calls an action again until the store can be reached
        self.patiently: Callable[[Callable[[], Any]], Any] = lambda action: action()

    def take(self, say: Callable[[str], None]) -> None:
        """Become the process that writes, and bring the ledger in the folder up to date.

        It waits until the lease of another process has expired; ``say`` is called with that.

        Raises:
            UserError: another process writes, or the folder has the ledger of another search.
        """
        old = self.remote.read(LEASE)
        if old is not None and not self._is_dead(old):
            say(f"{self.remote.url}: another process wrote there; waiting {EXPIRY:.0f} s for a sign that it still runs")
            for content in wait_for_change(self.remote, LEASE, old, EXPIRY):
                if content is not None and content != old:
                    raise self._taken()
        self._renew()
        time.sleep(SETTLING)
        self._check_lease()
        self._uploaded = fetch_ledger(self.remote, self._output / NAME)
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def _is_dead(self, lease: bytes) -> bool:
        """Return whether a lease is that of a process of this machine that has ended."""
        with suppress(ValueError, KeyError, TypeError, OverflowError):  # it is damaged
            owner = json.loads(lease)
            return owner["host"] == socket.gethostname() and not exists(int(owner["pid"]))
        return False

    def _taken(self) -> UserError:
        return UserError(
            "another process is running this search", file=self.remote.url, way_out="wait for its end or stop it"
        )

    def _renew(self) -> None:
        self.remote.write(LEASE, json.dumps(self._owner | {"time": time.time()}).encode())

    def _check_lease(self) -> None:
        content = self.remote.read(LEASE)
        if content is None:
            raise StorageError(f"{self.remote.url}/{LEASE}: is not there; is the store the same one?")
        if str(self._owner["id"]).encode() not in content:
            raise ReplacedError(str(self._taken()))

    def _work(self) -> None:
        while not self._closed.wait(FLUSH):
            try:
                self.flush()
                self._check_lease()
                self._renew()
            except ReplacedError as error:
                self._lost = str(error)
                return
            except Exception:  # the store cannot be reached: the next event that must be there waits for it
                continue

    def apply(self, event: Event) -> None:
        """Copy the end of a training before the search goes on; other events are copied by the thread."""
        if self._thread is None:
            return
        if self._lost:
            raise ReplacedError(self._lost)
        match event:
            case Finished() | Stopped() | Failed(final=True):
                self.patiently(self.flush)
                if isinstance(event, Finished | Stopped):
                    self.patiently(lambda: self._remove_checkpoints(event.trial))
            case SearchBegan() | Ended():
                self.patiently(self.flush)

    def _remove_checkpoints(self, number: int) -> None:
        for name in (FILE, PARTIAL_FILE):
            self.remote.remove(training_key(number, name))

    def flush(self) -> None:
        """Copy the lines of the ledger that the store does not have.

        Raises:
            ReplacedError: another process writes there.
            OSError: the store cannot be reached.
        """
        with self._lock:
            with (self._output / NAME).open("rb") as file:
                file.seek(self._uploaded)
                content = file.read()
            content = content[: content.rfind(b"\n") + 1]  # the last line may be half written
            if not content:
                return
            self._check_lease()
            self.remote.write(f"{LEDGER_PARTS}/{self._uploaded:015d}.jsonl", content)
            self._uploaded += len(content)

    def fetch_weights(self, number: int) -> None:
        """Make sure that the weights of a training are in the folder of this machine."""
        path = self._output / training_key(number, WEIGHTS)
        if not path.is_file():
            self.remote.download(training_key(number, WEIGHTS), path)

    def upload_weights(self, number: int) -> None:
        """Copy the weights of a training to the store."""
        self.remote.upload(self._output / training_key(number, WEIGHTS), training_key(number, WEIGHTS))

    def size(self, number: int) -> int:
        """Return the bytes that the store has of a training."""
        return sum(self.remote.files(f"trials/{number:04d}").values())

    def remove(self, number: int) -> None:
        """Remove the files of a training from the store."""
        for name in self.remote.files(f"trials/{number:04d}"):
            self.remote.remove(training_key(number, name))

    def upload_cache(self, cache: Path) -> None:
        """Copy a clip cache to the store, its index last; what is there already is not copied again."""
        there = self.remote.files(f"cache/{cache.name}")
        files = [file for file in cache.iterdir() if file.is_file() and not file.name.startswith(".")]
        for file in sorted(files, key=lambda file: file.name == INDEX):
            if there.get(file.name) != file.stat().st_size:
                self.remote.upload(file, f"cache/{cache.name}/{file.name}")

    def upload_results(self) -> None:
        """Copy the pictures of the front to the store."""
        for path in sorted(self._output.glob("pareto.*")):
            self.remote.upload(path, path.name)

    def close(self) -> None:
        """Stop, and give up the lease."""
        self._closed.set()
        if self._thread:
            self._thread.join(JOIN)
        try:
            self._check_lease()
            self.remote.remove(LEASE)
        except OSError:
            pass  # it expires


def fetch_cache(remote: Remote, cache: Path) -> bool:
    """Make sure that a clip cache is on this machine; return whether it is.

    The processes of a machine share the copy, and wait for the one that makes it.
    """
    if is_cache(cache):
        return True
    files = remote.files(f"cache/{cache.name}")
    if INDEX not in files:
        return False
    with locked(cache.parent):
        if not is_cache(cache):
            for name in sorted(files, key=lambda name: name == INDEX):  # the index makes it a cache
                if not (cache / name).is_file() or (cache / name).stat().st_size != files[name]:
                    remote.download(f"cache/{cache.name}/{name}", cache / name)
    return True


class TrainingMirror:
    """Copies the files of one training between its machine and a store.

    Args:
        remote: the store.
        folder: the folder of the training on this machine, ``.../trials/NUMBER``.
    """

    def __init__(self, remote: Remote, folder: Path) -> None:
        self._remote, self._folder = remote, folder
        self._copied: dict[str, tuple[int, int]] = {}
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def fetch(self, weights: Path | None) -> None:
        """Get the files of an earlier attempt, and the initial weights if another training of the search has them."""
        for name in self._remote.files(f"trials/{self._folder.name}"):
            if name in FILES:
                self._remote.download(f"trials/{self._folder.name}/{name}", self._folder / name)
                self._copied[name] = self._state(name)
        if weights and weights.parent.parent == self._folder.parent and not weights.is_file():
            self._remote.download(f"trials/{weights.parent.name}/{weights.name}", weights)

    def copy(self, wait: bool) -> None:
        """Copy what is complete and new, in a thread; with ``wait``, return when all of it is in the store.

        Raises:
            OSError: this or the last copy failed.
        """
        if self._thread and (wait or not self._thread.is_alive()):
            self._thread.join()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._copy, name="mirror", daemon=True)
            self._thread.start()
        if wait:
            self._thread.join()
        if error := self._error:
            self._error = None
            raise StorageError(f"{self._remote.url}: {error}") from error

    def _copy(self) -> None:
        try:
            for name in FILES:
                if (self._folder / name).is_file() and self._copied.get(name) != (state := self._state(name)):
                    self._remote.upload(self._folder / name, f"trials/{self._folder.name}/{name}")
                    self._copied[name] = state
        except FileNotFoundError:
            pass  # a checkpoint that was replaced by a later one
        except OSError as error:
            self._error = error

    def _state(self, name: str) -> tuple[int, int]:
        stat = (self._folder / name).stat()
        return stat.st_size, stat.st_mtime_ns

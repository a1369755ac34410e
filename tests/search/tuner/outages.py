"""Runs a search while the disks of its output and its cache go away, fill up and become read-only.

Run it in a namespace of its own: ``unshare --user --map-root-user --mount``, and then
``python -m tests.search.tuner.outages SPEC FOLDER CACHE LOG``. SPEC writes to FOLDER/out and reads its clips in
FOLDER/cache, which are made here: two small file systems, of which the second has the content of CACHE. LOG gets what
the search says. It ends with status 0 if all was as it should be.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from search.ledger.events import Reported
from search.ledger.file import NAME, read
from tests.processes import wait_for

#: bytes of the file system of the output
SIZE = 64 * 2**20
#: seconds in which a search must have noticed an outage, or must have gone on after it
OUTAGE = 600


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def mount_read_only(source: Path, place: Path) -> None:
    """Show a folder where it can only be read. No program sees it there before: an open file would forbid it."""
    hidden = place.with_name(f"{place.name}-read-only")
    hidden.mkdir(exist_ok=True)
    mount("--bind", source, hidden)
    mount("-o", "remount,bind,ro", hidden)
    mount("--bind", hidden, place)
    subprocess.run(["umount", str(hidden)], check=True)


class Outages:
    """A running search, and its file systems."""

    def __init__(self, spec: Path, folder: Path, cache: Path, log: Path) -> None:
        self.disk, self.output, self.cache, self.log = folder / "disk", folder / "out", folder / "cache", log
        for place in (self.disk, self.output, self.cache):
            place.mkdir()
        self.source = cache
        mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", self.disk)
        (self.disk / "out").mkdir()
        self.attach(self.output)
        self.attach(self.cache)
        with log.open("w") as file:
            words = [sys.executable, "-m", "search", "run", str(spec)]
            self.process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)

    def attach(self, place: Path) -> None:
        mount("--bind", self._content(place), place)

    def detach(self, place: Path) -> None:
        subprocess.run(["umount", "--lazy", str(place)], check=True)

    def make_read_only(self, place: Path) -> None:
        self.detach(place)
        mount_read_only(self._content(place), place)

    def _content(self, place: Path) -> Path:
        return self.disk / "out" if place == self.output else self.source

    def epochs(self) -> int:
        events = read(self.disk / "out" / NAME) if (self.disk / "out" / NAME).exists() else ()
        return sum(isinstance(event, Reported) for event in events)

    def goes_on(self) -> None:
        """Wait until the search has trained three more epochs."""
        done = self.epochs()
        wait_for(lambda: self.epochs() >= done + 3 or self.process.poll() is not None, OUTAGE, "it does not go on")
        assert self.process.poll() is None, f"it ended too early with status {self.process.poll()}"

    def says(self, text: str, begin: Callable[[], None]) -> None:
        """Begin an outage, and wait until the search says that it waits for this."""
        said = len(self.log.read_text())
        begin()
        wait_for(
            lambda: f"waits: {text}" in self.log.read_text()[said:].replace("\n", " "),
            OUTAGE,
            f"it does not say {text}",
        )


def main(spec: Path, folder: Path, cache: Path, log: Path) -> None:
    """Run the search through all outages."""
    search = Outages(spec, folder, cache, log)
    try:
        _run(search)
    finally:
        search.process.terminate()
        search.process.wait(60)
    shutil.copyfile(search.output / NAME, log.with_name(NAME))


def _run(search: Outages) -> None:
    search.goes_on()

    search.says(f"{search.output / NAME}: is not there", lambda: search.detach(search.output))
    time.sleep(25)  # MLflow is tried again every 20 s
    assert list(search.output.iterdir()) == []
    search.attach(search.output)
    search.goes_on()

    search.says(f"{search.cache}", lambda: search.detach(search.cache))
    assert list(search.cache.iterdir()) == []
    search.attach(search.cache)
    search.goes_on()

    filler = search.disk / "filler"
    search.says(f"{search.output}", lambda: fill(filler))
    beat = search.output / "status.json"
    wait_for(lambda: "No space left" in beat.read_text(), OUTAGE, "its sign of life does not say that the disk is full")
    filler.unlink()
    search.goes_on()

    search.says(f"{search.output}", lambda: search.make_read_only(search.output))
    search.detach(search.output)
    search.attach(search.output)
    search.goes_on()

    assert search.process.wait(300) == 0


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

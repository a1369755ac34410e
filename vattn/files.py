"""Folders and files that are either whole or not there."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The file that `locked` leaves in a folder.
LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make ``folder`` and hold it: other processes wait. Raises ValueError where a file is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder}: must be a folder, but {error.filename} is a file; name another") from error
    with (folder / LOCK).open("w") as lock:
        # Released when the process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(path: Path, then: str) -> Iterator[None]:
    """Let an OSError of what is done inside name ``path``, which many do not, and what to do ``then``."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: cannot be written: {error}; {then}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write what then takes the place of ``path``; where that fails, nothing of it is left."""
    part = path.with_name(f".part-{path.name}")  # the ending stays, by which some choose a format
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears when it is complete."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")

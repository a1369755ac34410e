"""Locks on folders, and files that are either complete or absent."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vattn.errors import StorageError, UserError

#: The file that `locked` leaves in a folder.
LOCK = ".lock"


def at_home(path: str | Path) -> Path:
    """Return a path in which a leading ``~`` is the home folder; that of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # pathlib's raises for an unknown user


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create ``folder`` and lock it: other processes wait. Raise UserError if a file is in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"must be a folder, but {error.filename} is a file", file=folder, way_out="name another"
        ) from error
    with (folder / LOCK).open("w") as lock:
        # The operating system releases it when the process ends, even if it is killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(path: Path, way_out: str) -> Iterator[None]:
    """Turn an OSError raised inside into a StorageError that names ``path``, as many do not, and the ``way_out``."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}; {way_out}") from error


def part_of(path: Path) -> Path:
    """Return the path of the unfinished file that is to replace ``path``."""
    return path.with_name(f".part-{path.name}")  # with the same suffix, because some libraries choose a format by it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file there replaces ``path`` at the end, or is removed if an error is raised."""
    part = part_of(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file that appears when it is complete."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def digest(*paths: Path) -> str:
    """Return the hash of the content of files, one after another: the first 32 hexadecimal digits of their SHA-256."""
    content = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: content)
    return content.hexdigest()[:32]


def refuse_other_files(file: Path) -> None:
    """Raise UserError if a file is missing, or does not begin as those that torch or safetensors write."""
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    with file.open("rb") as content:
        start = content.read(9)
    # a ZIP archive; a pickle, as torch wrote before version 1.6; the length of safetensors' header, and its bracket
    if not (start.startswith((b"PK\x03\x04", b"\x80\x02")) or start[8:] == b"{"):
        raise UserError(f"{file} is not a file with weights, as torch or safetensors write it")

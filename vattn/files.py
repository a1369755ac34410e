"""Locks on folders, and files that are either complete or absent."""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ENOENT
from pathlib import Path
from typing import IO, Any

from vattn.errors import StorageError, UserError

#: Table of the file systems of this machine, where it has one.
MOUNTS = Path("/proc/self/mountinfo")
#: Types of file systems that several machines share, whose locks SQLite cannot rely on.
_NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3",
    "smbfs",
}  # fmt: skip

#: The file that `locked` leaves in a folder.
LOCK = ".lock"


def at_home(path: str | Path) -> Path:
    """Return a path in which a leading ``~`` is the home folder; that of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # pathlib's raises for an unknown user


def cache_folder() -> Path:
    """Return the folder of this project below that of the user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or at_home("~/.cache")) / "vattn"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create ``folder`` and lock it: other processes wait. Raise UserError if a file is in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"must be a folder, but {error.filename} is a file", file=folder, way_out="name another"
        ) from error
    with (folder / LOCK).open("w") as file:
        lock(file, folder / LOCK)
        yield


def lock(file: IO[Any], path: Path, wait: bool = True) -> None:
    """Lock an open file at ``path`` until it is closed; the operating system does so even if the process is killed.

    Raises:
        BlockingIOError: another process has locked it, and this one does not ``wait``.
        StorageError: the file system has no locks, as NFS without its lock service.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno == EACCES:  # what some file systems say of a lock that another process has
            raise BlockingIOError(error.errno, error.strerror) from None
        raise StorageError(
            f"{path}: cannot be locked ({error.strerror}), and without locks two processes could write there; mount "
            "the file system with locks, or name a folder on another one"
        ) from error


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


def network_type(path: Path) -> str:
    """Return the type of the network file system that a path is on, such as nfs4; "" if it is on none, or unknown."""
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    path, longest, found = path.resolve(), -1, ""
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), left.split()[4])
        if path.is_relative_to(place) and len(Path(place).parts) >= longest:  # of mounts on one place, the last is seen
            longest, found = len(Path(place).parts), right.split()[0]
    return found if found in _NETWORK or found.startswith("fuse.") else ""


class SameFolder:
    """A folder that must stay the one that it was: another one there may be the empty place of a disk that is gone.

    Args:
        path: the folder, which is made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path, self._stat = path, path.stat()

    def check(self) -> None:
        """Raise FileNotFoundError if the folder is gone or another one."""
        if not os.path.samestat(self._path.stat(), self._stat):
            raise FileNotFoundError(ENOENT, "is another folder than before; is its disk mounted?", str(self._path))


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

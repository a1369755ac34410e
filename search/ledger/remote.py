"""The output of a search in an object store: what its URL means, and its files, through pyarrow's file systems."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from vattn.base import identity
from vattn.errors import StorageError, UserError, without_password
from vattn.files import cache_folder, replacing

#: schemes of URLs that an output may have
SCHEMES = ("s3", "gs", "file")
#: folder of the parts of a ledger in a store
LEDGER_PARTS = "ledger"


def is_url(output: str) -> bool:
    """Return whether an output is a URL, not a folder."""
    return re.match(r"[a-z][a-z0-9+.-]*://", output) is not None


def check_url(output: str) -> str:
    """Return the URL of an output; raise ValueError if it cannot be one."""
    parts = urlsplit(output)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"must be a folder, or a URL of s3://, gs:// or file:// (got {without_password(output)})")
    if "@" in parts.netloc:
        raise ValueError(
            "has a password or a user, which the ledger would show; give it in the environment, such as "
            f"AWS_ACCESS_KEY_ID (got {without_password(output)})"
        )
    if not parts.path.strip("/") and (parts.scheme == "file" or not parts.netloc):
        raise ValueError(f"names no bucket or folder (got {output})")
    return output


def work_folder(url: str) -> Path:
    """Return the folder of this machine in which a search with the output ``url`` works."""
    return cache_folder() / "outputs" / identity(url.rstrip("/"))


class Remote:
    """The files of one output, by their paths below its URL. Each is there whole, or not at all.

    All methods raise OSError if the store cannot be reached.

    Raises:
        UserError: the URL is wrong.
        StorageError: the store cannot be reached.
    """

    def __init__(self, url: str) -> None:
        import pyarrow as pa
        from pyarrow import fs

        self.url = url.rstrip("/")
        try:
            self._fs, root = fs.FileSystem.from_uri(self.url)
        except OSError as error:
            raise StorageError(f"{self.url}: cannot be reached: {error}") from error
        except (pa.ArrowException, ValueError) as error:
            raise UserError(
                f"cannot be used ({str(error).partition(chr(10))[0]})", file=self.url, way_out="correct the URL"
            ) from None
        self._root = root.rstrip("/")
        self._is_local = isinstance(self._fs, fs.LocalFileSystem)

    def write(self, key: str, content: bytes) -> None:
        """Write a file."""
        with self._opened(key) as file:
            file.write(content)

    def upload(self, path: Path, key: str) -> None:
        """Copy a file of this machine to the store."""
        with path.open("rb") as source, self._opened(key) as file:
            while block := source.read(2**22):
                file.write(block)

    def _opened(self, key: str) -> Any:
        return _Whole(self._fs, f"{self._root}/{key}", self._is_local)

    def read(self, key: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        try:
            return self._consistent(key, lambda stream: stream.read())
        except FileNotFoundError:
            return None

    def download(self, key: str, path: Path) -> bool:
        """Copy a file of the store to this machine; return whether it exists."""

        def copy(stream: Any) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as target:
                while block := stream.read(2**22):
                    target.write(block)

        try:
            with replacing(path) as part:
                self._consistent(key, copy)
        except FileNotFoundError:
            return False
        return True

    def _consistent(self, key: str, use: Callable[[Any], Any]) -> Any:
        """Return what ``use`` makes of a file's stream; it is called again if the file was replaced meanwhile.

        An object's length is asked for when it is opened, and its content later, in several requests: of an object that
        is replaced in between, one would get parts of both, and bytes that are in neither.
        """
        while True:
            with self._fs.open_input_stream(f"{self._root}/{key}") as stream:
                version = stream.metadata()  # with the ETag or generation of an object; empty for local files
                result = use(stream)
            with self._fs.open_input_stream(f"{self._root}/{key}") as stream:
                if stream.metadata() == version:
                    return result

    def files(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of each file below a folder, by its path below this one."""
        from pyarrow import fs

        base = f"{self._root}/{folder}"
        found = self._fs.get_file_info(fs.FileSelector(base, allow_not_found=True, recursive=True))
        return {
            str(PurePosixPath(info.path).relative_to(base)): info.size
            for info in found
            if info.type == fs.FileType.File and not info.base_name.startswith(".part-")
        }

    def remove(self, key: str) -> None:
        """Remove a file, if it exists."""
        with suppress(FileNotFoundError):
            self._fs.delete_file(f"{self._root}/{key}")


class _Whole:
    """A file that is written to a store as a context, and appears when the context ends without an error."""

    def __init__(self, system: Any, path: str, is_local: bool) -> None:
        self._fs, self._path, self._is_local = system, path, is_local

    def __enter__(self) -> Any:
        folder, _, name = self._path.rpartition("/")
        # An object appears when it is whole. Others are renamed.
        self._at = f"{folder}/.part-{name}" if self._is_local else self._path
        if self._is_local:
            self._fs.create_dir(folder, recursive=True)
        self._file = self._fs.open_output_stream(self._at)
        return self._file

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._file.close()
        if error is not None:
            with suppress(OSError):
                self._fs.delete_file(self._at)
        elif self._is_local:
            self._fs.move(self._at, self._path)


def parts(remote: Remote) -> list[tuple[int, str]]:
    """Return the parts of the ledger in a store: the number of bytes before each, and its path.

    Raises:
        UserError: a part is missing.
    """
    found = sorted((int(name.partition(".")[0]), name, size) for name, size in remote.files(LEDGER_PARTS).items())
    end = 0
    for start, name, size in found:
        if start != end:
            raise UserError(
                f"the part of the ledger at byte {end} is missing", file=f"{remote.url}/{LEDGER_PARTS}",
                way_out=f"restore it from a copy; the next one is {name}",
            )  # fmt: skip
        end = start + size
    return [(start, f"{LEDGER_PARTS}/{name}") for start, name, _ in found]


def fetch_ledger(remote: Remote, path: Path) -> int:
    """Bring the ledger on this machine up to date with the store; return the bytes that the store has.

    A ledger here that goes on where that in the store ends is kept: a process was killed before it uploaded the end.

    Raises:
        UserError: the two are of different searches, or a part is missing.
    """
    content = b"".join(_part(remote, key) for _, key in parts(remote))
    here = path.read_bytes() if path.exists() else b""
    if not here.startswith(content):
        if not content.startswith(here[: here.rfind(b"\n") + 1]):
            raise UserError(
                f"is the copy of another search than that in {remote.url}", file=path,
                way_out="remove it, if nothing in it is needed",
            )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(content)
    return len(content)


def _part(remote: Remote, key: str) -> bytes:
    content = remote.read(key)
    if content is None:
        raise StorageError(f"{remote.url}/{key}: disappeared while it was read")
    return content


def wait_for_change(remote: Remote, key: str, old: bytes, seconds: float, poll: float = 2.0) -> Iterator[bytes | None]:
    """Yield the content of a file every ``poll`` seconds until it changes, or ``seconds`` have passed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(poll, max(0.0, end - time.monotonic())))
        content = remote.read(key)
        yield content
        if content != old:
            return

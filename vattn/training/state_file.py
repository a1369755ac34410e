"""Files of tensors that are either complete or absent."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from vattn.errors import UserError
from vattn.files import part_of, writing

#: What the user can do where a file cannot be written.
WAY_OUT = "make room and go on with --resume"


class StateFile:
    """A file that is opened at one time and written at another. Until it is complete, ``path`` keeps its old content.

    Its folder must exist: one that is missing may be on a disk that is gone.

    Raises:
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, part_of(path)
        with writing(path, WAY_OUT):
            self._file = self._part.open("wb")

    def write(self, state: Any) -> None:
        """Write the state, and put it in the place of ``path``, unless the unfinished file was removed meanwhile.

        Raises:
            StorageError: it cannot be written.
        """
        with writing(self._path, WAY_OUT):
            try:
                with self._file:
                    _save(state, self._file)
            except BaseException:
                self._part.unlink(missing_ok=True)
                raise
            with suppress(FileNotFoundError):  # the training was stopped, and its files were removed
                self._part.replace(self._path)


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write a file so that ``path`` has either its old or its new content, even if the process is killed.

    Raises:
        StorageError: the file cannot be written.
    """
    StateFile(path).write(state)


def read_state_file(path: Path, mmap: bool = False) -> Any:
    """Return the content of a file, on the CPU. It is read with torch's ``weights_only``, so that it cannot run code.

    Raises:
        UserError: the file is damaged.
        OSError: it cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError:
        raise
    except Exception as error:  # torch.load documents no narrower class for a damaged file
        raise UserError(
            "is damaged and cannot be read",
            file=path,
            way_out="remove it to train from the start, or put back a copy",
            found=str(error).partition("\n")[0],
        ) from error


def _save(state: Any, file: Any) -> None:
    """Write the state into an open file, without a copy in memory. Raise OSError where it cannot be written."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        # Torch raises an error of its own while it handles that of the file.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise

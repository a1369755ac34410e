"""Copies of clip caches on a node's own disk."""

import errno
import shutil
from pathlib import Path

from vattn.data.cache.format import CHECK, INDEX
from vattn.data.cache.index import read_index
from vattn.files import locked, replacing, writing

#: What a user can do where a copy does not fit.
_WAY_OUT = "make room, or set data.local to another folder or to none"


def local_copy(cache: Path, folder: Path) -> Path:
    """Copy a clip cache below ``folder``, on this node's own disk, and return the copy.

    The copy is named by the hash of the cache's index and shared by all processes of the node; the others wait while
    one of them copies. Each file appears when it is complete, so a copy that was interrupted is continued, and files
    that are missing or have another size are copied again. The pixels are checked by their hashes whenever they are
    read, as in any cache.

    Args:
        cache: the clip cache.
        folder: it is created if it does not exist. Copies in it are never removed.

    Raises:
        UserError: ``cache`` is no cache, or a file is in the place of ``folder``.
        StorageError: a file cannot be read or written, or there is too little room.
    """
    read_index(cache)
    digest = (cache / CHECK).read_text().split()[-1]
    copy = folder / digest
    with writing(folder, _WAY_OUT), locked(folder):
        copy.mkdir(exist_ok=True)
        files = [file for file in cache.iterdir() if file.is_file() and not file.name.startswith(".")]
        missing = [file for file in files if not _is_copied(file, copy / file.name)]
        needed, free = sum(file.stat().st_size for file in missing), shutil.disk_usage(copy).free
        if needed > free:
            rule = f"{needed / 1e9:.1f} GB of {cache} are to be copied there, and {free / 1e9:.1f} GB are free"
            raise OSError(errno.ENOSPC, rule)
        for file in sorted(missing, key=lambda file: file.name == INDEX):  # the index is the last
            with replacing(copy / file.name) as part:
                shutil.copyfile(file, part)
    return copy


def _is_copied(file: Path, copy: Path) -> bool:
    return copy.is_file() and copy.stat().st_size == file.stat().st_size

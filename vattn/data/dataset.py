"""From the config of a data set to its clip cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vattn.data.config import DataConfig, Progress
from vattn.data.ingest import ingest
from vattn.files import locked


class Listed(NamedTuple):
    """A data set whose files exist and whose clips are listed, but need not be decoded yet."""

    data: DataConfig
    root: Path
    cache: Path
    manifest: pa.Table

    def decode(self, progress: Progress | None = None, test: bool = True, **options: Any) -> Path:
        """Decode what is not in the cache yet, see `decode`; return the folder for `open_clips`."""
        return decode([self], progress, test, **options)[0]


def decode(sets: Sequence[Listed], progress: Progress | None = None, test: bool = True, **options: Any) -> list[Path]:
    """Decode what is not in the caches yet, the test split only if ``test``; return the folders for `open_clips`.

    ``options`` are further arguments of `vattn.data.ingest.ingest`, such as ``jobs``.
    """
    return [
        ingest(
            each.manifest, each.root, each.cache, each.data.store, progress=progress,
            modality="flow" if each.data.modality == "flow" else "rgb", test=test, **options,
        )
        for each in sets
    ]  # fmt: skip


def listed(data: DataConfig, output: Path, progress: Progress | None = None) -> Listed:
    """Make sure that the files of a data set exist, and list its clips.

    Args:
        data: the config. A ``root`` and a ``cache`` that are auto are below ``output``.
        output: folder of a search or training.
        progress: called while a data set is generated.

    Raises:
        UserError: files or lists are missing or wrong.
    """
    root = output / "data" / data.kind if data.root == "auto" else Path(data.root).expanduser()
    cache = output / "cache" if data.cache == "auto" else Path(data.cache).expanduser()
    with locked(cache):
        pass  # an impossible cache folder is reported before minutes of generating
    data.supply(root, progress)
    return Listed(data, root, cache, data.manifest(root))


def prepare(data: DataConfig, output: Path, progress: Progress | None = None, test: bool = True) -> Path:
    """Make sure that a data set exists and is decoded (see `listed` and `Listed.decode`).

    Returns the folder for `open_clips`. Raises UserError if files are missing or none can be read, StorageError if the
    disk is full.
    """
    return listed(data, output, progress).decode(progress, test)

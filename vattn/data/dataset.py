"""From the config of a data set to its clip cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vattn.data.config import DataConfig, Progress
from vattn.data.faults import check
from vattn.data.ingest import ingest
from vattn.data.layouts import LayoutConfig
from vattn.files import locked


class Listed(NamedTuple):
    """A data set whose files exist and whose clips are listed, but need not be decoded yet."""

    data: DataConfig
    root: Path
    cache: Path
    manifest: pa.Table

    def ingest(self, progress: Progress | None = None, test: bool = True, **options: Any) -> Path:
        """Decode what is not in the cache yet, the test split only if ``test``; return the folder for `open_clips`.

        ``options`` are further arguments of `vattn.data.ingest.ingest`, such as ``jobs``.
        """
        prefix = self.data.prefix if isinstance(self.data, LayoutConfig) else "auto"
        return ingest(
            self.manifest, self.root, self.cache, self.data.store, progress=progress, test=test, prefix=prefix,
            modality="flow" if self.data.modality == "flow" else "rgb", **options,
        )  # fmt: skip

    def check(self, folder: Path) -> None:
        """Compare a folder that `ingest` returned with the lists; raise UserError if too many clips have problems."""
        max_faults = self.data.max_faults if isinstance(self.data, LayoutConfig) else "100 %"
        check(self.manifest, folder, self.data.store, self.root, max_faults)

    def decode(self, progress: Progress | None = None, test: bool = True, **options: Any) -> Path:
        """Do `ingest`, then `check`; return the folder for `open_clips`."""
        return decode([self], progress, test, **options)[0]


def decode(sets: Sequence[Listed], progress: Progress | None = None, test: bool = True, **options: Any) -> list[Path]:
    """Decode all data sets, then check them, so that a problem of one does not delay the others; return the folders.

    Arguments and errors are those of `Listed.ingest` and `Listed.check`.
    """
    folders = [each.ingest(progress, test, **options) for each in sets]
    for each, folder in zip(sets, folders, strict=True):
        each.check(folder)
    return folders


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

    Returns the folder for `open_clips`. Raises UserError if files are missing or too many have problems, StorageError
    if the disk is full.
    """
    return listed(data, output, progress).decode(progress, test)

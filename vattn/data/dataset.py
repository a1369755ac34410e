"""From the config of a data set to its clip cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from vattn.data.config import DataConfig, Progress, StoreConfig
from vattn.data.estimate import Estimate, Sample, choose, estimate, refuse_if_full, sample
from vattn.data.faults import check
from vattn.data.ingest import Plan, execute, planned
from vattn.data.layouts import LayoutConfig
from vattn.data.summary import Summary, summarize
from vattn.files import at_home, locked


@dataclass(frozen=True)
class Listed:
    """A data set whose clips are listed, but need not be decoded yet."""

    data: DataConfig
    root: Path
    cache: Path
    manifest: pa.Table
    test: bool = True
    """whether the test split is decoded"""

    @cached_property
    def plan(self) -> Plan:
        """The clip cache, which need not exist yet."""
        return self._plan_of(self.data.store)

    @cached_property
    def estimate(self) -> Estimate:
        """The size of the clip cache, and the space for it."""
        return estimate(self.plan, self._sample(self.data.store.codec == "jpeg"))

    def summary(self, flip: bool | None = None) -> Summary:
        """Return the classes and splits; ``flip``: whether training clips may be flipped; None: as in the config."""
        flip = self.data.augment.flip if flip is None else flip
        return summarize(self.data, self.manifest, flip, self.data.remarks(self.root))

    def fitted(self, frames: int | None) -> "Listed":
        """Return the same data set, stored in the best way that the disk can hold (see `vattn.data.estimate.choose`).

        Args:
            frames: frames of a clip that the network sees; None if it needs successive frames.
        """
        return self.stored(choose(self.plan, self._sample(True), frames, self._plan_of))

    def stored(self, store: StoreConfig) -> "Listed":
        """Return the same data set, stored in another way."""
        return replace(self, data=self.data.model_copy(update={"store": store}))

    def refuse_if_full(self, frames: int | None = None) -> None:
        """Raise UserError if the disk cannot hold the clip cache; ``frames`` as in `fitted`."""
        if self.estimate.at_least > self.estimate.free:
            refuse_if_full(self.plan, self._sample(True), self.estimate, frames)

    def ingest(self, progress: Progress | None = None, **options: Any) -> Path:
        """Decode what is not in the cache yet; return the folder for `open_clips`.

        ``options`` are further arguments of `vattn.data.ingest.execute`, such as ``jobs``. Raises UserError if no file
        can be read, or if the disk cannot hold the cache, StorageError if it is full.
        """
        self.refuse_if_full()
        return execute(self.plan, progress, **options)

    def check(self, folder: Path) -> None:
        """Compare a folder that `ingest` returned with the lists; raise UserError if too many clips have problems."""
        max_faults = self.data.max_faults if isinstance(self.data, LayoutConfig) else "100 %"
        check(self.manifest, folder, self.data.store, self.root, max_faults)

    def decode(self, progress: Progress | None = None, **options: Any) -> Path:
        """Do `ingest`, then `check`; return the folder for `open_clips`."""
        return decode([self], progress, **options)[0]

    def _plan_of(self, store: StoreConfig) -> Plan:
        modality = "flow" if self.data.modality == "flow" else "rgb"
        prefix = self.data.prefix if isinstance(self.data, LayoutConfig) else "auto"
        return planned(self.manifest, self.root, self.cache, store, modality, self.test, prefix)

    def _sample(self, pictures: bool) -> Sample:
        return sample(self.plan, self.data.clip_shape(), pictures)


def decode(sets: Sequence[Listed], progress: Progress | None = None, **options: Any) -> list[Path]:
    """Decode all data sets, then check them, so that a problem of one does not delay the others; return the folders.

    Arguments and errors are those of `Listed.ingest` and `Listed.check`.
    """
    folders = [each.ingest(progress, **options) for each in sets]
    for each, folder in zip(sets, folders, strict=True):
        each.check(folder)
    return folders


def listed(
    data: DataConfig, output: Path, progress: Progress | None = None, test: bool = True, generate: bool = True
) -> Listed:
    """Make sure that the files of a data set exist, and list its clips.

    Args:
        data: the config. A ``root`` and a ``cache`` that are auto are below ``output``.
        output: folder of a search or training.
        progress: called while a data set is generated.
        test: whether the test split is decoded.
        generate: whether a data set that is generated must exist, and is written if it does not.

    Raises:
        UserError: files or lists are missing or wrong.
    """
    root = output / "data" / data.kind if data.root == "auto" else at_home(data.root)
    cache = output / "cache" if data.cache == "auto" else at_home(data.cache)
    if not generate:
        return Listed(data, root, cache, data.preview(root), test)
    with locked(cache):
        pass  # an impossible cache folder is reported before minutes of generating
    data.supply(root, progress)
    return Listed(data, root, cache, data.manifest(root), test)


def prepare(data: DataConfig, output: Path, progress: Progress | None = None, test: bool = True) -> Path:
    """Make sure that a data set exists and is decoded (see `listed` and `Listed.decode`).

    Returns the folder for `open_clips`. Raises UserError if files are missing, if too many have problems, or if the
    disk cannot hold the cache, StorageError if it is full.
    """
    return listed(data, output, progress, test).decode(progress)

"""From files to batches. Each data-set layout is one file, registered by this import."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vattn.data import folders, hmdb51, kinetics, lists, motion, ssv1, ssv2, table, thumos14, ucf101  # noqa: F401
from vattn.data._base import DataConfig, Progress
from vattn.data.cache import open_clips

if TYPE_CHECKING:
    import pyarrow as pa

    from vattn.data.loader import ahead, eval_batches, train_batches


class Listed(NamedTuple):
    """A data set whose files are there, and are to be decoded."""

    data: DataConfig
    root: Path
    cache: Path
    manifest: "pa.Table"

    def decode(self, progress: Progress | None = None, test: bool = True) -> Path:
        """Make sure that all is decoded, the test split only if ``test``; return the folder to give to `open_clips`."""
        from vattn.data.ingest import ingest

        modality = "flow" if self.data.modality == "flow" else "rgb"
        store = self.data.store
        return ingest(self.manifest, self.root, self.cache, store, progress=progress, modality=modality, test=test)


def listed(data: DataConfig, output: Path, progress: Progress | None = None) -> Listed:
    """Make sure that the files of ``data`` are there; raises ValueError where some are missing.

    ``data.root`` and ``data.cache`` that are auto lie below ``output``.
    """
    from vattn.files import locked

    root = output / "data" / data.kind if data.root == "auto" else Path(data.root).expanduser()
    cache = output / "cache" if data.cache == "auto" else Path(data.cache).expanduser()
    with locked(cache):
        pass  # a cache that cannot be is told before minutes of generating
    data.supply(root, progress)
    return Listed(data, root, cache, data.manifest(root))


def prepare(data: DataConfig, output: Path, progress: Progress | None = None, test: bool = True) -> Path:
    """Make sure that ``data`` is there (see `listed`), decoded; return the folder to give to `open_clips`."""
    return listed(data, output, progress).decode(progress, test)


def __getattr__(name: str) -> Any:
    # Only batches need torch: what decodes video starts without its seconds of import.
    if name in ("ahead", "eval_batches", "train_batches"):
        from vattn.data import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["DataConfig", "Progress", "ahead", "eval_batches", "listed", "open_clips", "prepare", "train_batches"]

"""Class folders: the name of a clip's folder is its class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vattn.data._layout import VIDEOS, LayoutConfig, Row

SPLITS = ("train", "val", "test")


class FoldersDataConfig(LayoutConfig, kind="folders"):
    """``{train,val,test}/CLASS/CLIP``, or ``CLASS/CLIP`` alone, of which all is for training; labels are alphabetical.

    A clip is a video, or a folder of frames. Without a ``val`` folder some of ``train`` is kept for validation.
    """

    kind: Literal["folders"] = "folders"
    split: Literal[1] = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """List the folders; hidden ones are passed over."""
        labels = sorted({name.name for _, name in _classes(root)})
        if not labels:
            raise ValueError(f"data.root: {root}: has no folders of classes; name the folder in which these are")
        return tuple(labels)

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """List what is in the folders; hidden files, and files that are no videos, are passed over."""
        numbers = {name: number for number, name in enumerate(labels)}
        for split, name in _classes(root):
            for clip in _clips(name):
                path = clip.relative_to(root).as_posix()
                yield Row(path, numbers[name.name], split, str(name.relative_to(root)))


def _classes(root: Path) -> list[tuple[str, Path]]:
    """Return the split and the folder of each class."""
    splits = [(split, root / split) for split in SPLITS if (root / split).is_dir()]
    return [(split, name) for split, place in splits or [("train", root)] for name in _folders(place)]


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _clips(place: Path) -> list[Path]:
    return sorted(
        entry
        for entry in place.iterdir()
        if not entry.name.startswith(".") and (entry.suffix.lower() in VIDEOS or entry.is_dir())
    )

"""Class folders: the name of a clip's folder is its class."""

from pathlib import Path
from typing import Literal

from vattn.data._layout import VIDEOS, LayoutConfig, Listing, Row

SPLITS = ("train", "val", "test")


class FoldersDataConfig(LayoutConfig, kind="folders"):
    """``{train,val,test}/CLASS/CLIP``, or ``CLASS/CLIP`` alone, of which all is for training; labels are alphabetical.

    A clip is a video, or a folder of frames. Without a ``val`` folder some of ``train`` is kept for validation.
    """

    kind: Literal["folders"] = "folders"
    split: Literal[1] = 1

    def read(self, root: Path) -> Listing:
        """List the folders; hidden ones, and files that are no videos, are passed over."""
        splits = [split for split in SPLITS if (root / split).is_dir()]
        places = [(split, root / split) for split in splits] or [("train", root)]
        found = [(split, name, clip) for split, place in places for name in _folders(place) for clip in _clips(name)]
        labels = sorted({name.name for split, place in places for name in _folders(place)})
        if not found:
            raise ValueError(
                f"data.root: {root}: has no videos in folders of classes; name the folder of these folders"
            )
        numbers = {name: number for number, name in enumerate(labels)}
        rows = (
            Row(clip.relative_to(root).as_posix(), numbers[name.name], split, str(name.relative_to(root)))
            for split, name, clip in found
        )
        return Listing(tuple(labels), tuple(rows))


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _clips(place: Path) -> list[Path]:
    return sorted(
        entry
        for entry in place.iterdir()
        if not entry.name.startswith(".") and (entry.suffix.lower() in VIDEOS or entry.is_dir())
    )

"""Class folders: the folder in which a clip lies is its class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vattn.data.decode import is_litter
from vattn.data.faults import printable
from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import VIDEOS
from vattn.data.layouts._rows import Row, is_utf8
from vattn.errors import UserError

SPLITS = ("train", "val", "test")


class FoldersDataConfig(LayoutConfig, kind="folders"):
    """Clips at ``{train,val,test}/CLASS/CLIP``, or at ``CLASS/CLIP``, which are then all for training.

    A clip is a video or a folder of images. Labels are the classes in alphabetical order. Without a ``val`` folder some
    training clips are held out for validation.
    """

    kind: Literal["folders"] = "folders"
    split: OneSplit = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """List the class folders; hidden folders, and those of operating systems, are skipped."""
        labels = sorted({folder.name for _, folder in _class_folders(root)})
        if not labels:
            raise UserError(
                f"{root}: has no folders of classes", path="data.root", way_out="name the folder in which these are"
            )
        for label in labels:
            if not is_utf8(label):
                raise UserError(
                    f"{root}: names of classes must be UTF-8", path="data.root", way_out="rename the folder",
                    found=printable(label),
                )  # fmt: skip
        return tuple(labels)

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """List the clips in the class folders; hidden files and files that are no videos are skipped."""
        numbers = {name: number for number, name in enumerate(labels)}
        for split, folder in _class_folders(root):
            for clip in _clips(folder):
                path = clip.relative_to(root).as_posix()
                yield Row(path, numbers[folder.name], split, str(folder.relative_to(root)))


def _class_folders(root: Path) -> list[tuple[str, Path]]:
    """Return (split, folder) of each class."""
    splits = [(split, root / split) for split in SPLITS if (root / split).is_dir()]
    return [(split, folder) for split, parent in splits or [("train", root)] for folder in _folders(parent)]


def _folders(parent: Path) -> list[Path]:
    return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not is_litter(entry.name))


def _clips(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if not is_litter(entry.name) and (entry.suffix.lower() in VIDEOS or entry.is_dir())
    )

"""Class folders: the folder in which a clip lies is its class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vattn.data.decode import is_litter
from vattn.data.faults import printable
from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._rows import Row, is_utf8
from vattn.data.names import VIDEOS
from vattn.errors import UserError

#: The split for each usual name of its folder, in small letters.
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "dev": "val", "eval": "val", "test": "test", "testing": "test",
}  # fmt: skip


class FoldersDataConfig(LayoutConfig, kind="folders"):
    """Clips at ``{train,val,test}/CLASS/CLIP``, or at ``CLASS/CLIP``, which are then all for training.

    A clip is a video or a folder of images. Labels are the classes in alphabetical order. Without a ``val`` folder some
    training clips are held out for validation. Other usual names of the splits are known too, in any capitals:
    training; valid, validate, validation, dev and eval; testing.
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

    def remarks(self, root: Path) -> list[str]:
        """Name the folders beside those of the splits: their clips are not used."""
        splits = _split_folders(root)
        unused = [folder.name for folder in _folders(root) if folder not in splits.values()] if splits else []
        if not unused:
            return []
        used = ", ".join(folder.name for folder in splits.values())
        return [f"beside {used}, these folders are not used: {', '.join(unused)}; move them, or rename them"]


def _class_folders(root: Path) -> list[tuple[str, Path]]:
    """Return (split, folder) of each class."""
    splits = _split_folders(root)
    return [(split, folder) for split, parent in (splits or {"train": root}).items() for folder in _folders(parent)]


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split that has one; raise UserError if two folders could be the one of a split."""
    found: dict[str, list[Path]] = {split: [] for split in ("train", "val", "test")}
    for folder in _folders(root):
        split = SPLITS.get(folder.name.casefold())
        # A class may have such a name, but has no folders of classes, except for clips that are folders of images.
        if split and (folder.name == split or any(_clips(inner) for inner in _folders(folder))):
            found[split].append(folder)
    for split, folders in found.items():
        if root / split in folders:
            found[split] = [root / split]
        elif len(folders) > 1:
            names = " and ".join(folder.name for folder in folders)
            way_out = f"name the one to use {split}"
            raise UserError(f"{root}: {names} could all be the {split} split", path="data.root", way_out=way_out)
    return {split: folders[0] for split, folders in found.items() if folders}


def _folders(parent: Path) -> list[Path]:
    return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not is_litter(entry.name))


def _clips(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if not is_litter(entry.name) and (entry.suffix.lower() in VIDEOS or entry.is_dir())
    )

"""Class folders: the folder in which a clip lies is its class."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Literal

from vattn.data.decode import is_litter
from vattn.data.faults import printable
from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import split_of
from vattn.data.layouts._rows import Row, is_utf8
from vattn.data.names import is_video
from vattn.errors import UserError

#: Kinds of files, and files, that a remark names.
NAMED = 5


class FoldersDataConfig(LayoutConfig, kind="folders"):
    """Clips at ``{train,val,test}/CLASS/CLIP``, or at ``CLASS/CLIP``, which are then all for training.

    A clip is a video or a folder of images. Labels are the classes in alphabetical order. Without a ``val`` folder some
    training clips are held out for validation. Other usual names of the splits are known too, in any capitals:
    training; valid, validate, validation, dev and eval; testing; each also with set, split, data, videos, clips or
    frames after it, such as train_set.
    """

    kind: Literal["folders"] = "folders"
    split: OneSplit = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """List the class folders; hidden folders, and those of operating systems, are skipped."""
        labels = sorted({folder.name for _, folder in _class_folders(root)})
        inner = [] if len(labels) > 1 or _split_folders(root) else list(filter(_split_folders, _folders(root)))
        if inner:
            raise UserError(
                f"{root}: has one folder, {inner[0].name}, which holds the splits",
                path="data.root",
                way_out=f"write {inner[0]}",
            )
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
            source, label = folder.relative_to(root).as_posix(), numbers[folder.name]
            for name in _clips(folder):
                yield Row(f"{source}/{name}", label, split, source)

    def remarks(self, root: Path) -> list[str]:
        """Name the folders and files that may be meant for this data set, but are not used."""
        splits, remarks = _split_folders(root), []
        used = ", ".join(folder.name for folder in splits.values())
        unused = [folder.name for folder in _folders(root) if folder not in splits.values()] if splits else []
        if unused:
            remarks.append(f"beside {used}, these folders are not used: {', '.join(unused)}; move them, or rename them")
        unread: Counter[str] = Counter()
        for _, folder in _class_folders(root):
            for name in _files(folder):
                if not is_video(name):
                    unread[PurePath(name).suffix.lower() or "without a suffix"] += 1
        if unread:
            kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in unread.most_common(NAMED))
            remarks.append(
                f"{unread.total():,} files in folders of classes are not read, as their names are not those of videos: "
                f"{kinds}; if they are clips, rename or convert them, and put images into a folder for each clip"
            )
        outside = [
            f"{parent.relative_to(root) / name}"
            for parent in [root, *splits.values()]
            for name in _files(parent)
            if is_video(name)
        ]
        if outside:
            remarks.append(
                f"videos outside of the folders of classes are not used ({len(outside):,}, such as "
                f"{printable(min(outside))}); move them"
            )
        return remarks


def _class_folders(root: Path) -> list[tuple[str, Path]]:
    """Return (split, folder) of each class."""
    splits = _split_folders(root)
    return [(split, folder) for split, parent in (splits or {"train": root}).items() for folder in _folders(parent)]


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split that has one; raise UserError if two folders could be the one of a split."""
    found: dict[str, list[Path]] = {split: [] for split in ("train", "val", "test")}
    for folder in _folders(root):
        split = split_of(folder.name)
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


def _files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, without hidden ones and those of operating systems."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_file() and not is_litter(entry.name)]


def _folders(parent: Path) -> list[Path]:
    return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not is_litter(entry.name))


def _clips(folder: Path) -> list[str]:
    """Return the names of the videos and folders in a folder of a class, sorted."""
    with os.scandir(folder) as entries:  # pathlib takes a minute for a million files
        return sorted(
            entry.name for entry in entries if not is_litter(entry.name) and (is_video(entry.name) or entry.is_dir())
        )

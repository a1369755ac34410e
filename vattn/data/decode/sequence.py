"""Which images of a folder are the frames of a clip: those of one sequence, in the order of their numbers.

A sequence is all images whose names are the same but for the number at their end: its prefix, such as ``img_``.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from vattn.data.cache.format import COUNTED
from vattn.data.decode.errors import UnreadableFileError

#: An image of a sequence: prefix, number, suffix.
_IMAGE = re.compile(r"(.*?)([0-9]+)\.(?:jpg|jpeg|png)", re.IGNORECASE | re.DOTALL)
#: Prefixes of optical flow. An RGB clip may lie in the same folder.
_FLOW = ("flow_x", "flow_y")
#: Names that operating systems write into folders, lower case.
_LITTER = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir", "lost+found"))
#: Prefixes that a message names.
_NAMED = 5

#: (number, name) of the images of each sequence, by its prefix.
Sequences = dict[str, list[tuple[int, str]]]
#: The image of a frame, or the two images of its horizontal and vertical flow.
FrameFiles = tuple[Path, ...]
Modality = Literal["rgb", "flow"]


def is_litter(name: str) -> bool:
    """Return whether a file or folder is hidden, or written by an operating system for its own use."""
    return name.startswith(".") or name.lower() in _LITTER


class ImageFolder:
    """The images of a folder that are the frames of one sequence.

    Args:
        folder: the folder.
        modality: ``rgb``, or ``flow``: a pair of images for each frame, paired by number.
        prefix: prefix of the sequence, or the beginning of one; for flow that of the horizontal component; auto: the
            only sequence, for RGB besides flow.

    Raises:
        UnreadableFileError: there is no sequence, or there are several; a number is there twice, or without its pair.
    """

    def __init__(self, folder: Path, modality: Modality = "rgb", prefix: str = "auto") -> None:
        sequences = images_by_prefix(folder)
        if not sequences:
            raise UnreadableFileError(f"has no frames: {_without_images(folder)}")
        if modality == "rgb":
            # With a prefix, flow can be read as if it were RGB.
            candidates = [name for name in sequences if prefix != "auto" or not name.startswith(_FLOW)]
            chosen = _chosen(sequences, candidates, prefix, "images")
            frames = {number: (file,) for number, file in _numbered(sequences[chosen]).items()}
        else:
            candidates = [name for name in sequences if _vertical(name) in sequences]
            frames = _pairs(_chosen(sequences, candidates, prefix, "pair of x and y images"), sequences)
        self._frames = [(number, tuple(folder / file for file in files)) for number, files in sorted(frames.items())]

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def numbers(self) -> list[int]:
        """Numbers of the frames, in order."""
        return [number for number, _ in self._frames]

    def gaps(self, files: Sequence[FrameFiles]) -> str:
        """Return what is missing between the first and the last of the frames of a clip; empty if nothing seems to be.

        Numbers may be multiples, such as 5, 10, 15. Frames are missing where most numbers follow each other by one step
        and the others by multiples of it.
        """
        chosen = set(files)
        numbers = [number for number, frame in self._frames if frame in chosen]
        steps = [after - before for before, after in pairwise(numbers)]
        step = min(steps, default=1)
        missing = sum(gap // step - 1 for gap in steps)
        if not missing or any(gap % step for gap in steps) or 2 * steps.count(step) < len(steps):
            return ""
        before = numbers[next(place for place, gap in enumerate(steps) if gap > step)]
        return f"{missing} images are missing among its {len(numbers)}, the first after number {before}"

    def clip(self, first: int = -1, last: int = -1) -> list[FrameFiles]:
        """Return the files of the frames in a range.

        Args:
            first: number of the first frame; -1: the first that exists; `COUNTED`: the same, and ``last`` is how many
                frames there are from it on, where all numbers may be multiples, such as 5, 10, 15.
            last: number of the last frame, inclusive; -1: the last that exists.

        Raises:
            UnreadableFileError: there are no such frames.
        """
        if first == COUNTED:
            steps = {after - before for (before, _), (after, _) in pairwise(self._frames)}
            first = self._frames[0][0]
            last = first + last * (steps.pop() if len(steps) == 1 else 1) - 1
        frames = [files for number, files in self._frames if number >= first and (last < 0 or number <= last)]
        if not frames:
            raise UnreadableFileError(f"has no frames from {max(first, 0)} on{f' to {last}' if last >= 0 else ''}")
        return frames


def images_by_prefix(folder: Path) -> Sequences:
    """Return (number, name) of the images of each sequence in a folder, in any order."""
    sequences: Sequences = defaultdict(list)
    for name in os.listdir(folder):  # noqa: PTH208  # pathlib is slower, and there may be many images
        if (image := _IMAGE.fullmatch(name)) and not is_litter(name):
            sequences[image[1]].append((int(image[2]), name))
    return sequences


def _chosen(sequences: Sequences, candidates: list[str], prefix: str, wanted: str) -> str:
    """Return the prefix of the only sequence among the ``candidates``, or of that which the user chose."""
    if prefix != "auto":
        candidates = [prefix] if prefix in candidates else [name for name in candidates if name.startswith(prefix)]
    if len(candidates) == 1:
        return candidates[0]
    there = f"there are {_listed(sequences)}"
    if not candidates:
        of_prefix = "" if prefix == "auto" else f" whose names begin with data.prefix: {prefix}"
        raise UnreadableFileError(f"has no frames: it has no {wanted}{of_prefix}; {there}")
    if prefix == "auto":
        way_out = f"choose one, such as data.prefix: {min(candidates)}"
    else:
        way_out = f"{len(candidates)} of them begin with data.prefix: {prefix}"
    raise UnreadableFileError(f"has images of {len(sequences)} sequences: {there}; {way_out}")


def _listed(sequences: Sequences) -> str:
    return _shortened([f"{len(images)} of {prefix}NUMBER" for prefix, images in sorted(sequences.items())])


def _without_images(folder: Path) -> str:
    """Return what a folder holds instead of images."""
    kinds: Counter[str] = Counter()
    for entry in folder.iterdir():
        if not is_litter(entry.name):
            kinds["folders" if entry.is_dir() else entry.suffix.lower() or "files without a suffix"] += 1
    holds = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_NAMED)) or "nothing"
    return f"its images must be .jpg, .jpeg or .png, with a number at the end of the name (it holds {holds})"


def _numbered(images: Iterable[tuple[int, str]]) -> dict[int, str]:
    files: dict[int, str] = {}
    for number, name in images:
        if number in files:
            names = " and ".join(sorted((files[number], name)))
            raise UnreadableFileError(f"has two images of number {number}: {names}")
        files[number] = name
    return files


def _vertical(prefix: str) -> str:
    """Return the prefix of the vertical flow for that of the horizontal: its last x is a y. Empty if it has no x."""
    before, x, after = prefix.rpartition("x")
    return f"{before}y{after}" if x else ""


def _pairs(across: str, sequences: Sequences) -> dict[int, tuple[str, str]]:
    down = _vertical(across)
    x, y = _numbered(sequences[across]), _numbered(sequences.get(down, ()))
    for alone, prefix, missing in ((x.keys() - y.keys(), across, down), (y.keys() - x.keys(), down, across)):
        if alone:
            counts = f"has {len(x)} images {across}NUMBER and {len(y)} images {down or 'of the other component '}NUMBER"
            raise UnreadableFileError(
                f"{counts}: {prefix}{_shortened(list(map(str, sorted(alone))))} without {missing}"
            )
    return {number: (x[number], y[number]) for number in x}


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")

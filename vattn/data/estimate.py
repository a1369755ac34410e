"""How large a clip cache will be, and which way of storing frames the disk can hold."""

import math
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
from simplejpeg import encode_jpeg

from vattn.data.cache.format import COUNTED, Frame
from vattn.data.cache.index import is_cache, read_index
from vattn.data.config import StoreConfig
from vattn.data.decode import (
    ImageFolder,
    UnreadableFileError,
    header_shape,
    image_size,
    middle_picture,
    read_images,
)
from vattn.data.decode.scaling import Scaler
from vattn.data.decode.sequence import FrameFiles
from vattn.data.ingest import Job, Plan, made_by
from vattn.errors import UserError

#: Files of which a sample reads the headers.
SAMPLE = 32
#: Size of raw frames divided by their size as JPEG of quality 90, where no file can be read. Measured on real videos: 7
#: with a shorter side of 80 pixels, 9.5 with 128, 15 with 240.
JPEG_COMPRESSION = 9
#: Share of the free space that `fitting` uses at most.
USABLE = 0.9
#: JPEG qualities and numbers of frames of a clip that `fitting` tries, from the best.
QUALITIES = (90, 75)
FRAMES = (64, 32, 16)
#: Stored frames for each frame of the network: with fewer, samples of a segment would hardly differ.
FRAMES_PER_INPUT = 4
#: A fresh sample of the mean is below it by more than this number of standard errors in 1 of 40 data sets.
_ERRORS = 2
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class _File(NamedTuple):
    frames: int
    height: int
    width: int
    picture: Frame | None
    """a frame from its middle"""


@dataclass(frozen=True)
class Sample:
    """What a sample of a data set's files says about the size of a cache."""

    clips: int
    """number of clips of the data set"""
    files: tuple[_File, ...]

    def predict(self, store: StoreConfig) -> tuple[float, float]:
        """Return the predicted size of a cache in bytes, and a size that it very likely exceeds."""
        sizes = [_clip_bytes(file, store) for file in self.files]
        if not sizes:
            return 0.0, 0.0
        error = stdev(sizes) / math.sqrt(len(sizes)) if 1 < len(sizes) < self.clips else 0.0
        return self.clips * fmean(sizes), self.clips * max(fmean(sizes) - _ERRORS * error, 0.0)


class Estimate(NamedTuple):
    """The size of a cache and the space for it, bytes."""

    size: float
    """of the whole cache"""
    missing: float
    """what is still to be written"""
    at_least: float
    """what is very likely still to be written"""
    free: int
    """on the disk of the cache"""


def sample(plan: Plan, shape: tuple[int, int, int] | None = None, pictures: bool = False) -> Sample:
    """Read the headers of some files of a plan, and with ``pictures`` one frame of each.

    Args:
        plan: the cache that is to be made.
        shape: (frames, height, width) of every clip, if it is known without the files.
        pictures: needed to predict the size of JPEG frames.
    """
    clips = sorted({job for _, job in plan.rows})
    if shape is not None:
        return Sample(len(clips), (_File(*shape, None),))
    chosen = random.Random(0).sample(clips, min(SAMPLE, len(clips)))
    files = (_file(plan, job, pictures) for job in chosen)
    return Sample(len(clips), tuple(file for file in files if file is not None))


def estimate(plan: Plan, files: Sample) -> Estimate:
    """Return the size of the cache of a plan, of which parts may exist, and the space for it."""
    size, at_least = files.predict(plan.store)
    share, written = _missing(plan)
    return Estimate(
        size,
        max(size * share - written, 0.0),
        max(at_least * share - written, 0.0),
        free_bytes(plan.folder.parent),
    )


def fitting(plan: Plan, files: Sample, frames: int | None) -> Iterator[tuple[StoreConfig, float]]:
    """Yield the ways to store frames of the size of ``plan.store`` that the disk can hold, with bytes; best first.

    Args:
        plan: a cache of the data set, stored in any way.
        files: a sample of it, with pictures.
        frames: frames of a clip that the network sees; None if it needs successive frames, so that all are stored.
    """
    usable = USABLE * free_bytes(plan.folder.parent)
    for store in stores(plan.store.size, frames):
        size, _ = files.predict(store)
        if size <= usable:
            yield store, size


def stores(size: int, frames: int | None) -> list[StoreConfig]:
    """Return the ways to store frames of a size, from the best to the smallest; ``frames`` as in `fitting`."""
    numbers = [] if frames is None else [number for number in FRAMES if number >= FRAMES_PER_INPUT * frames]
    return [
        StoreConfig(size=size),
        *(
            StoreConfig.parse({"size": size, "frames": number, "codec": "jpeg", "quality": quality})
            for number in ("all", *numbers)
            for quality in QUALITIES
        ),
    ]


def choose(plan: Plan, files: Sample, frames: int | None, plan_of: Callable[[StoreConfig], Plan]) -> StoreConfig:
    """Return the way to store frames for ``store: auto``: one of which a cache exists, or else the best that fits.

    The arguments are those of `fitting`; ``plan_of`` returns the plan for another way. Raises UserError if the disk can
    hold none.
    """
    cache = plan.folder.parent
    for store in stores(plan.store.size, frames):
        # To name a cache takes seconds for a large data set: only where there is one that was made in this way.
        if any(cache.glob(f"{made_by(store, plan.modality, plan.prefix)}-*")):
            existing = plan_of(store)
            if is_cache(existing.folder) or existing.part.exists():
                return store
    for store, _ in fitting(plan, files, frames):
        return store
    smallest = stores(plan.store.size, frames)[-1]
    raise UserError(
        f"{cache} has {format_bytes(free_bytes(cache))} free, and even the smallest way to store these clips needs "
        f"about {format_bytes(files.predict(smallest)[0])}",
        path="data.store",
        way_out="name a data.cache on another disk",
        found="auto",
    )


def refuse_if_full(plan: Plan, files: Sample, estimated: Estimate, frames: int | None = None) -> None:
    """Raise UserError if the disk cannot hold a cache; the message names what fits. ``frames`` as in `fitting`."""
    if estimated.at_least <= estimated.free:
        return
    ways = [
        f"write store: {written(store)}, which needs about {format_bytes(size)}"
        for store, size in islice(fitting(plan, files, frames), 1)
    ]
    raise UserError(
        f"needs about {format_bytes(estimated.missing)} more, and {plan.folder.parent} has "
        f"{format_bytes(estimated.free)} free",
        path="data.store",
        way_out=" or ".join([*ways, "name a data.cache on another disk"]),
    )


def written(store: StoreConfig) -> str:
    """Return a way to store frames as it is written in a spec, without the keys that have no effect."""
    keys = store.identity_tree() | ({"quality": store.quality} if store.codec == "jpeg" else {})
    return f"{{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}"


def format_bytes(count: float | int) -> str:
    """Return a number of bytes with three digits and its unit, such as 1.5 GB."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {_UNITS[unit]}"


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _file(plan: Plan, job: Job, picture: bool) -> _File | None:
    """Return what the header of a clip's file says; None if it cannot be read, of which `ingest` gives the reason."""
    path = plan.root / job.path
    try:
        if path.is_dir():
            clip = ImageFolder(path, plan.modality, plan.prefix).clip(job.first, job.last)
            return _File(len(clip), *image_size(clip[0][0]), _middle_image(clip, plan.store) if picture else None)
        frames, height, width = header_shape(path)
        if job.last >= 0:
            frames = job.last if job.first == COUNTED else job.last - max(job.first, 0) + 1
        return _File(frames, height, width, _middle_picture(path) if picture else None)
    except (OSError, UnreadableFileError):
        return None


def _middle_image(clip: Sequence[FrameFiles], store: StoreConfig) -> Frame | None:
    """Return the middle frame of a folder of images, at the size of the cache; None if it cannot be read."""
    try:
        (frame,) = read_images([clip[len(clip) // 2]], StoreConfig(size=store.size))
    except UnreadableFileError:
        return None
    assert not isinstance(frame, bytes)  # as raw frames are stored
    return frame


def _middle_picture(path: Path) -> Frame | None:
    """Return a frame from the middle of a video; None if it cannot be read."""
    try:
        return middle_picture(path)
    except UnreadableFileError:
        return None


def _clip_bytes(file: _File, store: StoreConfig) -> float:
    frames = file.frames if store.frames == "all" else min(file.frames, store.frames)
    pixels = file.height * file.width * (store.size / min(file.height, file.width)) ** 2
    return frames * 3 * pixels / _compression(file.picture, store)


def _compression(picture: Frame | None, store: StoreConfig) -> float:
    """Return the size of a raw frame divided by its size as it is stored."""
    if store.codec == "raw":
        return 1.0
    if picture is None:
        return float(JPEG_COMPRESSION)
    from av.video.frame import VideoFrame

    frame = Scaler(store.size)(VideoFrame.from_ndarray(picture, format="rgb24"))
    return frame.nbytes / len(encode_jpeg(np.ascontiguousarray(frame), store.quality, colorsubsampling="420"))


def _missing(plan: Plan) -> tuple[float, int]:
    """Return the share of a plan's clips that no cache has, and the bytes that an interrupted ingest has written."""
    if is_cache(plan.folder):
        return 0.0, 0
    clips = {job for _, job in plan.rows}
    stored: set[tuple[Any, ...]] = set()
    for folder in plan.folder.parent.glob(f"{made_by(plan.store, plan.modality, plan.prefix)}-*"):
        if folder.suffix != ".part" and is_cache(folder):
            index = read_index(folder)
            stored.update(zip(*(index[name].to_pylist() for name in ("path", "first", "last")), strict=True))
    written = sum(file.stat().st_size for file in plan.part.glob("shard-*")) if plan.part.is_dir() else 0
    return len(clips - stored) / max(len(clips), 1), written

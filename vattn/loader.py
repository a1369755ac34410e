"""Batches of clips from the cache. Only the pixels that are used are copied, so no loader processes are needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from vattn.config import DataConfig, ModelConfig, TrainConfig
from vattn.data.augment import Recolour, Region, crops, mixed, scaled, training_region
from vattn.data.cache import Clips
from vattn.data.sampling import evaluation_indices, surrounding, training_indices

Images = UInt8[Tensor, "n 3 t size size"]
Labels = Int64[Tensor, " clips"]
Batch = TypeVar("Batch")


class View(NamedTuple):
    """What is taken of one clip: these frames, and of each the same part."""

    frames: Int64[np.ndarray, " t"]
    region: Region
    mirrored: bool = False
    #: What is then done to the frames (T, 3, H, W).
    finish: Callable[[UInt8[Tensor, "t 3 h w"]], UInt8[Tensor, "t 3 h w"]] | None = None


class Batches:
    """The batches of one pass, made as they are asked for: uint8 images (N, 3, T, H, W) and int64 labels (N).

    Where the backbone takes several frames for each of T, they stand one behind the other in place of the one. Where a
    clip has several views, its images follow each other, and N labels stand for as many times more images.

    Images are stored as N T H W 3, so that folding T into N gives a view under channels_last.
    """

    def __init__(
        self,
        clips: Clips,
        parts: Sequence[np.ndarray],
        views: Callable[[int], Sequence[View]],
        data: DataConfig,
        model: ModelConfig,
    ) -> None:
        self._clips, self._parts, self._views = clips, parts, views
        self._modality, self._around = data.modality, model.backbone.frames_per_segment
        self._shape = (model.frames * self._around, model.size, model.size, 3)
        self._other = np.array(data.mirrored()) if data.augment.flip else np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        for part in self._parts:
            labels = self._clips.labels[part]
            views = [(i, view) for i in part.tolist() for view in self._views(i)]
            pixels = np.empty((len(views), *self._shape), np.uint8)
            for (i, view), out in zip(views, pixels, strict=True):
                self._copy(i, view, out)
            if self._other.size:
                mirrored = np.array([view.mirrored for _, view in views]).reshape(len(part), -1)[:, 0]
                labels = np.where(mirrored, self._other[labels], labels)
            yield torch.from_numpy(pixels).permute(0, 4, 1, 2, 3), torch.from_numpy(labels)

    def _copy(self, i: int, view: View, out: UInt8[np.ndarray, "t size size 3"]) -> None:
        num_frames, size = self._clips.shapes.item(i, 0), self._shape[1]
        top, left, height, width = view.region
        rows, columns = slice(top, top + height), slice(left, left + width)
        wanted = surrounding(view.frames, self._around, num_frames)
        frames = (frame[rows, columns] for frame in self._clips.frames(i, self._read(wanted, num_frames)))
        if self._modality == "diff":
            pairs = zip(frames, frames, strict=True)  # each takes the next one of the same
            frames = ((128 + ((after.astype(np.int16) - before) >> 1)).astype(np.uint8) for before, after in pairs)
        if (height, width) == (size, size):
            for frame, pixels in zip(frames, out, strict=True):
                if view.mirrored:
                    # Pixels as one thing each: as three numbers they take twice as long.
                    pixels.view("V3")[...] = frame.view("V3")[:, ::-1]
                else:
                    pixels[...] = frame
        else:
            whole = scaled(torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
            out[...] = (whole.flip(2) if view.mirrored else whole).numpy()
        if view.mirrored and self._modality == "flow":
            out[..., 0] = 255 - out[..., 0]  # what went to the left goes to the right
        if view.finish:
            out[...] = view.finish(torch.from_numpy(out).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()

    def _read(self, wanted: Int64[np.ndarray, " t"], num_frames: int) -> list[int]:
        """Return the frames to read; for a difference each and the next one, of which the last frame has none."""
        if self._modality != "diff":
            return wanted.tolist()
        return np.stack([wanted, (wanted + 1).clip(max=num_frames - 1)], axis=1).ravel().tolist()


class MixedBatches:
    """Batches whose clips are mixed with each other; labels are float32 (N, classes), the share of each class."""

    def __init__(
        self, batches: Batches, data: DataConfig, generator: Callable[[int], np.random.Generator], start: int
    ) -> None:
        self._batches, self._generator, self._start = batches, generator, start
        self._classes, self._augment = data.num_classes(), data.augment

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Images, Float32[Tensor, "n classes"]]]:
        for step, (images, labels) in enumerate(self._batches, start=self._start):
            yield mixed(images, labels, self._classes, self._augment, self._generator(step))


def train_batches(
    clips: Clips,
    data: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
) -> Batches | MixedBatches:
    """Return worker ``rank``'s share of a pass over ``clips`` in random order, each clip once, from step ``start`` on.

    Order and augmentation depend on (train.seed, epoch) alone, and where clips are mixed on ``world`` too; each step's
    ``train.batch`` clips are dealt out to the ``world`` workers, which all have the same number of steps. What is left
    for the last step makes a smaller one, unless that gives a worker a single clip, of which batch norm has no
    statistics: then the epoch goes without. Raises ValueError where the clips do not suffice, or are too small for
    ``model.size``.
    """
    size, augment = model.size, data.augment
    if augment.crop in ("random", "center"):
        _check_size(clips, data, model)
    least = min(2, train.batch // world)
    order = np.random.default_rng([train.seed, epoch, 0]).permutation(len(clips))
    steps = [order[first : first + train.batch] for first in range(0, len(order), train.batch)]
    steps = [step for step in steps if len(step) // world >= max(least, 1)]
    if not steps:
        raise ValueError(
            f"train.batch: each step needs {max(least, 1)} or more clips for each of {world} workers "
            f"(got {train.batch}, and {len(clips)} clips to train on)"
        )
    recolour = Recolour(augment) if augment.color or augment.randaugment else None
    has_mirror = np.array(data.mirrored()) >= 0 if augment.flip else np.empty(0, bool)
    kind, num = data.sampling.kind, model.frames
    seed = _words(train.seed, epoch, 0)

    def views(i: int) -> list[View]:
        # Its own numbers for each clip: the same augmentation with any number of workers. 0 is the order's.
        seed[-1] = 1 + i
        rng = np.random.default_rng(seed)
        num_frames, height, width = clips.shapes[i].tolist()
        frames = training_indices(kind, num_frames, num, rng)
        region = training_region(augment.crop, height, width, size, rng)
        mirrored = augment.flip and rng.random() < 0.5 and bool(has_mirror[clips.labels[i]])
        return [View(frames, region, mirrored, partial(recolour, rng=rng) if recolour else None)]

    batches = Batches(clips, [step[rank::world] for step in steps[start:]], views, data, model)
    if not augment.mixup and not augment.cutmix:
        return batches
    return MixedBatches(
        batches, data, lambda step: np.random.default_rng([train.seed, epoch, 0, 1 + step, 1 + rank]), start
    )


def eval_batches(
    clips: Clips, data: DataConfig, model: ModelConfig, batch: int, rank: int = 0, world: int = 1
) -> Batches:
    """Return worker ``rank``'s share of ``clips``, every ``world``-th, in order: all workers together see each once.

    The views of a clip (``data.views``) follow each other, the crops of the first part in time first; of one view it is
    the centre of the frames at the centres of segments. ``batch`` is in views, summed over workers. Raises ValueError
    where clips are too small for ``model.size``.
    """
    _check_size(clips, data, model)
    asked, kind = data.views, data.sampling.kind
    step = max(batch // world // (asked.clips * asked.crops), 1)

    def views(i: int) -> list[View]:
        num_frames, height, width = clips.shapes[i].tolist()
        return [
            View(evaluation_indices(kind, num_frames, model.frames, clip, asked.clips, late=i % 2 == 1), region)
            for clip in range(asked.clips)
            for region in crops(height, width, model.size, asked.crops)
        ]

    mine = np.arange(rank, len(clips), world)
    return Batches(clips, [mine[first : first + step] for first in range(0, len(mine), step)], views, data, model)


def ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield ``batches`` in their order; a thread makes the next one while the caller works with the last.

    They must not draw from a generator from which the caller draws meanwhile.
    """
    made = iter(batches)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, made, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, made, None)
            yield batch


def _words(*numbers: int) -> np.ndarray:
    """Return what numpy's generators make of these seeds; to have them made of it for each clip would take longer."""
    shifts = (range(0, max(number.bit_length(), 1), 32) for number in numbers)
    words = (number >> shift & 0xFFFFFFFF for number, bits in zip(numbers, shifts, strict=True) for shift in bits)
    return np.fromiter(words, np.uint32)


def _check_size(clips: Clips, data: DataConfig, model: ModelConfig) -> None:
    least = int(clips.shapes[:, 1:].min())
    if model.size > least:
        raise ValueError(
            f"model.size: must not exceed the stored frames' shorter side, which is {least} pixels, as crops are "
            f"not enlarged; lower it, or raise data.store.size (got {model.size} and {data.store.size})"
        )

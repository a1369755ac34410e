"""Batches of clips from the clip cache.

Only the pixels that are used are copied from memory-mapped files, so no loader processes are needed.
"""

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
from vattn.errors import UserError

Images = UInt8[Tensor, "n 3 t size size"]
Labels = Int64[Tensor, " clips"]
Batch = TypeVar("Batch")


class View(NamedTuple):
    """Which frames of a clip are used, and which region of each of them."""

    frames: Int64[np.ndarray, " t"]
    """numbers of the frames"""
    region: Region
    mirrored: bool = False
    finish: Callable[[UInt8[Tensor, "t 3 h w"]], UInt8[Tensor, "t 3 h w"]] | None = None
    """what is then done to the frames (T, 3, H, W)"""


class Batches:
    """The batches of one pass over a split, computed when they are requested.

    Each batch is a pair of images, uint8 (N, 3, T, H, W), and labels, int64 (N). If the backbone takes several frames
    at each of the T positions, they follow each other in the T axis. If a clip has V views, its V images follow each
    other, and there are N labels for N * V images.

    Modality ``diff`` is the RGB difference of each frame to the next, as 128 + (next - frame) / 2 to fit uint8
    (L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool: "Temporal Segment Networks: Towards Good
    Practices for Deep Action Recognition", ECCV 2016, arXiv:1608.00859).

    Images are stored as N T H W 3, so that folding T into N gives a view in channels_last format.
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
        self._mirrored_label = np.array(data.mirrored()) if data.augment.flip else np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        for part in self._parts:
            labels = self._clips.labels[part]
            views = [(i, view) for i in part.tolist() for view in self._views(i)]
            pixels = np.empty((len(views), *self._shape), np.uint8)
            for (i, view), out in zip(views, pixels, strict=True):
                self._copy(i, view, out)
            if self._mirrored_label.size:
                mirrored = np.array([view.mirrored for _, view in views]).reshape(len(part), -1)[:, 0]
                labels = np.where(mirrored, self._mirrored_label[labels], labels)
            yield torch.from_numpy(pixels).permute(0, 4, 1, 2, 3), torch.from_numpy(labels)

    def _copy(self, i: int, view: View, out: UInt8[np.ndarray, "t size size 3"]) -> None:
        """Write a view of the i-th clip to ``out``."""
        num_frames, size = self._clips.shapes.item(i, 0), self._shape[1]
        top, left, height, width = view.region
        rows, columns = slice(top, top + height), slice(left, left + width)
        wanted = surrounding(view.frames, self._around, num_frames)
        frames = (frame[rows, columns] for frame in self._clips.frames(i, self._read(wanted, num_frames)))
        if self._modality == "diff":
            pairs = zip(frames, frames, strict=True)  # the same iterator twice: (0, 1), (2, 3), ...
            frames = ((128 + ((after.astype(np.int16) - before) >> 1)).astype(np.uint8) for before, after in pairs)
        if (height, width) == (size, size):
            for frame, pixels in zip(frames, out, strict=True):
                if view.mirrored:
                    # One 3-byte item for each pixel: reversing three separate bytes takes twice as long.
                    pixels.view("V3")[...] = frame.view("V3")[:, ::-1]
                else:
                    pixels[...] = frame
        else:
            whole = scaled(torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
            out[...] = (whole.flip(2) if view.mirrored else whole).numpy()
        if view.mirrored and self._modality == "flow":
            out[..., 0] = 255 - out[..., 0]  # mirroring reverses the sign of horizontal flow
        if view.finish:
            out[...] = view.finish(torch.from_numpy(out).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()

    def _read(self, wanted: Int64[np.ndarray, " t"], num_frames: int) -> list[int]:
        """Return the frames to read; for differences, each frame and the next, or the last frame twice."""
        if self._modality != "diff":
            return wanted.tolist()
        return np.stack([wanted, (wanted + 1).clip(max=num_frames - 1)], axis=1).ravel().tolist()


class MixedBatches:
    """Batches whose clips are mixed by MixUp or CutMix; labels are the share of each class, float32 (N, classes)."""

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
    """Return one worker's share of a training epoch: each clip once, in random order, augmented.

    Order and augmentation are seeded by (``train.seed``, ``epoch``) and do not depend on the number of workers, except
    for the mixing of clips. The ``train.batch`` clips of each step are divided among the workers, which all have the
    same number of steps. The last step is smaller if fewer clips remain. It is dropped if a worker would get a single
    clip, unless every step has a single one: batch normalization has no statistics of one clip.

    Args:
        clips: the training split.
        data: sampling of frames, modality and augmentation.
        model: number and size of the frames.
        train: batch size and seed.
        epoch: number of the epoch.
        rank: number of this worker, from 0.
        world: number of workers.
        start: step to start at, to continue an epoch that was interrupted.

    Returns:
        Images, uint8 (N, 3, T, H, W), with labels, int64 (N), or float32 (N, classes) if clips are mixed.

    Raises:
        UserError: there are too few clips for a step, or the stored frames are smaller than ``model.size``.
    """
    size, augment = model.size, data.augment
    if augment.crop in ("random", "center"):
        _check_size(clips, data, model)
    order = np.random.default_rng([train.seed, epoch, 0]).permutation(len(clips))
    sizes = step_sizes(len(clips), train, world)
    steps = [order[i * train.batch : i * train.batch + size] for i, size in enumerate(sizes)]
    recolour = Recolour(augment) if augment.color or augment.randaugment else None
    has_mirror = np.array(data.mirrored()) >= 0 if augment.flip else np.empty(0, bool)
    kind, num = data.sampling.kind, model.frames
    seed = _seed_words(train.seed, epoch, 0)

    def views(i: int) -> list[View]:
        # One generator for each clip: augmentation does not depend on the number of workers. 0 is the order's seed.
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


def step_sizes(clips: int, train: TrainConfig, world: int = 1) -> list[int]:
    """Return the number of clips of each step of an epoch, summed over the workers; see `train_batches`.

    Every worker has a clip in every step, so all workers take part in all of them.

    Args:
        clips: number of clips of the training split.
        train: batch size.
        world: number of workers.

    Raises:
        UserError: there are too few clips for a step.
    """
    least = max(min(2, train.batch // world), 1)
    sizes = [min(train.batch, clips - first) for first in range(0, clips, train.batch)]
    sizes = [size for size in sizes if size // world >= least]
    if not sizes:
        raise UserError(
            f"each step needs {least} or more clips for each of {world} workers",
            path="train.batch",
            found=f"{train.batch}, and {clips} clips to train on",
        )
    return sizes


def eval_batches(
    clips: Clips, data: DataConfig, model: ModelConfig, batch: int, rank: int = 0, world: int = 1
) -> Batches:
    """Return one worker's share of an evaluation: every ``world``-th clip, in order, without augmentation.

    The views of a clip (``data.views``) follow each other, ordered by clip in time, then by crop. A single view is the
    centre crop of the frames that `evaluation_indices` returns for a single clip.

    Args:
        clips: the split to evaluate.
        data: sampling of frames, modality and views.
        model: number and size of the frames.
        batch: views of each step, summed over the workers.
        rank: number of this worker, from 0.
        world: number of workers.

    Returns:
        Images, uint8 (N * views, 3, T, H, W), with labels, int64 (N).

    Raises:
        UserError: the stored frames are smaller than ``model.size``.
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

    share = np.arange(rank, len(clips), world)
    return Batches(clips, [share[first : first + step] for first in range(0, len(share), step)], views, data, model)


def ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield ``batches`` in their order; a thread computes the next one while the caller works with the current one.

    The batches must not use a random generator that the caller uses at the same time.
    """
    remaining = iter(batches)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, remaining, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, remaining, None)
            yield batch


def _seed_words(*numbers: int) -> np.ndarray:
    """Return the 32-bit words that numpy derives from a list of seeds: deriving them once for all clips is faster."""
    shifts = (range(0, max(number.bit_length(), 1), 32) for number in numbers)
    words = (number >> shift & 0xFFFFFFFF for number, bits in zip(numbers, shifts, strict=True) for shift in bits)
    return np.fromiter(words, np.uint32)


def _check_size(clips: Clips, data: DataConfig, model: ModelConfig) -> None:
    least = int(clips.shapes[:, 1:].min())
    if model.size > least:
        raise UserError(
            f"must not exceed the stored frames' shorter side, which is {least} pixels, as crops are not enlarged",
            path="model.size",
            way_out="lower it, or raise data.store.size",
            found=f"{model.size} and {data.store.size}",
        )

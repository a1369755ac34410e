"""Batches of clips from the cache. Only the pixels that are used are copied, so no loader processes are needed."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vattn.config import DataConfig, ModelConfig, TrainConfig
from vattn.data.cache import Clips
from vattn.data.sampling import centre_indices, random_indices, surrounding


class View(NamedTuple):
    """What is taken of one clip: these frames, and of each the same square."""

    frames: Int64[np.ndarray, " t"]
    top: int
    left: int
    mirrored: bool = False


class Batches:
    """The batches of one pass, made as they are asked for: uint8 images (N, 3, T, H, W) and int64 labels (N).

    Where the backbone takes several frames for each of T, they stand one behind the other in place of the one.

    Images are stored as N T H W 3, so that folding T into N gives a view under channels_last.
    """

    def __init__(
        self, clips: Clips, parts: Sequence[np.ndarray], view: Callable[[int], View], model: ModelConfig
    ) -> None:
        self._clips, self._parts, self._view = clips, parts, view
        self._around = model.backbone.frames_per_segment
        self._shape = (model.frames * self._around, model.size, model.size, 3)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[tuple[UInt8[Tensor, "n 3 t size size"], Int64[Tensor, " n"]]]:
        for part in self._parts:
            pixels = np.empty((len(part), *self._shape), np.uint8)
            for i, clip in zip(part.tolist(), pixels, strict=True):
                self._copy(i, clip)
            yield torch.from_numpy(pixels).permute(0, 4, 1, 2, 3), torch.from_numpy(self._clips.labels[part])

    def _copy(self, i: int, out: UInt8[np.ndarray, "t size size 3"]) -> None:
        view, size = self._view(i), self._shape[1]
        square = self._clips.clip(i)[:, view.top : view.top + size, view.left : view.left + size]
        if view.mirrored:
            square = square[:, :, ::-1]
        for frame, t in zip(out, surrounding(view.frames, self._around, len(square)), strict=True):
            frame[...] = square[t]


def train_batches(
    clips: Clips, data: DataConfig, model: ModelConfig, train: TrainConfig, epoch: int, rank: int = 0, world: int = 1
) -> Batches:
    """Return worker ``rank``'s share of a pass over ``clips`` in random order, each clip once.

    Order and augmentation depend on (train.seed, epoch) alone; each step's ``train.batch`` clips are dealt out to the
    ``world`` workers, which all have the same number of steps. What is left for the last step makes a smaller one,
    unless that gives a worker a single clip, of which batch norm has no statistics: then the epoch goes without.
    Raises ValueError where the clips do not suffice, or are too small for ``model.size``.
    """
    _check_size(clips, data, model)
    least = min(2, train.batch // world)
    order = np.random.default_rng([train.seed, epoch, 0]).permutation(len(clips))
    steps = [order[start : start + train.batch] for start in range(0, len(order), train.batch)]
    steps = [step for step in steps if len(step) // world >= max(least, 1)]
    if not steps:
        raise ValueError(
            f"train.batch: each step needs {max(least, 1)} or more clips for each of {world} workers "
            f"(got {train.batch}, and {len(clips)} clips to train on)"
        )
    size, augment = model.size, data.augment

    def view(i: int) -> View:
        # Its own numbers for each clip: the same augmentation with any number of workers. 0 is the order's.
        rng = np.random.default_rng([train.seed, epoch, 1 + i])
        num_frames, height, width = clips.shapes[i].tolist()
        frames = random_indices(num_frames, model.frames, rng)
        top, left = (height - size) // 2, (width - size) // 2
        if augment.crop == "random":
            top, left = (int(rng.integers(space, endpoint=True)) for space in (height - size, width - size))
        return View(frames, top, left, mirrored=augment.flip and rng.random() < 0.5)

    return Batches(clips, [step[rank::world] for step in steps], view, model)


def eval_batches(
    clips: Clips, data: DataConfig, model: ModelConfig, batch: int, rank: int = 0, world: int = 1
) -> Batches:
    """Return worker ``rank``'s share of ``clips``, every ``world``-th, in order: all workers together see each once.

    A clip is the centre of the frames at the centres of its segments; ``batch`` is summed over workers. Raises
    ValueError where clips are too small for ``model.size``.
    """
    _check_size(clips, data, model)
    size, step = model.size, max(batch // world, 1)

    def view(i: int) -> View:
        num_frames, height, width = clips.shapes[i].tolist()
        frames = centre_indices(num_frames, model.frames, late=i % 2 == 1)
        return View(frames, (height - size) // 2, (width - size) // 2)

    mine = np.arange(rank, len(clips), world)
    return Batches(clips, [mine[start : start + step] for start in range(0, len(mine), step)], view, model)


def _check_size(clips: Clips, data: DataConfig, model: ModelConfig) -> None:
    least = int(clips.shapes[:, 1:].min())
    if model.size > least:
        raise ValueError(
            f"model.size: must not exceed the stored frames' shorter side, which is {least} pixels, as crops are "
            f"not enlarged; lower it, or raise data.store.size (got {model.size} and {data.store.size})"
        )

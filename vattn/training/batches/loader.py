"""Batches of clips, from the clip cache or from the frames that a device keeps.

Only the pixels that are used are copied from memory-mapped files, so threads suffice: no loader processes are needed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from vattn.config import DataConfig, ModelConfig, TrainConfig
from vattn.data.augment import Region, mixed, scaled, training_region
from vattn.data.cache import Clips
from vattn.data.config import AugmentConfig
from vattn.data.recolour import Operation, Recolour, on_device, recolour_of
from vattn.data.sampling import Order, reordered, surrounding, training_indices
from vattn.errors import UserError
from vattn.training.batches.sources import ResidentClips
from vattn.training.batches.views import view_frames, view_regions
from vattn.training.recipe.balance import training_order

Images = UInt8[Tensor, "n 3 t size size"]
Labels = Int64[Tensor, " clips"] | Float32[Tensor, "clips ..."]

CPU = torch.device("cpu")


class View(NamedTuple):
    """Which frames of a clip are used, which region of each of them, and what is done to it."""

    clip: int
    """number of the clip"""
    frames: Int64[np.ndarray, " t"]
    """numbers of the frames"""
    region: Region
    mirrored: bool = False
    operations: Sequence[Operation] = ()
    """changes of the colours"""


class Plan(NamedTuple):
    """What one batch is made of: all random choices but those of mixing are made."""

    step: int
    clips: Int64[np.ndarray, " clips"]
    """numbers of the clips"""
    views: Sequence[View]


#: A plan, and its pixels in the computer's memory, uint8 (N, T, H, W, 3); None if the device has them.
Read = tuple[Plan, Tensor | None]


class Batches:
    """The batches of one pass over a split, each made from its plan when it is requested, on ``device``.

    Each batch is a pair of images, uint8 (N, 3, T, H, W), and labels, int64 (N). If the backbone takes several frames
    at each of the T positions, they follow each other in the T axis. If a clip has V views, its V images follow each
    other, and there are N labels for N * V images. If clips are mixed, labels are the share of each class, float32
    (N, classes). A detector has targets of other shapes, float32 (N, ...).

    Modality ``diff`` is the RGB difference of each frame to the next, as 128 + (next - frame) / 2 to fit uint8
    (L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool: "Temporal Segment Networks: Towards Good
    Practices for Deep Action Recognition", ECCV 2016, arXiv:1608.00859).

    Images are stored as N T H W 3, so that folding T into N gives a view in channels_last format. Crops are cut out and
    scaled where the frames are stored, in the computer's memory or on the device. Everything else is done on the
    device, and nothing waits for it. All methods can be called by several threads, and batches do not depend on it.
    """

    def __init__(
        self,
        clips: Clips | ResidentClips,
        parts: Sequence[np.ndarray],
        views: Callable[[int], Sequence[View]],
        data: DataConfig,
        model: ModelConfig,
        device: torch.device,
        recolour: Recolour | None = None,
        mix: Callable[[int, Images, Labels], tuple[Images, Labels]] | None = None,
        labels: Int64[np.ndarray, " clips"] | Float32[np.ndarray, "clips ..."] | None = None,
        order: Order = "normal",
    ) -> None:
        self._labels = clips.labels if labels is None else labels
        self.clips, self._parts, self._views, self._device = clips, parts, views, device
        self._recolour, self._mix = recolour, mix
        self._order: Order = order
        self._modality, self._around = data.modality, model.backbone.frames_per_segment
        self._shape = (model.frames * self._around, model.size, model.size, 3)
        self._mirrored_label = np.array(data.mirrored()) if data.augment.flip else np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        return (self.make(self.plan(step)) for step in range(len(self)))

    def plan(self, step: int) -> Plan:
        """Choose what a batch is made of, and let the system begin to read it from the disk."""
        part = self._parts[step]
        views = [view._replace(frames=self._to_read(view)) for i in part.tolist() for view in self._views(i)]
        if isinstance(self.clips, Clips):
            self.clips.read_ahead([(view.clip, view.frames.tolist()) for view in views])
        # A clip that an epoch has several times has several numbers.
        return Plan(step, part % len(self._labels), views)

    def make(self, plan: Plan) -> tuple[Images, Labels]:
        """Return the batch of a plan."""
        return self.finish(self.read(plan))

    def read(self, plan: Plan) -> Read:
        """Read the pixels of a batch to the computer's memory, if they are not on the device already."""
        if isinstance(self.clips, ResidentClips):
            return plan, None
        shape = (len(plan.views), *self._shape)
        if self._device.type == "cuda":
            pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        else:
            # numpy asks the system for large pages: writing to those of `torch.empty` takes three times as long.
            pixels = torch.from_numpy(np.empty(shape, np.uint8))
        for view, out in zip(plan.views, pixels.numpy(), strict=True):
            self._copy(self.clips, view, out)
        return plan, pixels

    def finish(self, read: Read) -> tuple[Images, Labels]:
        """Return the batch with these pixels, augmented on the device."""
        (plan, host), recolour = read, self._recolour
        pixels = self._cut_out(plan.views) if host is None else on_device(host, self._device)
        for n, view in enumerate(plan.views):
            if not view.mirrored and not view.operations:
                continue
            frames = pixels[n]
            if view.mirrored:
                frames.copy_(frames.flip(2))
                if self._modality == "flow":
                    frames[..., 0] = 255 - frames[..., 0]  # mirroring reverses the sign of horizontal flow
            if view.operations:
                assert recolour is not None
                changed = recolour(frames.permute(0, 3, 1, 2), view.operations)
                frames.copy_(changed.permute(0, 2, 3, 1))
        labels = self._labels[plan.clips]
        if self._mirrored_label.size:
            mirrored = np.array([view.mirrored for view in plan.views]).reshape(len(labels), -1)[:, 0]
            labels = np.where(mirrored, self._mirrored_label[labels], labels)
        images, labels = pixels.permute(0, 4, 1, 2, 3), torch.from_numpy(labels)
        if self._mix:
            images, labels = self._mix(plan.step, images, labels)
        return images, on_device(labels, self._device)

    def beside(
        self, clips: Clips | ResidentClips, seen: Callable[[View], View], data: DataConfig, model: ModelConfig
    ) -> "Batches":
        """Return the same batches, of what another network sees of the same clips, with the same random choices.

        Args:
            clips: where it reads them.
            seen: returns its view of a clip for one of this network.
            data: modality of its frames.
            model: number and size of its frames.
        """
        still = data.model_copy(update={"augment": AugmentConfig()})  # labels are changed by mirrors here already
        return Batches(
            clips, self._parts, lambda number: [seen(view) for view in self._views(number)], still, model, self._device,
            self._recolour and self._recolour.of_size(model.size), self._mix, self._labels,
        )  # fmt: skip

    def _to_read(self, view: View) -> Int64[np.ndarray, " t"]:
        """Return the frames to read; for differences, each frame and the next, or the last frame twice."""
        num_frames = self.clips.shapes.item(view.clip, 0)
        wanted = surrounding(view.frames, self._around, num_frames)
        if self._modality == "diff":
            wanted = np.stack([wanted, (wanted + 1).clip(max=num_frames - 1)], axis=1).ravel()
        return reordered(wanted, self._order, view.clip)

    def _cut_out(self, views: Sequence[View]) -> UInt8[Tensor, "n t size size 3"]:
        """Return the pixels of each view, neither mirrored nor recoloured, from frames on the device."""
        assert isinstance(self.clips, ResidentClips)
        pixels = torch.empty((len(views), *self._shape), dtype=torch.uint8, device=self._device)
        numbers = on_device(torch.from_numpy(np.stack([view.frames for view in views])), self._device)
        for view, chosen, out in zip(views, numbers, pixels, strict=True):
            top, left, height, width = view.region
            frames = self.clips.frames[view.clip][:, top : top + height, left : left + width].index_select(0, chosen)
            if self._modality == "diff":
                frames = (128 + ((frames[1::2].short() - frames[::2]) >> 1)).to(torch.uint8)
            if (height, width) != self._shape[1:3]:
                frames = scaled(frames.permute(0, 3, 1, 2), self._shape[1]).permute(0, 2, 3, 1)
            out.copy_(frames)
        return pixels

    def _copy(self, clips: Clips, view: View, out: UInt8[np.ndarray, "t size size 3"]) -> None:
        """Write the pixels of a view to ``out``, frame by frame: each is in the processor's cache after its hash."""
        top, left, height, width = view.region
        rows, columns = slice(top, top + height), slice(left, left + width)
        frames = (frame[rows, columns] for frame in clips.frames(view.clip, view.frames.tolist()))
        if self._modality == "diff":
            pairs = zip(frames, frames, strict=True)  # the same iterator twice: (0, 1), (2, 3), ...
            frames = ((128 + ((after.astype(np.int16) - before) >> 1)).astype(np.uint8) for before, after in pairs)
        if (height, width) == self._shape[1:3]:
            for frame, pixels in zip(frames, out, strict=True):
                pixels[...] = frame
        else:
            whole = torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2)
            out[...] = scaled(whole, self._shape[1]).permute(0, 2, 3, 1).numpy()


def train_batches(
    clips: Clips | ResidentClips,
    data: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    device: torch.device = CPU,
) -> Batches:
    """Return one worker's share of a training epoch: each clip once, in random order, augmented.

    With class-balanced sampling (``train.balance``) some clips come several times and others not at all. Order and
    augmentation are seeded by (``train.seed``, ``epoch``) and do not depend on the number of workers, except for the
    mixing of clips. The ``train.batch`` clips of each step are divided among the workers, which all have the same
    number of steps. The last step is smaller if fewer clips remain. It is dropped if a worker would get a single clip,
    unless every step has a single one: batch normalization has no statistics of one clip.

    Args:
        clips: the training split.
        data: sampling of frames, modality and augmentation.
        model: number and size of the frames.
        train: batch size and seed.
        epoch: number of the epoch.
        rank: number of this worker, from 0.
        world: number of workers.
        start: step to start at, to continue an epoch that was interrupted.
        device: where the batches are made.

    Raises:
        UserError: there are too few clips for a step, or the stored frames are smaller than ``model.size``.
    """
    size, augment = model.size, data.augment
    if augment.crop in ("random", "center"):
        check_size(clips, data, size, "model.size")
    order = training_order(clips.labels, train.balance.sampling, np.random.default_rng([train.seed, epoch, 0]))
    sizes = step_sizes(len(clips), train, world)
    steps = [order[i * train.batch : i * train.batch + size] for i, size in enumerate(sizes)]
    recolour = recolour_of(augment, size, device) if augment.color or augment.randaugment else None
    has_mirror = np.array(data.mirrored()) >= 0 if augment.flip else np.empty(0, bool)
    kind, num = data.sampling.kind, model.frames
    seed = _seed_words(train.seed, epoch, 0)

    def views(number: int) -> list[View]:
        # One generator for each clip: augmentation does not depend on the number of workers. 0 is the order's seed.
        own = seed.copy()
        own[-1] = 1 + number
        rng, i = np.random.default_rng(own), number % len(clips)
        num_frames, height, width = clips.shapes[i].tolist()
        frames = training_indices(kind, num_frames, num, rng)
        region = training_region(augment.crop, height, width, size, rng)
        mirrored = augment.flip and rng.random() < 0.5 and bool(has_mirror[clips.labels[i]])
        return [View(i, frames, region, mirrored, recolour.choose(rng) if recolour else ())]

    def mix(step: int, images: Images, labels: Labels) -> tuple[Images, Labels]:
        rng = np.random.default_rng([train.seed, epoch, 0, 1 + start + step, 1 + rank])
        return mixed(images, labels, data.num_classes(), augment, rng)

    mixes = augment.mixup > 0 or augment.cutmix > 0
    parts = [step[rank::world] for step in steps[start:]]
    return Batches(clips, parts, views, data, model, device, recolour, mix if mixes else None)


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
    clips: Clips | ResidentClips,
    data: DataConfig,
    model: ModelConfig,
    batch: int,
    rank: int = 0,
    world: int = 1,
    device: torch.device = CPU,
    order: Order = "normal",
) -> Batches:
    """Return one worker's share of an evaluation: every ``world``-th clip, in order, without augmentation.

    The views of a clip (``data.views``) follow each other, ordered by clip, then by crop. A single view is the centre
    crop of the frames that `vattn.data.sampling.evaluation_indices` returns for a single clip, unless
    ``data.sampling.protocol`` has another rule.

    Args:
        clips: the split to evaluate.
        data: sampling of frames, modality and views.
        model: number and size of the frames.
        batch: views of each step, summed over the workers.
        rank: number of this worker, from 0.
        world: number of workers.
        device: where the batches are made.
        order: order of the frames, see `vattn.data.sampling.reordered`.

    Raises:
        UserError: the stored frames are smaller than ``model.size``.
    """
    asked = data.views
    option = "views.short" if asked.short != "auto" else "views.size"
    check_size(clips, data, asked.needs(model.size), "model.size" if asked.plain else f"data.{option}")
    model = model.model_copy(update={"size": asked.crop(model.size)})
    step = max(batch // world // (asked.clips * asked.crops), 1)

    def views(i: int) -> list[View]:
        num_frames, height, width = clips.shapes[i].tolist()
        regions = view_regions(data, height, width, model.size)
        return [
            View(i, view_frames(data, model, num_frames, clip, late=i % 2 == 1), region)
            for clip in range(asked.clips)
            for region in regions
        ]

    share = np.arange(rank, len(clips), world)
    parts = [share[first : first + step] for first in range(0, len(share), step)]
    return Batches(clips, parts, views, data, model, device, order=order)


def _seed_words(*numbers: int) -> np.ndarray:
    """Return the 32-bit words that numpy derives from a list of seeds: deriving them once for all clips is faster."""
    shifts = (range(0, max(number.bit_length(), 1), 32) for number in numbers)
    words = (number >> shift & 0xFFFFFFFF for number, bits in zip(numbers, shifts, strict=True) for shift in bits)
    return np.fromiter(words, np.uint32)


def check_size(clips: Clips | ResidentClips, data: DataConfig, size: int, path: str) -> None:
    """Raise UserError if a crop of ``size`` pixels, or a shorter side of it, is larger than stored frames."""
    least = int(clips.shapes[:, 1:].min())
    if size > least:
        raise UserError(
            f"must not exceed the stored frames' shorter side, which is {least} pixels, as crops are not enlarged",
            path=path,
            way_out="lower it, or raise data.store.size",
            found=f"{size} and {data.store.size}",
        )

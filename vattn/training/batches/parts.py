"""Batches of parts of untrimmed videos: R-C3D's buffers and Segment-CNN's windows."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from vattn.config import TrialConfig
from vattn.data.augment import training_region
from vattn.data.cache import Clips
from vattn.detection.samples import Part, Samples
from vattn.detection.videos import Video
from vattn.training.batches.loader import Batches, View, check_size, step_sizes
from vattn.training.batches.sources import ResidentClips
from vattn.training.batches.views import view_regions


def training_parts(
    clips: Clips | ResidentClips, every: Sequence[Video], samples: Samples, config: TrialConfig, epoch: int, rank: int,
    world: int, start: int, device: torch.device,
) -> Batches:  # fmt: skip
    """Return one worker's share of a training epoch: each sample once, in random order, with one crop for all frames.

    The arguments are those of `vattn.training.batches.loader.train_batches`. A batch is images and its targets.
    """
    data, size, train = config.data, config.model.size, config.train
    check_size(clips, data, size, "model.size")
    order = np.random.default_rng([train.seed, epoch, 0]).permutation(len(samples.parts))
    sizes = step_sizes(len(order), train, world)
    steps = [order[i * train.batch : i * train.batch + length] for i, length in enumerate(sizes)]

    def views(number: int) -> list[View]:
        part = samples.parts[number]
        rng = np.random.default_rng([train.seed, epoch, 1 + number])
        height, width = clips.shapes[part.video, 1:].tolist()
        region = training_region(data.augment.crop, height, width, size, rng)
        return [View(part.video, every[part.video].stored_frames(part.frames), region, part.mirrored)]

    return _batches(clips, [step[rank::world] for step in steps[start:]], views, config, device, samples.targets)


def test_parts(
    clips: Clips | ResidentClips, every: Sequence[Video], parts: Sequence[Part], config: TrialConfig, rank: int,
    world: int, device: torch.device,
) -> Batches:  # fmt: skip
    """Return one worker's share of an evaluation: images of every ``world``-th part, and the numbers of the parts."""
    data, size = config.data, config.model.size
    check_size(clips, data, size, "model.size")
    step = max(config.train.batch // world, 1)

    def views(number: int) -> list[View]:
        part = parts[number]
        height, width = clips.shapes[part.video, 1:].tolist()
        return [
            View(part.video, every[part.video].stored_frames(part.frames), view_regions(data, height, width, size)[0])
        ]

    share = np.arange(rank, len(parts), world)
    split = [share[first : first + step] for first in range(0, len(share), step)]
    return _batches(clips, split, views, config, device, np.arange(len(parts)))


def _batches(
    clips: Clips | ResidentClips, parts: Sequence[np.ndarray], views: Callable[[int], Sequence[View]],
    config: TrialConfig, device: torch.device, targets: np.ndarray,
) -> Batches:  # fmt: skip
    # The targets of mirrored parts are mirrored already.
    still = config.data.model_copy(update={"augment": config.data.augment.model_copy(update={"flip": False})})
    return Batches(clips, parts, views, still, config.model, device, labels=targets)

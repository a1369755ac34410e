"""The plainest writing of a training epoch's batches: one clip after another, with torchvision's own transforms."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from vattn.config import DataConfig, ModelConfig, TrainConfig
from vattn.data.augment import mixed, training_region
from vattn.data.cache import Clips
from vattn.data.sampling import surrounding, training_indices


def plain_epoch(
    clips: Clips, data: DataConfig, model: ModelConfig, train: TrainConfig, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images, uint8 (N, 3, T, H, W), and labels of each full step of an epoch on one worker."""
    order = np.random.default_rng([train.seed, epoch, 0]).permutation(len(clips))
    for step, first in enumerate(range(0, len(clips) - train.batch + 1, train.batch)):
        pairs = [_clip(clips, data, model, train, epoch, i) for i in order[first : first + train.batch].tolist()]
        images, labels = torch.stack([frames for frames, _ in pairs]), torch.tensor([label for _, label in pairs])
        if data.augment.mixup or data.augment.cutmix:
            rng = np.random.default_rng([train.seed, epoch, 0, 1 + step, 1])
            images, labels = mixed(images, labels, data.num_classes(), data.augment, rng)
        yield images, labels


def _clip(
    clips: Clips, data: DataConfig, model: ModelConfig, train: TrainConfig, epoch: int, i: int
) -> tuple[Tensor, int]:
    augment, rng = data.augment, np.random.default_rng([train.seed, epoch, 1 + i])
    length, height, width = clips.shapes[i].tolist()
    wanted = training_indices(data.sampling.kind, length, model.frames, rng)
    wanted = surrounding(wanted, model.backbone.frames_per_segment, length)
    top, left, rows, columns = training_region(augment.crop, height, width, model.size, rng)
    video = torch.from_numpy(np.array(clips.clip(i))).permute(0, 3, 1, 2)
    frames = video[wanted].int()
    if data.modality == "diff":
        frames = 128 + torch.div(video[(wanted + 1).clip(max=length - 1)].int() - frames, 2, rounding_mode="floor")
    frames = frames[..., top : top + rows, left : left + columns].to(torch.uint8)
    frames = v2.functional.resize(frames.contiguous(memory_format=torch.channels_last), [model.size] * 2)
    label = int(clips.labels[i])
    if augment.flip and rng.random() < 0.5 and data.mirrored()[label] >= 0:
        frames, label = frames.flip(-1), data.mirrored()[label]
        if data.modality == "flow":
            frames[:, 0] = 255 - frames[:, 0]
    transforms: list[v2.Transform] = (
        [v2.RandAugment(augment.randaugment, augment.magnitude)] if augment.randaugment else []
    )
    if augment.color:
        transforms.append(v2.ColorJitter(augment.color, augment.color, augment.color, augment.color / 4))
    if transforms:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            for transform in transforms:
                frames = transform(frames)
    return frames.transpose(0, 1), label

"""How batches were made before several threads made them: the baseline of `bench_data.py`.

One thread makes the next batch; mirrored frames are copied pixel by pixel. Where colours change, torchvision draws from
torch's global generator, so that no thread can work ahead of the training.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from vattn.config import DataConfig, ModelConfig, TrainConfig
from vattn.data.augment import mixed, scaled, training_region
from vattn.data.cache import Clips
from vattn.data.config import AugmentConfig
from vattn.data.sampling import training_indices


def single_thread(
    clips: Clips, data: DataConfig, model: ModelConfig, train: TrainConfig, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch: images, uint8 (N, 3, T, H, W), and labels."""
    batches = _batches(clips, data, model, train, epoch)
    if data.augment.color or data.augment.randaugment:
        yield from batches
        return
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, batches, None)
            yield batch


def _batches(
    clips: Clips, data: DataConfig, model: ModelConfig, train: TrainConfig, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    augment, size = data.augment, model.size
    order = np.random.default_rng([train.seed, epoch, 0]).permutation(len(clips))
    recolour = _Recolour(augment) if augment.color or augment.randaugment else None
    for step, first in enumerate(range(0, len(clips) - train.batch + 1, train.batch)):
        part = order[first : first + train.batch]
        pixels = np.empty((len(part), model.frames, size, size, 3), np.uint8)
        for i, out in zip(part.tolist(), pixels, strict=True):
            rng = np.random.default_rng([train.seed, epoch, 1 + i])
            num_frames, height, width = clips.shapes[i].tolist()
            wanted = training_indices(data.sampling.kind, num_frames, model.frames, rng)
            top, left, rows, columns = training_region(augment.crop, height, width, size, rng)
            mirrored = augment.flip and rng.random() < 0.5
            frames = (frame[top : top + rows, left : left + columns] for frame in clips.frames(i, wanted.tolist()))
            if (rows, columns) == (size, size):
                for frame, target in zip(frames, out, strict=True):
                    if mirrored:
                        target.view("V3")[...] = frame.view("V3")[:, ::-1]
                    else:
                        target[...] = frame
            else:
                whole = scaled(torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
                out[...] = (whole.flip(2) if mirrored else whole).numpy()
            if recolour:
                out[...] = recolour(torch.from_numpy(out).permute(0, 3, 1, 2), rng).permute(0, 2, 3, 1).numpy()
        images, labels = torch.from_numpy(pixels).permute(0, 4, 1, 2, 3), torch.from_numpy(clips.labels[part])
        if augment.mixup or augment.cutmix:
            rng = np.random.default_rng([train.seed, epoch, 0, 1 + step, 1])
            images, labels = mixed(images, labels, data.num_classes(), augment, rng)
        yield images, labels


class _Recolour:
    """Colour jitter and RandAugment by torchvision."""

    def __init__(self, augment: AugmentConfig) -> None:
        self._steps: list[v2.Transform] = []
        if augment.randaugment:
            self._steps.append(v2.RandAugment(augment.randaugment, augment.magnitude))
        if augment.color:
            self._steps.append(v2.ColorJitter(augment.color, augment.color, augment.color, augment.color / 4))

    def __call__(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            for step in self._steps:
                frames = step(frames)
        return frames

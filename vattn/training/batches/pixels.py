"""Pixels as a network takes them."""

from functools import lru_cache

import torch
from torch import Tensor

from vattn.normalization import IMAGENET, Statistics


def normalise(images: Tensor, device: torch.device, statistics: Statistics = IMAGENET) -> Tensor:
    """Convert uint8 clips (N, 3, T, H, W) to float32 on ``device``, normalised by mean and deviation of each channel.

    Statistics of 2 channels are those of optical flow: the third channel of its frames, which carries nothing, is left
    out, and the result is (N, 2, T, H, W).
    """
    mean, std = _constants(device, statistics)
    return images[:, : len(mean)].to(device, non_blocking=True).float().sub_(mean).div_(std)


@lru_cache
def _constants(device: torch.device, statistics: Statistics) -> tuple[Tensor, Tensor]:
    """Return mean and deviation on ``device``, copied there once, because that waits for it."""
    mean, std = (torch.tensor(values, device=device).view(-1, 1, 1, 1) for values in statistics.levels())
    return mean, std

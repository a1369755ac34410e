"""Pixels as a network takes them."""

from functools import cache

import torch
from torch import Tensor

#: Mean of ImageNet's pixels by colour, as torchvision's weights expect it; in units of a uint8 value.
MEAN = (123.675, 116.28, 103.53)
#: Standard deviation of ImageNet's pixels by colour; in units of a uint8 value.
STD = (58.395, 57.12, 57.375)


def normalise(images: Tensor, device: torch.device) -> Tensor:
    """Convert uint8 clips (N, 3, T, H, W) to float32 on ``device``, normalised by ImageNet's mean and deviation."""
    mean, std = _constants(device)
    return images.to(device, non_blocking=True).float().sub_(mean).div_(std)


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation on ``device``, copied there once, because that waits for it."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1, 1) for values in (MEAN, STD))
    return mean, std

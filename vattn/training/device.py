"""The device of a training, and the precision of its arithmetic."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from vattn.config import TrainConfig


def default_device() -> torch.device:
    """Return the process's GPU if it has one, otherwise the CPU. Ray makes a worker's GPU its device 0."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def autocast(train: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of a forward pass in the precision of ``train.amp``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=train.amp == "bf16")

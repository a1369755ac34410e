"""Reference of C2D-Pool, frame by frame."""

import torch
from torch import Tensor

from vattn.modules.c2d_pool import C2DPoolConfig, TemporalPool


def temporal_pool(module: TemporalPool, x: Tensor) -> Tensor:
    reach = module.kernel_size // 2
    frames = [x[:, :, max(t - reach, 0) : t + reach + 1].mean(2) for t in range(x.shape[2])]
    return torch.stack(frames, dim=2)


FORMS = {TemporalPool: temporal_pool}
CONFIGS = [C2DPoolConfig(), C2DPoolConfig(kernel_size=5)]

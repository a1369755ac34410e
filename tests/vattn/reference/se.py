"""Reference of SE, with its two layers as matrices."""

import torch
from torch import Tensor

from vattn.modules.se import SE, SEConfig


def se(module: SE, x: Tensor) -> Tensor:
    squeeze, excite = module.gate.get_parameter("0.weight"), module.gate.get_parameter("2.weight")
    frames = []
    for frame in x.unbind(2):
        pixels = x if module.of_clip else frame
        frames.append(pixels.flatten(2).mean(-1))
    means = torch.stack(frames[:1] if module.of_clip else frames, dim=1)
    gates = torch.sigmoid(torch.relu(means @ squeeze[..., 0].T) @ excite[..., 0].T)
    return x * gates.transpose(1, 2)[..., None, None]


FORMS = {SE: se}
CONFIGS = [SEConfig(), SEConfig(squeeze="clip", reduction=4)]

"""Reference of TEA's motion excitation, frame by frame, and its recordings."""

from typing import Any

import torch
from torch import Tensor

from tests.vattn.golden import Case
from tests.vattn.support import site
from vattn.convert import convert_module
from vattn.modules._fold import fold, unfold
from vattn.modules.tea import MotionExcitation, TEAConfig


def motion_excitation(module: MotionExcitation, x: Tensor) -> Tensor:
    reduced = module.bn1(module.conv1(fold(x)))
    now, after = unfold(reduced, x.shape[2]).unbind(2), unfold(module.conv2(reduced), x.shape[2]).unbind(2)
    differences = [b - a for a, b in zip(now[:-1], after[1:], strict=True)] + [torch.zeros_like(now[-1])]
    mean = torch.stack(differences, dim=2).mean(dim=(-2, -1), keepdim=True)
    gates = unfold(module.bn3(module.conv3(fold(mean))), x.shape[2]).sigmoid()
    return x + x * (gates - 0.5)


FORMS = {MotionExcitation: motion_excitation}
CONFIGS = (TEAConfig(), TEAConfig(reduction=4))


def _alone(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    config = TEAConfig(reduction=c["reduction"])
    net = config.build(site(c["channel"]), c["n_segment"])
    frames = c["n_segment"]
    return Case(net, lambda state: convert_module(state, config), lambda net, x: fold(net(unfold(x, frames))))


GOLDEN = {"TEA-ME": _alone}

"""Reference of TSM, frame by frame, and its recordings."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.vattn.golden import Case
from tests.vattn.support import model, site
from vattn.convert import convert_model
from vattn.insert import Folded, fold, unfold
from vattn.model import build_model
from vattn.modules.tsm import TSM, TSMConfig


def tsm(module: TSM, x: Tensor) -> Tensor:
    t, f = x.shape[2], module.fold
    zeros = torch.zeros_like(x[:, :, 0])
    frames = [zeros, *x.unbind(2), zeros]
    shifted = []
    for i in range(1, t + 1):
        before, now, after = frames[i - 1 : i + 2]
        if module.online:
            shifted.append(torch.cat([before[:, :f], now[:, f:]], dim=1))
        else:
            shifted.append(torch.cat([after[:, :f], before[:, f : 2 * f], now[:, 2 * f :]], dim=1))
    return torch.stack(shifted, dim=2)


FORMS = {TSM: tsm}
CONFIGS = [TSMConfig(), TSMConfig(div=3, position="block"), TSMConfig(div=2), TSMConfig(online=True)]


class _InvertedResidual(nn.Module):
    """The block of MobileNetV2 after the authors' online shift, on (N*T, C, H, W)."""

    def __init__(self, channels: int, expand: int, frames: int, shift: nn.Module) -> None:
        super().__init__()
        wide = channels * expand
        self.shift = Folded(shift, frames)
        self.conv = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.shift(x))


def _alone(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    net = TSMConfig(div=c["n_div"]).build(site(meta["input_shape"][1]), c["n_segment"])
    return Case(net, dict, lambda net, x: fold(net(unfold(x, c["n_segment"]))))


def _online(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    shift = TSMConfig(div=c["channels"] // c["fold"], online=True).build(site(c["channels"]), c["T"])
    return Case(_InvertedResidual(c["channels"], c["expand_ratio"], c["T"], shift), dict)


def _network(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    shift = {"kind": "tsm", "div": c["shift_div"]}
    config = model(shift, depth=50, width=1.0, frames=c["n_segment"], size=meta["input_shape"][-1])
    net = build_model(config, c["num_classes"])
    return Case(net, lambda state: convert_model(state, config), lambda net, x: net.fc(net.backbone(x)), "backbone.")


GOLDEN = {
    "TSM offline shift": _alone,
    "TSM online (uni-directional) InvertedResidualWithShift, frame by frame, zero initial buffer": _online,
    "TSM-ResNet50 blockres": _network,
}

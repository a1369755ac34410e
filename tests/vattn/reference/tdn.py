"""Reference of TDN's long-term module, frame by frame, and the recordings of TDN."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.vattn.golden import Case
from tests.vattn.support import model, site
from vattn.backbones.resnet import Block
from vattn.backbones.resnet_tdn import TDNResNet, add_biases
from vattn.convert import convert_model, convert_module
from vattn.insert import Folded, fold, unfold
from vattn.modules.tdn import LongTermDifference, TDNConfig


def per_frame(layer: nn.Module, x: Tensor) -> Tensor:
    n, c, t, h, w = x.shape
    y = layer(x.permute(0, 2, 1, 3, 4).reshape(n * t, c, h, w))
    return y.view(n, t, *y.shape[1:]).permute(0, 2, 1, 3, 4)


def direction(module: LongTermDifference, now: Tensor, smooth: Tensor, step: int) -> Tensor:
    """Return the sigmoid gate of the difference to frame t + step."""
    frames = range(now.shape[2])
    changes = [smooth[:, :, t + step] - now[:, :, t] if t + step in frames else now[:, :, t] * 0 for t in frames]
    change = torch.stack(changes, dim=2)
    halved = per_frame(module.coarse_norm, per_frame(module.coarse, F.avg_pool3d(change, (1, 2, 2))))
    coarse = F.interpolate(halved, change.shape[2:])
    fine = per_frame(module.fine_norm, per_frame(module.fine, change))
    mean = (change + coarse + fine) / 3
    return torch.sigmoid(per_frame(module.expand_norm, per_frame(module.expand, mean)))


def long_term_difference(module: LongTermDifference, x: Tensor) -> Tensor:
    now = per_frame(module.reduce, x)
    smooth = per_frame(module.smooth, now)
    gate = (direction(module, now, smooth, 1) - 0.5 + direction(module, now, smooth, -1) - 0.5) / 2
    return x + x * gate


FORMS = {LongTermDifference: long_term_difference}
CONFIGS = [TDNConfig(), TDNConfig(shift=False), TDNConfig(reduction=4, div=4)]


def without_gradient(config: TDNConfig) -> set[str]:
    """Return the parameters without a gradient: the last norm cancels a constant that is added to all pixels."""
    return {("difference." if config.shift else "") + name for name in ("coarse_norm.bias", "fine_norm.bias")}


def _alone(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    config = TDNConfig(shift=False, reduction=c["reduction"])
    net = config.build(site(c["channel"]), c["n_segment"])
    return Case(
        net,
        lambda state: convert_module(state, config),
        lambda net, x: fold(net(unfold(x, c["n_segment"]))),
    )


def _block(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    planes, frames = c["planes"], c["num_segments"]
    net = Block(c["inplanes"], planes, 4 * planes, c.get("stride", 1), bottleneck=True)
    add_biases(net)
    config = TDNConfig(reduction=c.get("reduction", 16))
    net.at["b"] = nn.Sequential(Folded(config.build(site(planes), frames), frames))
    network = model(config.tree(), depth=50, size=64)

    def converted(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        at = "backbone.layer2.0."
        named = {f"layer2.0.{name}": value for name, value in state.items()}
        return {name.removeprefix(at): value for name, value in convert_model(named, network).items()}

    return Case(net, converted)


def _short_term(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    c.seen_in_parameters("layer1")
    names = dict(meta["param_names"])
    backbone = {"kind": "resnet_tdn", "depth": 50, "keep": c["apha"]}
    assert c["belta"] == 1 - c["apha"]
    config = model(backbone=backbone)
    net = config.backbone.build()
    assert isinstance(net, TDNResNet)
    outputs, stem = names["layer1_bak.0.weight"][:2]
    net.layer1, net.short_layer1 = (nn.Sequential(nn.Conv2d(stem, outputs, 1)) for _ in range(2))
    net.layer2 = net.layer3 = net.layer4 = nn.Sequential()

    def converted(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name.removeprefix("backbone."): value for name, value in convert_model(state, config).items()}

    return Case(net, converted, lambda net, x: net.res2(x.unflatten(1, (5, 3)).flatten(0, 1)).flatten(1))


GOLDEN = {
    "TDN long-term (L-TDM, mSEModule)": _alone,
    "TDN BottleneckShift block": _block,
    "TDN short-term (S-TDM front end + layer1 fusion)": _short_term,
}

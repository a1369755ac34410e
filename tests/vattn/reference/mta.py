"""Reference of MTA, split by split and frame by frame, and the recordings of TEA's block."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.vattn.golden import Case
from tests.vattn.support import site
from vattn.backbones.resnet import Block
from vattn.insert import Folded
from vattn.modules._fold import fold, unfold
from vattn.modules._temporal import LearnableShift
from vattn.modules.mta import MTA, MTAConfig
from vattn.modules.tea import TEAConfig
from vattn.weights import rename


def over_time(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve each channel of every pixel over time with 3 taps, zero padded."""
    n, c, t, h, w = x.shape
    rows = x.permute(0, 3, 4, 1, 2).reshape(n * h * w, c, t)
    return F.conv1d(rows, weight, padding=1, groups=c).view(n, h, w, c, t).permute(0, 3, 4, 1, 2)


def mta(module: MTA, x: Tensor) -> Tensor:
    t, width = x.shape[2], x.shape[1] // len(module.shifts)
    splits = x.split(width, dim=1)
    outputs = []
    for i, (conv, bn) in enumerate(zip(module.convs, module.bns, strict=True)):
        total = splits[i] if module.first or i == 0 else splits[i] + outputs[i - 1]
        outputs.append(unfold(bn(conv(fold(over_time(total, module.shifts[i].get_parameter("weight"))))).relu(), t))
    last = over_time(splits[-1], module.shifts[-1].get_parameter("weight"))
    if module.first:
        last = unfold(nn.AvgPool2d(3, module.stride, padding=1)(fold(last)), t)
    return torch.cat([*outputs, last], dim=1)


FORMS = {MTA: mta}
CONFIGS = [MTAConfig(), MTAConfig(splits=2)]


def _block(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    frames, splits, first = c["n_segment"], c["scale"], c["stype"] == "stage"
    middle = splits * (c["planes"] * c["baseWidth"] // 64)
    tea, mta = TEAConfig(reduction=c.get("reduction", 16)), MTAConfig(splits=splits)
    net = Block(c["inplanes"], middle, 4 * c["planes"], c["stride"], bottleneck=True)
    net.at["b"] = nn.Sequential(Folded(tea.build(site(middle), frames), frames))
    layer = site(middle, position="conv2", stride=c["stride"], block=0 if first else 1)
    net.replace_conv2(Folded(mta.build(layer, frames), frames))
    # The rules expect the names of a whole network.
    rules = [(r"^", "layer1.0."), *tea.authors_network, *mta.authors_network, *mta.authors_names, (r"^layer1\.0\.", "")]
    return Case(net, lambda state: rename(state, rules))


def _shift(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    frames = c["n_segment"]
    net = LearnableShift(c["input_channels"], c["n_div"])
    if c["mode"] == "fixed":
        net.init_identity()
    return Case(
        net,
        lambda state: rename(state, [(r"^conv\.", "")]),
        lambda net, x: fold(net(unfold(x, frames))),
    )


GOLDEN = {"TEA block (ME+MTA, Bottle2neckShift)": _block, "TEA ShiftModule": _shift}

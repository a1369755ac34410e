"""MobileNetV2, with torchvision's layers and names.

Source: Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018
(arXiv:1801.04381).
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vattn.backbones._base import (
    POSITIONS,
    Backbone,
    BackboneConfig,
    Conv,
    Part,
    conv_out,
    load_weights,
    part_of,
    slots,
)
from vattn.modules._base import Site

#: Expansion factor, channels, number of blocks and stride of the first block, for each group of blocks (the paper's
#: Table 2).
_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
#: The last part of a name in a state dict.
_LAST = r"(\w+)$"


class MobileNetV2Config(BackboneConfig, kind="mobilenet_v2"):
    """MobileNetV2. As in a ResNet, stage k contains everything at 1 / 2^k of the image's side.

    Sites are in the blocks with both an expansion and a shortcut, which are numbered within each stage: stages 2 to 5
    have 1, 2, 5 and 2 of them at width 1. Position a is before the expanding convolution, b after it, c after the
    depthwise convolution, and d after the last norm, before the sum. Position block is before the shortcut splits off.
    """

    kind: Literal["mobilenet_v2"] = "mobilenet_v2"
    width: float = Field(
        1.0, gt=0, le=8, description="factor on the channels of every layer, rounded to multiples of 8"
    )

    # For the network that the authors of TSM, M2A and ACTION-Net build around their mechanisms. There, each block is
    # one flat sequence, and the first convolution of a block is wrapped.
    authors_network = (
        (r"(features\.\d+\.conv)\.0\.(net|1)\.weight$", r"\1.0.weight"),
        (r"(features\.\d+)\.conv\.0\.(0\.(?!weight$)|(?=action_))", r"\1.at.a.0.module."),
        (rf"(features\.\d+\.conv)\.0\.{_LAST}", r"\1.0.0.\2"),
        (rf"(features\.\d+\.conv)\.1\.{_LAST}", r"\1.0.1.\2"),
        (rf"(features\.1\.conv)\.3\.{_LAST}", r"\1.1.\2"),
        (rf"(features\.1\.conv)\.4\.{_LAST}", r"\1.2.\2"),
        (rf"(features\.(?!1\.)\d+\.conv)\.3\.{_LAST}", r"\1.1.0.\2"),
        (rf"(features\.(?!1\.)\d+\.conv)\.4\.{_LAST}", r"\1.1.1.\2"),
        (rf"(features\.\d+\.conv)\.6\.{_LAST}", r"\1.2.\2"),
        (rf"(features\.\d+\.conv)\.7\.{_LAST}", r"\1.3.\2"),
    )

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        if self.weights == "default" and self.width != 1:
            raise ValueError(
                "weights: default has width 1; write none, or the path of your own file "
                f"(got width {self.width:g})"
            )  # fmt: skip
        return self

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites block by block."""
        return _sites(self, size)

    def channels(self) -> int:
        """Return the length of the feature vector: 1280, or more for widths above 1."""
        return _rounded(1280 * max(1.0, self.width))

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost by stage.

        Stage 1 includes the first block, which has no expansion. Stage 5 includes the last convolution.
        """
        return tuple(part.of_images(frames) for part in _parts_of_one_image(self, size))

    def build(self) -> "MobileNetV2":
        """Return the network with its initial weights."""
        net = MobileNetV2(self)
        load_weights(net, self, "mobilenet_v2")
        return net


class _Shape(NamedTuple):
    """The shape of one block: input, hidden and output channels; input and output side in pixels.

    ``block`` is its number among the blocks with sites in its stage, or None if it has none.
    """

    stage: int
    block: int | None
    inputs: int
    hidden: int
    outputs: int
    stride: int
    side_in: int
    side_out: int


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8, or the next larger one if the nearest is less than 90 % of ``channels``."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _shapes(config: MobileNetV2Config, size: int) -> Iterator[_Shape]:
    """Yield the blocks for images of ``size`` x ``size`` pixels, in the order of the forward pass."""
    inputs, side, stage, numbered = _rounded(32 * config.width), conv_out(size, 3, 2), 1, 0
    for expansion, channels, blocks, first_stride in _GROUPS:
        outputs = _rounded(channels * config.width)
        for stride in [first_stride] + [1] * (blocks - 1):
            if stride == 2:
                stage, numbered = stage + 1, 0
            block = numbered if expansion > 1 and stride == 1 and inputs == outputs else None
            numbered += block is not None
            side_out = conv_out(side, 3, stride)
            yield _Shape(stage, block, inputs, inputs * expansion, outputs, stride, side, side_out)
            inputs, side = outputs, side_out


@cache
def _sites(config: MobileNetV2Config, size: int) -> tuple[Site, ...]:
    sites = []
    for s in _shapes(config, size):
        if s.block is not None:
            channels = {"block": s.inputs, "a": s.inputs, "b": s.hidden, "c": s.hidden, "d": s.outputs}
            sites += [Site(s.stage, s.block, p, channels[p], s.side_in, s.side_in) for p in POSITIONS]
    return tuple(sites)


@cache
def _parts_of_one_image(config: MobileNetV2Config, size: int) -> tuple[Part, ...]:
    shapes = tuple(_shapes(config, size))
    first, last = shapes[0], shapes[-1]
    convs: dict[int, list[Conv]] = {stage: [] for stage in (1, *config.stages())}
    convs[1].append(Conv(3, first.inputs, 9, first.side_in))
    for s in shapes:
        if s.hidden > s.inputs:
            convs[s.stage].append(Conv(s.inputs, s.hidden, 1, s.side_in))
        convs[s.stage] += [Conv(1, s.hidden, 9, s.side_out), Conv(s.hidden, s.outputs, 1, s.side_out)]
    convs[last.stage].append(Conv(last.outputs, config.channels(), 1, last.side_out))
    return tuple(part_of(stage, its, kept=3 * size**2 if stage == 1 else 0) for stage, its in convs.items())


class _ReLU6(torch.autograd.Function):
    """ReLU6 that keeps its output for the gradient, as ReLU does, instead of its input.

    The next convolution keeps this tensor anyway. Torch's ReLU6 keeps its input too.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.relu6(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # The gradient depends only on which values are at or beyond the bounds, and the output shows this as well.
        return torch.ops.aten.hardtanh_backward(grads[0], *ctx.saved_tensors, 0.0, 6.0)


class ReLU6(nn.Module):
    """min(max(x, 0), 6)."""

    def forward(self, x: Tensor) -> Tensor:
        return _ReLU6.apply(x)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        ReLU6(),
    )


class Block(nn.Module):
    """An inverted residual block (1x1, depthwise 3x3, 1x1 without activation function), with its sites.

    Shape: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expands = hidden > inputs
        self.shortcut = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([_conv(inputs, hidden, 1)] if self.expands else []),
            _conv(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.at = slots()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        if not self.shortcut:
            return self.conv(x)
        if not self.expands:
            return x + self.conv(x)
        x = self.at["block"](x)
        expand, depthwise, project, norm = self.conv
        y = self.at["b"](expand(self.at["a"](x)))
        y = self.at["c"](depthwise(y))
        return x + self.at["d"](norm(project(y)))


class MobileNetV2(Backbone):
    """Stem, 17 blocks, 1x1 convolution, global average pool.

    Shape: (N, 3, H, W) -> (N, channels).
    """

    def __init__(self, config: MobileNetV2Config) -> None:
        super().__init__()
        self.channels = config.channels()
        shapes = tuple(_shapes(config, size=224))
        blocks = [Block(s.inputs, s.hidden, s.outputs, s.stride) for s in shapes]
        self.features = nn.Sequential(
            _conv(3, shapes[0].inputs, 3, stride=2), *blocks, _conv(shapes[-1].outputs, self.channels, 1)
        )
        self._stages = [1, *(s.stage for s in shapes), shapes[-1].stage]
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self._block_at = {(s.stage, s.block): block for s, block in zip(shapes, blocks, strict=True)}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def maps(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c i j"]:
        return self.features(images)

    def stage_of(self, name: str) -> int:
        """Return the stage of a module or parameter; the last convolution belongs to the last."""
        feature = re.match(r"features\.(\d+)", name)
        return self._stages[int(feature[1])] if feature else 1

    def block(self, site: Site) -> nn.Module:
        """Return the block that contains ``site``."""
        return self._block_at[site.stage, site.block]

"""ShuffleNetV2, with torchvision's layers and names.

Source: Ma, Zhang, Zheng and Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018
(arXiv:1807.11164).
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
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

#: Channels of the three stages and of the last convolution, by width (the paper's Table 5).
_CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
#: Channels of the stem at every width.
_STEM = 24
#: Number of blocks, by stage.
_BLOCKS = {3: 4, 4: 8, 5: 4}


class ShuffleNetV2Config(BackboneConfig, kind="shufflenet_v2"):
    """ShuffleNetV2. Stage k is torchvision's stage k - 1.

    As in a ResNet, stage k has 1 / 2^k of the image's side. Stages 3, 4 and 5 have 4, 8 and 4 blocks, stage 2 has none.
    Mechanisms are in the branch with three convolutions, which takes the role of the residual path: position a is
    before its first convolution, b after it, c after the depthwise convolution, and d at its end, before the
    concatenation. Position block is before the two branches split.
    """

    kind: Literal["shufflenet_v2"] = "shufflenet_v2"
    width: float = Field(1.0, description="factor on the channels of every layer: 0.5, 1, 1.5 or 2")

    @field_validator("width")
    @classmethod
    def _published(cls, width: float) -> float:
        if width not in _CHANNELS:
            raise ValueError("the paper gives channels for 0.5, 1, 1.5 and 2; take one of them")
        return width

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites block by block."""
        return _sites(self, size)

    def channels(self) -> int:
        """Return the length of the feature vector."""
        return _CHANNELS[self.width][-1]

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of the stem and of three stages; the last convolution belongs to stage 5."""
        return tuple(part.of_images(frames) for part in _parts_of_one_image(self, size))

    def build(self) -> "ShuffleNetV2":
        """Return the network with its initial weights."""
        net = ShuffleNetV2(self)
        published = f"shufflenet_v2_x{self.width:.1f}".replace(".", "_")
        load_weights(net, self, published)
        return net


class _Shape(NamedTuple):
    """The shape of one block: input and output channels, input and output side in pixels."""

    stage: int
    block: int
    inputs: int
    outputs: int
    stride: int
    side_in: int
    side_out: int

    @property
    def branch_inputs(self) -> int:
        """Input channels of the branch with three convolutions: all if the block has a stride, else half of them."""
        return self.inputs if self.stride > 1 else self.half

    @property
    def half(self) -> int:
        """Output channels of each branch."""
        return self.outputs // 2


def _shapes(config: ShuffleNetV2Config, size: int) -> Iterator[_Shape]:
    """Yield the blocks for images of ``size`` x ``size`` pixels, in the order of the forward pass."""
    inputs, side = _STEM, conv_out(conv_out(size, 3, 2), 3, 2)
    for (stage, blocks), outputs in zip(_BLOCKS.items(), _CHANNELS[config.width], strict=False):
        for block in range(blocks):
            stride = 2 if block == 0 else 1
            side_out = conv_out(side, 3, stride)
            yield _Shape(stage, block, inputs, outputs, stride, side, side_out)
            inputs, side = outputs, side_out


@cache
def _sites(config: ShuffleNetV2Config, size: int) -> tuple[Site, ...]:
    sites = []
    for s in _shapes(config, size):
        features = {
            "block": (s.inputs, s.side_in),
            "a": (s.branch_inputs, s.side_in),
            "b": (s.half, s.side_in),
            "c": (s.half, s.side_out),
            "d": (s.half, s.side_out),
        }
        for position in POSITIONS:
            channels, side = features[position]
            sites.append(Site(s.stage, s.block, position, channels, side, side))
    return tuple(sites)


@cache
def _parts_of_one_image(config: ShuffleNetV2Config, size: int) -> tuple[Part, ...]:
    side = conv_out(size, 3, 2)
    # The image; the pool's output and its indices.
    stem_kept = 3 * size**2 + 2 * _STEM * conv_out(side, 3, 2) ** 2
    parts = [part_of(1, [Conv(3, _STEM, 9, side)], stem_kept)]
    shapes = tuple(_shapes(config, size))
    for stage in _BLOCKS:
        convs, kept = [], 0
        for s in (s for s in shapes if s.stage == stage):
            convs += [Conv(s.branch_inputs, s.half, 1, s.side_in), Conv(1, s.half, 9, s.side_out)]
            convs += [Conv(s.half, s.half, 1, s.side_out)]
            if s.stride > 1:
                convs += [Conv(1, s.inputs, 9, s.side_out), Conv(s.inputs, s.half, 1, s.side_out)]
            # The shuffled channels, which the next convolution needs.
            kept += s.outputs * s.side_out**2
            if s is shapes[-1]:
                convs.append(Conv(s.outputs, config.channels(), 1, s.side_out))
        parts.append(part_of(stage, convs, kept))
    return tuple(parts)


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a 1x1 convolution, or a depthwise one if ``kernel`` is larger, and its norm."""
    groups = inputs if kernel > 1 else 1
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs)


class Block(nn.Module):
    """A unit of two branches followed by the channel shuffle, with its sites.

    With stride 1, the first half of the channels is unchanged and the second half passes three convolutions. With
    stride 2, the input of each branch is all channels.

    Shape: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1.extend(
                [*_conv(inputs, inputs, 3, stride), *_conv(inputs, half), nn.ReLU(inplace=True)]
            )  # fmt: skip
        self.branch2 = nn.Sequential(
            *_conv(inputs if stride > 1 else half, half), nn.ReLU(inplace=True),
            *_conv(half, half, 3, stride), *_conv(half, half), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.splits = stride == 1
        self.at = slots()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        x = self.at["block"](x)
        passing, y = x.chunk(2, dim=1) if self.splits else (self.branch1(x), x)
        conv1, norm1, relu1, conv2, norm2, conv3, norm3, relu3 = self.branch2
        y = self.at["b"](relu1(norm1(conv1(self.at["a"](y)))))
        y = self.at["c"](norm2(conv2(y)))
        y = self.at["d"](relu3(norm3(conv3(y))))
        return shuffled(passing, y)


def shuffled(first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
    """Return the channels of both, interleaved, in one copy, in the memory format ``channels_last``."""
    pairs = torch.stack((first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)), dim=-1)
    return pairs.flatten(-2).permute(0, 3, 1, 2)


class ShuffleNetV2(Backbone):
    """Stem, three stages, 1x1 convolution, global average pool.

    Shape: (N, 3, H, W) -> (N, channels).
    """

    def __init__(self, config: ShuffleNetV2Config) -> None:
        super().__init__()
        self.channels = config.channels()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, _STEM, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(_STEM), nn.ReLU(inplace=True)
        )  # fmt: skip
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        layers: dict[int, list[Block]] = {stage: [] for stage in _BLOCKS}
        for s in _shapes(config, size=224):
            layers[s.stage].append(Block(s.inputs, s.outputs, s.stride))
        self.stage2, self.stage3, self.stage4 = (nn.Sequential(*blocks) for blocks in layers.values())
        self.conv5 = nn.Sequential(*_conv(_CHANNELS[config.width][2], self.channels), nn.ReLU(inplace=True))
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def maps(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c i j"]:
        x = self.maxpool(self.conv1(images))
        return self.conv5(self.stage4(self.stage3(self.stage2(x))))

    def stage_of(self, name: str) -> int:
        """Return the stage of a module or parameter; the last convolution belongs to the last."""
        stage = re.match(r"stage(\d)", name)
        return int(stage[1]) + 1 if stage else 5 if name.startswith("conv5") else 1

    def block(self, site: Site) -> nn.Module:
        """Return the block that contains ``site``."""
        return self.get_submodule(f"stage{site.stage - 1}.{site.block}")

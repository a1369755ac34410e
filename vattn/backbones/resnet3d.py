"""3D ResNet and 3D ResNeXt, and the network that the other residual networks of 3D convolutions share.

Source: Hara, Kataoka and Satoh, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?", CVPR 2018
(arXiv:1711.09577). Stage 2 is the authors' layer1.
"""

from collections.abc import Iterator
from functools import cache
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vattn.backbones._base import (
    Backbone,
    Conv3,
    Part,
    conv_out,
    init_3d_convolutions,
    load_weights,
    part_of_clip,
    slots,
)
from vattn.backbones._residual import (
    BlockShape,
    ResidualBlock,
    ResidualConfig,
    shapes_after_stem,
    sites_in,
)
from vattn.modules._base import Site


class ResNet3DConfig(ResidualConfig, kind="resnet3d"):
    """A 3D ResNet: all kernels are cubes, and all strides but that of the stem's convolution are temporal too.

    Depths 10, 18 and 34 have basic blocks, the others bottlenecks.
    """

    kind: Literal["resnet3d"] = "resnet3d"
    depth: Literal[10, 14, 18, 34, 50, 101, 152] = Field(
        description="number of layers: 10, 18 and 34 have basic blocks, the others bottlenecks; 10 and 14 have one "
        "block per stage"
    )
    shortcut: Literal["A", "B"] = Field(
        "B",
        description="shortcut of a block that changes the size or the number of channels; A: every second place and "
        "further channels of zeros; B: a 1x1x1 convolution",
    )

    folds: ClassVar[bool] = False
    has_published_weights: ClassVar[bool] = False
    #: Temporal kernel size of the stem, frames.
    stem_frames: ClassVar[int] = 7
    #: What the pool after the stem halves: frames and pixels (clip), or only pixels (frame); none: there is no pool.
    pool: ClassVar[Literal["clip", "frame", "none"]] = "clip"
    #: Convolutions pad in time by repeating the first and the last frame, not with zeros.
    repeats_frames: ClassVar[bool] = False
    #: A 3x3x3 convolution is replaced by a spatial and a temporal convolution.
    factorized: ClassVar[bool] = False

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites block by block. The first 3x3x3 convolution of a block has the stride."""
        return sites_in(self, size, _shapes, strides_first=not self.bottleneck)

    def frames_at(self, site: Site, frames: int) -> int:
        """Return the number of frames at a site.

        Each stage after res2 halves it, rounded up, in the convolution with the stride.
        """
        before = ("block", "a", "b") if self.bottleneck else ("block", "a")
        before_stride = site.block == 0 and site.position in before
        return self.frames_after(site.stage - 1 if before_stride and site.stage > 2 else site.stage, frames)

    def frames_after(self, stage: int, frames: int) -> int:
        """Return the number of frames at the output of a stage; stage 1 is the stem with its pool."""
        for _ in range((self.pool == "clip") + max(0, stage - 2)):
            frames = conv_out(frames, 3, 2)
        return frames

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of the stem and of four stages."""
        return _parts(self, size, frames)

    def build(self) -> "ResNet3D":
        """Return the network with its initial weights."""
        net = ResNet3D(self)
        load_weights(net, self.weights, "", classifier="fc.")
        return net


class ResNeXt3DConfig(ResNet3DConfig, kind="resnext3d"):
    """A 3D ResNeXt: the 3x3x3 convolutions are grouped and have half as many channels as a block's output."""

    kind: Literal["resnext3d"] = "resnext3d"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[14, 50, 101, 152] = Field(101, description="number of layers; 14 has one block per stage")
    cardinality: int = Field(
        32, ge=1, le=256, description="number of groups of a 3x3x3 convolution; it divides the channels"
    )

    @property
    def groups(self) -> int:
        """Number of groups of a bottleneck's 3x3x3 convolution."""
        return self.cardinality

    @model_validator(mode="after")
    def _groups_divide_the_channels(self) -> Self:
        if any(self.planes(stage) % self.cardinality for stage in self.stages()):
            planes = ", ".join(str(self.planes(stage)) for stage in self.stages())
            raise ValueError(
                f"cardinality: must divide the channels of each stage, {planes} at width {self.width:g}; take another "
                f"cardinality or width (got {self.cardinality})"
            )
        return self

    def planes(self, stage: int) -> int:
        """Return the number of channels of a stage's 3x3x3 convolutions."""
        return 2 * self.base(stage)


def _middle(inputs: int, outputs: int, pixels: int) -> int:
    return 3 * pixels * inputs * outputs // (pixels * inputs + 3 * outputs)


def _block_middle(s: BlockShape) -> int:
    """Return the channels between the spatial and the temporal convolution of a block.

    With them, both together have about as many weights as the 3x3x3 convolution that they replace.
    """
    return _middle(s.inputs, s.planes, 9)


def _stem_middle(config: ResNet3DConfig) -> int:
    """Return the channels between the convolutions of a factorized stem; torchvision has 45 for 64 outputs."""
    return 45 * config.base(2) // 64


def _shapes(config: ResNet3DConfig, size: int) -> Iterator[BlockShape]:
    """Yield the blocks for clips of ``size`` x ``size`` pixels, in the order of the forward pass."""
    side = conv_out(size, 7, 2)
    return shapes_after_stem(config, side if config.pool == "none" else conv_out(side, 3, 2))


@cache
def _parts(config: ResNet3DConfig, size: int, frames: int) -> tuple[Part, ...]:
    stem, side = config.base(2), conv_out(size, 7, 2)
    if config.factorized:
        middle = _stem_middle(config)
        convs = [Conv3(3, middle, 49, frames * side**2), Conv3(middle, stem, 3, frames * side**2)]
    else:
        convs = [Conv3(3, stem, 49 * config.stem_frames, frames * side**2)]
    kept = 3 * _padded(config, frames) * size**2
    if config.pool != "none":
        # The pool's indices, and its output unless the first convolution keeps a padded copy of it instead.
        copied = config.repeats_frames and not config.bottleneck
        kept += (1 if copied else 2) * stem * config.frames_after(1, frames) * conv_out(side, 3, 2) ** 2
    parts = [part_of_clip(1, convs, kept=kept)]
    for stage in config.stages():
        convs, shortcuts, kept = [], [], 0
        for s in (s for s in _shapes(config, size) if s.stage == stage):
            after = config.frames_after(stage, frames)
            before = after if s.stride == 1 else config.frames_after(stage - 1, frames)
            places, middle = after * s.side_out**2, _block_middle(s)
            if config.bottleneck:
                convs.append(Conv3(s.inputs, s.planes, 1, before * s.side_in**2))
                convs += _cube_cost(config, s.planes, s.planes, middle, before, after, s.side_out)
                convs.append(Conv3(s.planes, s.outputs, 1, places))
                cubes = [(s.planes, before, s.side_in)]
            else:
                convs += _cube_cost(config, s.inputs, s.planes, middle, before, after, s.side_out)
                convs += _cube_cost(config, s.planes, s.outputs, middle, after, after, s.side_out)
                cubes = [(s.inputs, before, s.side_in), (s.planes, after, s.side_out)]
            if config.repeats_frames:
                # The convolutions keep padded copies of their inputs.
                kept += sum(channels * _padded(config, t) * side**2 for channels, t, side in cubes)
            if s.resizes and config.shortcut == "B":
                shortcuts.append(Conv3(s.inputs, s.outputs, 1, places))
        parts.append(part_of_clip(stage, convs, shortcuts, kept))
    return tuple(parts)


def _padded(config: ResNet3DConfig, frames: int) -> int:
    """Return the number of frames with the padding that is stored: one frame at each end, if it repeats frames."""
    return frames + 2 * config.repeats_frames


def _cube_cost(
    config: ResNet3DConfig, inputs: int, outputs: int, middle: int, before: int, after: int, side: int
) -> list[Conv3]:
    """Return the convolutions that a 3x3x3 convolution consists of, from ``before`` frames to ``after``."""
    if config.factorized:
        return [Conv3(inputs, middle, 9, before * side**2), Conv3(middle, outputs, 3, after * side**2)]
    return [Conv3(inputs // config.groups, outputs, 27, after * side**2)]


class RepeatedEnds(nn.Conv3d):
    """A convolution over 3 frames that pads in time by repeating the end frames; ``padding`` is spatial."""

    def forward(self, input: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d s i j"]:
        # Padding by torch's replication would keep its input for the gradient too.
        return super().forward(torch.cat([input[:, :, :1], input, input[:, :, -1:]], dim=2))


def _conv(
    config: ResNet3DConfig, inputs: int, outputs: int, frames: int, pixels: int, stride: tuple[int, int],
    groups: int = 1,
) -> nn.Conv3d:  # fmt: skip
    """Return a convolution over ``frames`` x ``pixels`` x ``pixels``; ``stride`` is (in time, in space)."""
    across_time, across_pixels = stride
    kind = RepeatedEnds if config.repeats_frames and frames > 1 else nn.Conv3d
    return kind(
        inputs, outputs, (frames, pixels, pixels), (across_time, across_pixels, across_pixels),
        padding=(0 if kind is RepeatedEnds else frames // 2, pixels // 2, pixels // 2), groups=groups, bias=False,
    )  # fmt: skip


def _factors(
    config: ResNet3DConfig, inputs: int, middle: int, outputs: int, pixels: int, stride: tuple[int, int]
) -> nn.Sequential:
    """Return a spatial convolution, norm, ReLU and a temporal convolution."""
    return nn.Sequential(
        _conv(config, inputs, middle, 1, pixels, (1, stride[1])), nn.BatchNorm3d(middle), nn.ReLU(inplace=True),
        _conv(config, middle, outputs, 3, 1, (stride[0], 1)),
    )  # fmt: skip


class ZeroChannels(nn.Module):
    """Shortcut A: every ``stride``-th place in time and space, padded with channels of zeros.

    Shape: (N, C, T, H, W) -> (N, ``outputs``, T / stride, H / stride, W / stride), rounded up.
    """

    def __init__(self, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d s i j"]:
        s = self.stride
        return F.pad(x[:, :, ::s, ::s, ::s], (0, 0, 0, 0, 0, 0, 0, self.outputs - x.shape[1]))


class Block3D(ResidualBlock):
    """A residual block, basic (two 3x3x3 convolutions) or bottleneck (1x1x1, 3x3x3, 1x1x1), with its sites.

    Shape: (N, inputs, T, H, W) -> (N, outputs, T / stride, H / stride, W / stride), rounded up.
    """

    def __init__(self, config: ResNet3DConfig, s: BlockShape) -> None:
        super().__init__()

        def cube(inputs: int, outputs: int, stride: int) -> nn.Module:
            if config.factorized:
                return _factors(config, inputs, _block_middle(s), outputs, 3, (stride, stride))
            return _conv(config, inputs, outputs, 3, 3, (stride, stride), config.groups)

        if config.bottleneck:
            self.conv1 = nn.Conv3d(s.inputs, s.planes, 1, bias=False)
            self.bn1 = nn.BatchNorm3d(s.planes)
            self.conv2 = cube(s.planes, s.planes, s.stride)
            self.bn2 = nn.BatchNorm3d(s.planes)
            self.conv3 = nn.Conv3d(s.planes, s.outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm3d(s.outputs)
        else:
            self.conv1 = cube(s.inputs, s.planes, s.stride)
            self.bn1 = nn.BatchNorm3d(s.planes)
            self.conv2 = cube(s.planes, s.outputs, 1)
            self.bn2 = nn.BatchNorm3d(s.outputs)
        self.relu, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        if not s.resizes:
            self.downsample = None
        elif config.shortcut == "A":
            self.downsample = ZeroChannels(s.outputs, s.stride)
        else:
            self.downsample = nn.Sequential(
                nn.Conv3d(s.inputs, s.outputs, 1, s.stride, bias=False), nn.BatchNorm3d(s.outputs)
            )
        self.bottleneck = config.bottleneck
        self.at = slots()


class ResNet3D(Backbone):
    """Stem, four stages, global average pool over frames and pixels.

    Shape: (N, 3, T, H, W) -> (N, channels).
    """

    def __init__(self, config: ResNet3DConfig) -> None:
        super().__init__()
        stem = config.base(2)
        self.conv1: nn.Module
        if config.factorized:
            self.conv1 = _factors(config, 3, _stem_middle(config), stem, 7, (1, 2))
        else:
            self.conv1 = _conv(config, 3, stem, config.stem_frames, 7, (1, 2))
        self.bn1 = nn.BatchNorm3d(stem)
        self.relu = nn.ReLU(inplace=True)
        if config.pool == "none":
            self.maxpool = nn.Identity()
        else:
            frames = 3 if config.pool == "clip" else 1
            self.maxpool = nn.MaxPool3d((frames, 3, 3), ((frames + 1) // 2, 2, 2), (frames // 2, 1, 1))
        layers: list[list[Block3D]] = [[], [], [], []]
        for s in _shapes(config, size=112):
            layers[s.stage - 2].append(Block3D(config, s))
        self.layer1, self.layer2, self.layer3, self.layer4 = (nn.Sequential(*blocks) for blocks in layers)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.channels = config.channels()
        init_3d_convolutions(self)

    def maps(self, images: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n c s i j"]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

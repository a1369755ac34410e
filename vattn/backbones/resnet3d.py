"""3D ResNet and 3D ResNeXt, and the network that the other residual networks of 3D convolutions share.

Source: Hara, Kataoka and Satoh, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?", CVPR 2018
(arXiv:1711.09577). Stage 2 is the authors' layer1.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
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
from vattn.base import LATER
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
    inputs: Literal[2, 3] = Field(
        3,
        json_schema_extra=LATER,
        description="channels of a frame: 3 colours, or 2 for optical flow (data.modality: flow)",
    )

    folds: ClassVar[bool] = False
    has_published_weights: ClassVar[bool] = False
    detects: ClassVar[bool] = True
    #: Temporal kernel size of the stem, frames.
    stem_frames: ClassVar[int] = 7
    #: What the pool after the stem halves: frames and pixels (clip), or only pixels (frame); none: there is no pool.
    pool: ClassVar[Literal["clip", "frame", "none"]] = "clip"
    #: A 3x3x3 convolution is replaced by a spatial and a temporal convolution.
    factorized: ClassVar[bool] = False

    @property
    def input_channels(self) -> int:
        """Number of channels of a frame."""
        return self.inputs

    @property
    def repeats_frames(self) -> bool:
        """Convolutions pad in time by repeating the first and the last frame, not with zeros."""
        return False

    def cube_frames(self, stage: int) -> int:
        """Return the temporal kernel size of a stage's 3x3x3 convolutions, frames."""
        return 3

    def projects(self, s: BlockShape) -> bool:
        """Return whether the shortcut of a block is a 1x1x1 convolution."""
        return s.resizes and self.shortcut == "B"

    def middle(self, s: BlockShape, inputs: int, outputs: int) -> int:
        """Return the channels between a spatial and a temporal convolution, which replace one of 3x3x3.

        With them, both together have about as many weights as the first 3x3x3 convolution of the block.
        """
        return middle_channels(s.inputs, s.planes)

    def stem_middle(self) -> int:
        """Return the channels between the convolutions of a factorized stem; torchvision has 45 for 64 outputs."""
        return 45 * self.base(2) // 64

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

    def halves_frames(self, stage: int) -> bool:
        """Return whether the first block of a stage halves the number of frames, rounded up."""
        return stage > 2 and self.cube_frames(stage) > 1

    def frames_after(self, stage: int, frames: int) -> int:
        """Return the number of frames at the output of a stage; stage 1 is the stem with its pool."""
        halving = sum(map(self.halves_frames, range(3, stage + 1)))
        for _ in range((self.pool == "clip") + halving):
            frames = conv_out(frames, 3, 2)
        return frames

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of the stem and of four stages."""
        return _parts(self, size, frames)

    def shared_stages(self) -> tuple[int, ...]:
        """Return the stem and res2 to res4: res5 sees single regions."""
        return (1, 2, 3, 4)

    def shared_part(self, size: int, frames: int) -> tuple[Part, int, int, int]:
        """Return the cost of the stem and of res2 to res4, and the shape of the maps of res4."""
        side = next(s.side_in for s in _shapes(self, size) if s.stage == 5)
        return Part.sum_of(self.parts(size, frames)[:-1]), self.outputs(4), self.frames_after(4, frames), side

    def region_part(self, cells: tuple[int, int, int], twice: bool) -> Part:
        """Return the cost of res5 on the cells of a region."""
        side, halved = cells[1], conv_out(cells[1], 3, 2)
        shapes = [
            replace(s, side_in=side if s.stride > 1 else halved, side_out=halved)
            for s in _shapes(self, 112) if s.stage == 5
        ]  # fmt: skip
        return _stage_part(self, shapes, cells[0])

    def build(self) -> "ResNet3D":
        """Return the network with its initial weights."""
        net = ResNet3D(self)
        load_weights(net, self)
        return net


class ResNeXt3DConfig(ResNet3DConfig, kind="resnext3d"):
    """A 3D ResNeXt: the 3x3x3 convolutions are grouped.

    With 32 groups they have half as many channels as a block's output, and with others as many in each group.
    """

    kind: Literal["resnext3d"] = "resnext3d"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[14, 50, 101, 152] = Field(101, description="number of layers; 14 has one block per stage")
    cardinality: int = Field(32, ge=1, le=256, description="number of groups of a 3x3x3 convolution")

    @property
    def groups(self) -> int:
        """Number of groups of a bottleneck's 3x3x3 convolution."""
        return self.cardinality

    def planes(self, stage: int) -> int:
        """Return the number of channels of a stage's 3x3x3 convolutions.

        This is the authors' cardinality * planes / 32, where their planes are half of a block's output. Each group has
        at least one channel.
        """
        return self.cardinality * max(1, 2 * self.base(stage) // 32)


def middle_channels(inputs: int, outputs: int) -> int:
    """Return the channels with which a 1x3x3 and a 3x1x1 convolution have about as many weights as one of 3x3x3."""
    return 27 * inputs * outputs // (9 * inputs + 3 * outputs)


def _shapes(config: ResNet3DConfig, size: int) -> Iterator[BlockShape]:
    """Yield the blocks for clips of ``size`` x ``size`` pixels, in the order of the forward pass."""
    side = conv_out(size, 7, 2)
    return shapes_after_stem(config, side if config.pool == "none" else conv_out(side, 3, 2))


@cache
def _parts(config: ResNet3DConfig, size: int, frames: int) -> tuple[Part, ...]:
    stem, side = config.base(2), conv_out(size, 7, 2)
    if config.factorized:
        middle, places = config.stem_middle(), frames * side**2
        convs = [Conv3(config.inputs, middle, 49, places), Conv3(middle, stem, config.stem_frames, places)]
    else:
        convs = [Conv3(config.inputs, stem, 49 * config.stem_frames, frames * side**2)]
    kept = config.inputs * _padded(config, frames) * size**2
    if config.pool != "none":
        # The pool's indices, and its output unless the first convolution keeps a padded copy of it instead.
        copied = config.repeats_frames and not config.bottleneck
        kept += (1 if copied else 2) * stem * config.frames_after(1, frames) * conv_out(side, 3, 2) ** 2
    parts = [part_of_clip(1, convs, kept=kept)]
    for stage in config.stages():
        shapes = [s for s in _shapes(config, size) if s.stage == stage]
        parts.append(_stage_part(config, shapes, config.frames_after(stage - 1, frames)))
    return tuple(parts)


def _stage_part(config: ResNet3DConfig, shapes: list[BlockShape], frames: int) -> Part:
    """Return the cost of the blocks of one stage whose input has ``frames`` frames."""
    stage = shapes[0].stage
    after = conv_out(frames, 3, 2) if config.halves_frames(stage) else frames
    convs, shortcuts, kept = [], [], 0
    for s in shapes:
        before = after if s.stride == 1 else frames
        places = after * s.side_out**2
        if config.bottleneck:
            convs.append(Conv3(s.inputs, s.planes, 1, before * s.side_in**2))
            convs += _cube_cost(config, s, s.planes, s.planes, before, after)
            convs.append(Conv3(s.planes, s.outputs, 1, places))
            cubes = [(s.planes, before, s.side_in)]
        else:
            convs += _cube_cost(config, s, s.inputs, s.planes, before, after)
            convs += _cube_cost(config, s, s.planes, s.outputs, after, after)
            cubes = [(s.inputs, before, s.side_in), (s.planes, after, s.side_out)]
        if config.repeats_frames:
            # The convolutions keep padded copies of their inputs.
            kept += sum(channels * _padded(config, t) * side**2 for channels, t, side in cubes)
        if config.projects(s):
            shortcuts.append(Conv3(s.inputs, s.outputs, 1, places))
    return part_of_clip(stage, convs, shortcuts, kept)


def _padded(config: ResNet3DConfig, frames: int) -> int:
    """Return the number of frames with the padding that is stored: one frame at each end, if it repeats frames."""
    return frames + 2 * config.repeats_frames


def _cube_cost(
    config: ResNet3DConfig, s: BlockShape, inputs: int, outputs: int, before: int, after: int
) -> list[Conv3]:
    """Return the convolutions that a 3x3x3 convolution consists of, from ``before`` frames to ``after``."""
    pixels = s.side_out**2
    if config.factorized:
        middle = config.middle(s, inputs, outputs)
        return [Conv3(inputs, middle, 9, before * pixels), Conv3(middle, outputs, 3, after * pixels)]
    return [Conv3(inputs // config.groups, outputs, 9 * config.cube_frames(s.stage), after * pixels)]


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
    config: ResNet3DConfig, inputs: int, middle: int, outputs: int, frames: int, pixels: int, stride: tuple[int, int]
) -> nn.Sequential:
    """Return a spatial convolution, norm, ReLU and a temporal convolution over ``frames`` frames."""
    return nn.Sequential(
        _conv(config, inputs, middle, 1, pixels, (1, stride[1])), nn.BatchNorm3d(middle), nn.ReLU(inplace=True),
        _conv(config, middle, outputs, frames, 1, (stride[0], 1)),
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

        frames = config.cube_frames(s.stage)

        def cube(inputs: int, outputs: int, stride: int) -> nn.Module:
            strides = (stride if frames > 1 else 1, stride)
            if config.factorized:
                return _factors(config, inputs, config.middle(s, inputs, outputs), outputs, frames, 3, strides)
            return _conv(config, inputs, outputs, frames, 3, strides, config.groups)

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
        if not s.resizes and not config.projects(s):
            self.downsample = None
        elif not config.projects(s):
            self.downsample = ZeroChannels(s.outputs, s.stride)
        else:
            self.downsample = nn.Sequential(
                _conv(config, s.inputs, s.outputs, 1, 1, (s.stride if frames > 1 else 1, s.stride)),
                nn.BatchNorm3d(s.outputs),
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
            self.conv1 = _factors(config, config.inputs, config.stem_middle(), stem, config.stem_frames, 7, (1, 2))
        else:
            self.conv1 = _conv(config, config.inputs, stem, config.stem_frames, 7, (1, 2))
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

    def maps(self, images: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n c s i j"]:
        return self.layer4(self.shared(images))

    def shared(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n c s i j"]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips))))
        return self.layer3(self.layer2(self.layer1(x)))

    def of_regions(self, cells: Float[Tensor, "n c s i j"], twice: bool) -> Float[Tensor, "n d"]:
        return self.features_of(self.layer4(cells))

"""SlowFast: a slow pathway with few frames and many channels, and a fast pathway with many frames and few channels.

Source: Feichtenhofer, Fan, Malik and He, "SlowFast Networks for Video Recognition", ICCV 2019 (arXiv:1812.03982).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
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
from vattn.backbones._residual import BlockShape, ResidualBlock, ResidualConfig, SkippedBlock, sites_in
from vattn.base import LATER
from vattn.modules._base import Position, Site

#: Output channels of the lateral convolution per channel of the fast pathway.
_LATERAL_CHANNELS = 2
#: Channels of the slow pathway per channel of the fast pathway (1 / beta in the paper).
_BETA = 8


class SlowFastConfig(ResidualConfig, kind="slowfast"):
    """SlowFast with bottlenecks; the model's ``frames`` are those of the fast pathway.

    Each stage has the slow pathway's blocks, numbered from 0, followed by the fast pathway's blocks: a mechanism is
    inserted into both pathways, or into the one that its ``pathway`` names. With ``temporal: none``, only mechanisms
    such as ``tam`` exchange information between frames within a block.
    """

    kind: Literal["slowfast"] = "slowfast"
    depth: Literal[14, 50, 101] = Field(50, description="number of layers of each pathway; 14 has one block per stage")
    alpha: int = Field(
        8,
        ge=1,
        le=32,
        description="the input of the slow pathway is every alpha-th frame; with 32 frames, 8 is the paper's 4x16 and "
        "4 is its 8x8",
    )
    temporal: Literal["conv", "none"] = Field(
        "conv",
        description="first convolution of a block; conv: 3x1x1 in every block of the fast pathway and in res4 and res5 "
        "of the slow pathway, elsewhere 1x1x1; none: 1x1x1",
    )
    lateral_frames: Literal[5, 7] = Field(
        5,
        json_schema_extra=LATER,
        description="temporal kernel size of the lateral convolutions, frames; the authors' code has 5 in 4x16 and 7 "
        "in 8x8",
    )
    slow_frames: Literal["step", "spread"] = Field(
        "step",
        json_schema_extra=LATER,
        description="frames of the slow pathway; step: every alpha-th, from the first; spread: evenly spaced from the "
        "first to the last and rounded down, as in the authors' code",
    )

    folds: ClassVar[bool] = False
    has_published_weights: ClassVar[bool] = False
    #: The features are averages over two pathways' maps, which have different numbers of frames.
    averages: ClassVar[bool] = False

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites stage by stage, in each stage first the slow pathway's blocks, then the fast one's."""
        return sites_in(self, size, _shapes, strides_first=False)

    def check(self, size: int, frames: int) -> None:
        """Refuse clips whose number of frames is not a multiple of alpha."""
        if frames % self.alpha:
            raise ValueError(f"frames: must be a multiple of alpha, {self.alpha}, of slowfast (got {frames})")

    def frames_at(self, site: Site, frames: int) -> int:
        """Return the number of frames at a site: all in the fast pathway, every alpha-th in the slow pathway."""
        return frames // self.alpha if site.block < self.blocks[self.depth][site.stage - 2] else frames

    def channels(self) -> int:
        """Return the length of the feature vector, the concatenation of both pathways' features."""
        return 4 * (self.base(5) + self.base(5) // _BETA)

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of the stem and of four stages, each with the lateral convolution after it, if it has one."""
        slow, fast, few = self.base(2), self.base(2) // _BETA, frames // self.alpha
        side = conv_out(size, 7, 2)
        pooled = conv_out(side, 3, 2)
        convs = [Conv3(3, slow, 49, few * side**2), Conv3(3, fast, 5 * 49, frames * side**2)]
        lateral, joined = self._lateral(slow, fast, few * pooled**2)
        # The clip, and the slow pathway's copy of spread frames; the indices of the slow pool; the indices and the
        # output of the fast pool.
        copied = few * (self.slow_frames == "spread")
        kept = 3 * (frames + copied) * size**2 + slow * few * pooled**2 + 2 * fast * frames * pooled**2 + joined
        parts = [part_of_clip(1, [*convs, lateral], kept=kept)]
        for stage in self.stages():
            convs, shortcuts, kept = [], [], 0
            blocks = [s for s in _shapes(self, size) if s.stage == stage]
            for s in blocks:
                t = frames if s.fast else few
                places = t * s.side_out**2
                convs += [
                    Conv3(s.inputs, s.planes, s.frames, t * s.side_in**2), Conv3(s.planes, s.planes, 9, places),
                    Conv3(s.planes, s.outputs, 1, places),
                ]  # fmt: skip
                if s.resizes:
                    shortcuts.append(Conv3(s.inputs, s.outputs, 1, places))
            if stage < 5:
                end = blocks[-1].side_out
                lateral, kept = self._lateral(4 * self.base(stage), 4 * self.base(stage) // _BETA, few * end**2)
                convs.append(lateral)
            parts.append(part_of_clip(stage, convs, shortcuts, kept))
        return tuple(parts)

    def _lateral(self, slow: int, fast: int, places: int) -> tuple[Conv3, int]:
        """Return the lateral convolution, and the number of values of its output and the slow pathway's together."""
        outputs = _LATERAL_CHANNELS * fast
        return Conv3(fast, outputs, self.lateral_frames, places), (slow + outputs) * places

    def pathways(self, net: Backbone) -> list[list[SkippedBlock]]:
        """Return the blocks of the slow and of the fast pathway."""
        assert isinstance(net, SlowFast)
        return [[m for m in pathway.modules() if isinstance(m, SkippedBlock)] for pathway in (net.slow, net.fast)]

    def build(self) -> "SlowFast":
        """Return the network with its initial weights."""
        net = SlowFast(self)
        load_weights(net, self)
        return net


@dataclass(frozen=True)
class TemporalShape(BlockShape):
    """The shape of one block; ``frames`` is the temporal kernel size of its first convolution."""

    frames: int


@dataclass(frozen=True)
class PathwayShape(TemporalShape):
    """The shape of one block of either pathway of SlowFast."""

    fast: bool

    def site(self, position: Position, *, strides_first: bool) -> Site:
        """Return the block's site at ``position``, with its pathway."""
        return replace(super().site(position, strides_first=strides_first), pathway="fast" if self.fast else "slow")


def _shapes(config: SlowFastConfig, size: int) -> Iterator[PathwayShape]:
    """Yield the blocks for clips of ``size`` x ``size`` pixels, stage by stage, the slow pathway's first."""
    start = conv_out(conv_out(size, 7, 2), 3, 2)
    given = config.base(2)
    for stage, blocks in zip(config.stages(), config.blocks[config.depth], strict=True):
        for fast in (False, True):
            share = _BETA if fast else 1
            inputs = given // _BETA if fast else given + _LATERAL_CHANNELS * (given // _BETA)
            planes, side = config.base(stage) // share, start
            taps = 3 if config.temporal == "conv" and (fast or stage > 3) else 1
            for block in range(blocks):
                stride = 2 if stage > 2 and block == 0 else 1
                end = conv_out(side, 3, stride)
                yield PathwayShape(
                    stage, block + blocks * fast, inputs, planes, 4 * planes, stride, side, end, taps, fast
                )  # fmt: skip
                inputs, side = 4 * planes, end
        given, start = 4 * config.base(stage), side


class PathwayBlock(ResidualBlock):
    """A bottleneck with an optional temporal convolution (3x1x1 or 1x1x1, 1x3x3, 1x1x1), with its sites.

    Shape: (N, inputs, T, H, W) -> (N, outputs, T, H / stride, W / stride), rounded up.
    """

    def __init__(self, s: TemporalShape) -> None:
        super().__init__()
        self.bottleneck = True
        self.conv1 = nn.Conv3d(s.inputs, s.planes, (s.frames, 1, 1), padding=(s.frames // 2, 0, 0), bias=False)
        self.bn1 = nn.BatchNorm3d(s.planes)
        self.conv2 = nn.Conv3d(s.planes, s.planes, (1, 3, 3), (1, s.stride, s.stride), (0, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(s.planes)
        self.conv3 = nn.Conv3d(s.planes, s.outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(s.outputs)
        self.relu, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        if s.resizes:
            self.downsample = nn.Sequential(
                nn.Conv3d(s.inputs, s.outputs, 1, (1, s.stride, s.stride), bias=False), nn.BatchNorm3d(s.outputs)
            )
        else:
            self.downsample = None
        self.at = slots()


class SlowFast(Backbone):
    """Two pathways. Lateral connections append features of the fast one to the slow one after stem, res2, res3, res4.

    Shape: (N, 3, T, H, W) -> (N, channels), T a multiple of alpha.
    """

    def __init__(self, config: SlowFastConfig) -> None:
        super().__init__()
        self.alpha, self.channels, base = config.alpha, config.channels(), config.base(2)
        self.spread = config.slow_frames == "spread"
        self.slow_stem, self.fast_stem = _stem(base, 1), _stem(base // _BETA, 5)
        given = [base, *(4 * config.base(stage) for stage in (2, 3, 4))]
        self.lateral = nn.ModuleList(_lateral(channels // _BETA, config) for channels in given)
        slow: list[list[PathwayBlock]] = [[], [], [], []]
        fast: list[list[PathwayBlock]] = [[], [], [], []]
        for s in _shapes(config, size=224):
            (fast if s.fast else slow)[s.stage - 2].append(PathwayBlock(s))
        self.slow = nn.ModuleList(nn.Sequential(*blocks) for blocks in slow)
        self.fast = nn.ModuleList(nn.Sequential(*blocks) for blocks in fast)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        init_3d_convolutions(self)

    def forward(self, images: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n c"]:
        slow, fast = self.slow_stem(self._slow_frames(images)), self.fast_stem(images)
        for lateral, slow_stage, fast_stage in zip(self.lateral, self.slow, self.fast, strict=True):
            slow = slow_stage(torch.cat([slow, lateral(fast)], dim=1))
            fast = fast_stage(fast)
        return torch.cat([self.avgpool(slow), self.avgpool(fast)], dim=1).flatten(1)

    def stage_of(self, name: str) -> int:
        """Return the stage of a module or parameter; a lateral connection belongs to the stage before it."""
        part, _, rest = name.partition(".")
        offset = {"slow": 2, "fast": 2, "lateral": 1}.get(part)
        return int(rest[0]) + offset if offset and rest else 1

    def first_convolutions(self) -> list[nn.Module]:
        """Return the convolutions of both stems."""
        return [self.slow_stem[0], self.fast_stem[0]]

    def _slow_frames(self, images: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n 3 s h w"]:
        if not self.spread:
            return images[:, :, :: self.alpha]
        frames = images.shape[2]
        few = frames // self.alpha
        # In integers: torch.linspace rounds differently on different devices.
        return images[:, :, [i * (frames - 1) // max(few - 1, 1) for i in range(few)]]

    def block(self, site: Site) -> nn.Module:
        """Return the block of either pathway that contains ``site``."""
        blocks = len(self.slow[site.stage - 2])  # pyright: ignore[reportArgumentType]
        pathway, block = ("slow", site.block) if site.block < blocks else ("fast", site.block - blocks)
        return self.get_submodule(f"{pathway}.{site.stage - 2}.{block}")


def _stem(channels: int, frames: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(3, channels, (frames, 7, 7), (1, 2, 2), (frames // 2, 3, 3), bias=False), nn.BatchNorm3d(channels),
        nn.ReLU(inplace=True), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    )  # fmt: skip


def _lateral(channels: int, config: SlowFastConfig) -> nn.Sequential:
    """Return the lateral convolution, from the fast pathway's ``channels`` and frames to the slow pathway's frames."""
    outputs, k, alpha = _LATERAL_CHANNELS * channels, config.lateral_frames, config.alpha
    return nn.Sequential(
        nn.Conv3d(channels, outputs, (k, 1, 1), (alpha, 1, 1), (k // 2, 0, 0), bias=False), nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )  # fmt: skip

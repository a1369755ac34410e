"""Residual networks of 3D convolutions.

3D ResNet and ResNeXt (Hara et al., CVPR 2018, arXiv:1711.09577); I3D, inflated from 2D (Carreira and Zisserman, CVPR
2017, arXiv:1705.07750); R3D and R(2+1)D (Tran et al., CVPR 2018, arXiv:1711.11248). Stage 2 is their layer1.
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
    load_weights,
    part_of_clip,
    slots,
    start_from_scratch,
)
from vattn.backbones._residual import (
    BlockShape,
    ResidualBlock,
    ResidualConfig,
    check_resnet_weights,
    shapes_behind_stem,
    sites_in,
)
from vattn.modules._base import Site

_BLOCKS = {
    10: (1, 1, 1, 1), 14: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}  # fmt: skip


class ResNet3DConfig(ResidualConfig, kind="resnet3d"):
    """Hara's 3D ResNet: every 2D kernel is a cube, and all strides behind the stem's convolution are of time too.

    Depths 10, 18 and 34 are of basic blocks, the others of bottlenecks; 10 and 14 have one block a stage.
    """

    kind: Literal["resnet3d"] = "resnet3d"
    depth: Literal[10, 14, 18, 34, 50, 101, 152]
    shortcut: Literal["A", "B"] = Field(
        "B", description="where sizes change: A every second place and channels of zeros; B a 1x1x1 convolution"
    )

    folds: ClassVar[bool] = False
    has_published_weights: ClassVar[bool] = False
    #: Frames that the stem's kernel sees.
    stem_frames: ClassVar[int] = 7
    #: Dimensions that the pool behind the stem halves.
    pool: ClassVar[Literal["clip", "frame", "none"]] = "clip"
    #: Convolutions repeat the first and the last frame, where others pad with zeros.
    repeats_frames: ClassVar[bool] = False
    #: A convolution over 3x3x3 is one over the pixels and one over time.
    factorized: ClassVar[bool] = False

    def sites(self, size: int) -> tuple[Site, ...]:
        """Block by block. A block's stride is in its first 3x3x3 convolution."""
        return sites_in(self, size, _shapes, strides_first=not self.bottleneck)

    def frames_at(self, site: Site, frames: int) -> int:
        """Half as many in each stage after res2, rounded up, from the convolution with the stride on."""
        before = ("block", "a", "b") if self.bottleneck else ("block", "a")
        whole = site.block == 0 and site.position in before
        return self.frames_after(site.stage - 1 if whole and site.stage > 2 else site.stage, frames)

    def frames_after(self, stage: int, frames: int) -> int:
        """Length of what a stage gives; stage 1 is the stem with its pool."""
        for _ in range((self.pool == "clip") + max(0, stage - 2)):
            frames = conv_out(frames, 3, 2)
        return frames

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Stem and four stages."""
        return _parts(self, size, frames)

    def build(self) -> "ResNet3D":
        """Return the network."""
        net = ResNet3D(self)
        load_weights(net, self.weights, "", classifier="fc.")
        return net


class ResNeXt3DConfig(ResNet3DConfig, kind="resnext3d"):
    """Hara's 3D ResNeXt: the 3x3x3 convolutions work in groups and are as wide as half of what a block gives."""

    kind: Literal["resnext3d"] = "resnext3d"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[14, 50, 101, 152] = 101
    cardinality: int = Field(32, ge=1, le=256, description="groups of a 3x3x3 convolution; divides its channels")

    @property
    def groups(self) -> int:
        """Groups of a bottleneck's 3x3x3 convolution."""
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
        """Channels of a stage's 3x3x3 convolutions."""
        return 2 * self.base(stage)


class I3DResNetConfig(ResNet3DConfig, kind="i3d_resnet"):
    """A 2D ResNet whose square kernels see 3 frames; only stages 3 to 5 halve the time.

    ``weights`` are those of the 2D network: default (torchvision's) or a file. Each kernel is repeated over its 3
    frames and divided by 3. Convolutions repeat the first and the last frame, so that a still video gives what the 2D
    network gives for its frame, at the edges too.
    """

    kind: Literal["i3d_resnet"] = "i3d_resnet"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[10, 14, 18, 34, 50, 101] = 18
    shortcut: Literal["B"] = "B"

    has_published_weights = True
    stem_frames = 3
    pool = "frame"
    repeats_frames = True

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        check_resnet_weights(self.weights, self.depth, self.width)
        return self

    def build(self) -> "ResNet3D":
        """Return the network."""
        net = ResNet3D(self)
        own = net.state_dict()

        def inflate(state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: _inflated(value, own[name].shape[2]) if name in own and value.ndim == 4 else value
                for name, value in state.items()
            }

        load_weights(net, self.weights, f"resnet{self.depth}", classifier="fc.", adapt=inflate)
        return net


class R3DConfig(ResNet3DConfig, kind="r3d"):
    """Tran's R3D as torchvision builds it: no pool behind the stem, which sees 3 frames."""

    kind: Literal["r3d"] = "r3d"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[10, 18, 34] = 18
    shortcut: Literal["B"] = "B"

    has_published_weights = True
    stem_frames = 3
    pool = "none"
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^stem\.0\.", "conv1."), (r"^stem\.1\.", "bn1."),
        (r"\.conv(\d)\.0\.", r".conv\1."), (r"\.conv(\d)\.1\.", r".bn\1."),
    )  # fmt: skip

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        if self.weights == "default" and (self.depth != 18 or self.width != 1):
            raise ValueError(
                "weights: default has depth 18 at width 1; write none, or the path of your own file "
                f"(got depth {self.depth}, width {self.width:g})"
            )
        return self

    def build(self) -> "ResNet3D":
        """Return the network."""
        from vattn.convert import rename  # which itself reads the recipes of all backbones

        net = ResNet3D(self)
        load_weights(
            net, self.weights, f"{self.kind}_18", classifier="fc.", adapt=lambda s: rename(s, self.authors_network)
        )
        return net


class R2Plus1DConfig(R3DConfig, kind="r2plus1d"):
    """Tran's R(2+1)D as torchvision builds it: a convolution of the pixels, norm, ReLU, and one over time."""

    kind: Literal["r2plus1d"] = "r2plus1d"  # pyright: ignore[reportIncompatibleVariableOverride]

    factorized = True
    authors_network = (
        (r"^stem\.([01])\.", r"conv1.\1."), (r"^stem\.3\.", "conv1.3."), (r"^stem\.4\.", "bn1."),
        (r"\.conv(\d)\.1\.", r".bn\1."), (r"\.conv(\d)\.0\.(\d)\.", r".conv\1.\2."),
    )  # fmt: skip


def _inflated(kernel: Float[Tensor, "o i h w"], frames: int) -> Float[Tensor, "o i t h w"]:
    """Return the kernel over ``frames`` frames that gives for a still video what the 2D one gives for a frame."""
    return (kernel / frames).unsqueeze(2).repeat(1, 1, frames, 1, 1)


def _middle(inputs: int, outputs: int, pixels: int) -> int:
    return 3 * pixels * inputs * outputs // (pixels * inputs + 3 * outputs)


def _block_middle(s: BlockShape) -> int:
    """Channels between the halves of a factorized convolution: about as many weights as 3x3x3 ones have."""
    return _middle(s.inputs, s.planes, 9)


def _stem_middle(config: ResNet3DConfig) -> int:
    """Channels between the halves of a factorized stem: torchvision's 45 of 64, in proportion."""
    return 45 * config.base(2) // 64


def _shapes(config: ResNet3DConfig, size: int) -> Iterator[BlockShape]:
    """Return the blocks for clips of ``size`` x ``size`` pixels, in the order in which data meets them."""
    side = conv_out(size, 7, 2)
    return shapes_behind_stem(config, side if config.pool == "none" else conv_out(side, 3, 2))


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
        # What the pool gives, and where it found it; a copy of what it gives may be kept in its stead.
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
                # Copies with a frame more at each end, which the convolutions keep.
                kept += sum(channels * _padded(config, t) * side**2 for channels, t, side in cubes)
            if s.resizes and config.shortcut == "B":
                shortcuts.append(Conv3(s.inputs, s.outputs, 1, places))
        parts.append(part_of_clip(stage, convs, shortcuts, kept))
    return tuple(parts)


def _padded(config: ResNet3DConfig, frames: int) -> int:
    return frames + 2 * config.repeats_frames


def _cube_cost(
    config: ResNet3DConfig, inputs: int, outputs: int, middle: int, before: int, after: int, side: int
) -> list[Conv3]:
    """Return what a convolution over 3x3x3 costs, from ``before`` frames to ``after``."""
    if config.factorized:
        return [Conv3(inputs, middle, 9, before * side**2), Conv3(middle, outputs, 3, after * side**2)]
    return [Conv3(inputs // config.groups, outputs, 27, after * side**2)]


class RepeatedEnds(nn.Conv3d):
    """A convolution over 3 frames that sees the first and the last frame once more; ``padding`` is of the pixels."""

    def forward(self, input: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d s i j"]:
        # Replication as padding would keep what it copies.
        return super().forward(torch.cat([input[:, :, :1], input, input[:, :, -1:]], dim=2))


def _conv(
    config: ResNet3DConfig, inputs: int, outputs: int, frames: int, pixels: int, stride: tuple[int, int],
    groups: int = 1,
) -> nn.Conv3d:  # fmt: skip
    """Return a convolution over ``frames`` x ``pixels`` x ``pixels`` with strides in time and space."""
    across_time, across_pixels = stride
    kind = RepeatedEnds if config.repeats_frames and frames > 1 else nn.Conv3d
    return kind(
        inputs, outputs, (frames, pixels, pixels), (across_time, across_pixels, across_pixels),
        padding=(0 if kind is RepeatedEnds else frames // 2, pixels // 2, pixels // 2), groups=groups, bias=False,
    )  # fmt: skip


def _factors(
    config: ResNet3DConfig, inputs: int, middle: int, outputs: int, pixels: int, stride: tuple[int, int]
) -> nn.Sequential:
    """Return a convolution of the pixels, norm and ReLU, and one over time."""
    return nn.Sequential(
        _conv(config, inputs, middle, 1, pixels, (1, stride[1])), nn.BatchNorm3d(middle), nn.ReLU(inplace=True),
        _conv(config, middle, outputs, 3, 1, (stride[0], 1)),
    )  # fmt: skip


class ZeroChannels(nn.Module):
    """Shortcut A: every ``stride``-th place, and further channels of zeros.

    Shape: (N, C, T, H, W) -> (N, ``outputs``, T / stride, H / stride, W / stride), rounded up.
    """

    def __init__(self, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d s i j"]:
        s = self.stride
        return F.pad(x[:, :, ::s, ::s, ::s], (0, 0, 0, 0, 0, 0, 0, self.outputs - x.shape[1]))


class Block3D(ResidualBlock):
    """A residual block, basic (two 3x3x3 convolutions) or bottleneck (1x1x1, 3x3x3, 1x1x1), and its sites.

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
    """Stem, four stages, average over frames and pixels.

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
        start_from_scratch(self)

    def forward(self, images: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n c"]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)

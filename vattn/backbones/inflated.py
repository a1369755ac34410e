"""A ResNet of clips whose bottlenecks begin with a 3x1x1 convolution: I3D, Slow and C2D of MMAction2 and PySlowFast.

Source: Wang, Girshick, Gupta and He, "Non-local Neural Networks", CVPR 2018 (arXiv:1711.07971), and Feichtenhofer, Fan,
Malik and He, "SlowFast Networks for Video Recognition", ICCV 2019 (arXiv:1812.03982).
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

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
)
from vattn.backbones._residual import ResidualConfig, shapes_after_stem, sites_in
from vattn.backbones.slowfast import PathwayBlock, TemporalShape
from vattn.modules._base import Site


class InflatedConfig(ResidualConfig, kind="inflated"):
    """A ResNet with bottlenecks, some of which begin with a 3x1x1 convolution; the defaults are I3D's.

    All convolutions pad with zeros. Frames are reduced by the stem, its pool, and a pool after res2.
    """

    kind: Literal["inflated"] = "inflated"
    depth: Literal[14, 50, 101] = Field(50, description="number of layers; 14 has one block per stage")
    temporal: Literal["i3d", "slow", "none"] = Field(
        "i3d",
        description="blocks with a 3x1x1 convolution; i3d: all of res2, every second of res3 to res5, in res5 from the "
        "second; slow: all of res4 and res5; none: none",
    )
    stem_frames: Literal[1, 5] = Field(5, description="temporal kernel size of the stem, frames")
    stem_stride: Literal[1, 2] = Field(
        2, description="temporal stride of the stem; MMAction2's I3D has 2, PySlowFast's 1"
    )
    pool_stride: Literal[1, 2] = Field(
        2, description="temporal stride of the pool after the stem; MMAction2's I3D has 2, PySlowFast's 1"
    )
    pool_frames: bool = Field(
        True, description="halve the number of frames after res2, by maxima; Slow has no such pool"
    )

    folds: ClassVar[bool] = False
    has_published_weights: ClassVar[bool] = False

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites block by block. The second convolution of a block has the stride."""
        return sites_in(self, size, _shapes, strides_first=False)

    def check(self, size: int, frames: int) -> None:
        """Refuse clips of which the pool after res2 leaves no frame."""
        if self.pool_frames and self._frames_in(2, frames) < 2:
            raise ValueError(f"frames: the pool after res2 needs 2 frames there; take more of them (got {frames})")

    def frames_at(self, site: Site, frames: int) -> int:
        """Return the number of frames at a site: fewer after the stem, its pool, and res2."""
        return self._frames_in(site.stage, frames)

    def _frames_in(self, stage: int, frames: int) -> int:
        frames = conv_out(conv_out(frames, self.stem_frames, self.stem_stride), 1, self.pool_stride)
        return frames // 2 if self.pool_frames and stage > 2 else frames

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of the stem and of four stages; the pool after res2 belongs to it."""
        stem, side = self.base(2), conv_out(size, 7, 2)
        start = conv_out(frames, self.stem_frames, self.stem_stride)
        pooled = stem * self._frames_in(2, frames) * conv_out(side, 3, 2) ** 2
        kept = 3 * frames * size**2 + 2 * pooled
        parts = [part_of_clip(1, [Conv3(3, stem, 49 * self.stem_frames, start * side**2)], kept=kept)]
        for stage in self.stages():
            convs, shortcuts, kept = [], [], 0
            t = self._frames_in(stage, frames)
            for s in (s for s in _shapes(self, size) if s.stage == stage):
                places = t * s.side_out**2
                convs += [
                    Conv3(s.inputs, s.planes, s.frames, t * s.side_in**2), Conv3(s.planes, s.planes, 9, places),
                    Conv3(s.planes, s.outputs, 1, places),
                ]  # fmt: skip
                if s.resizes:
                    shortcuts.append(Conv3(s.inputs, s.outputs, 1, places))
                if stage == 2:
                    # The pool's output and its indices, after the last block.
                    kept = self.pool_frames * 2 * s.outputs * (t // 2) * s.side_out**2
            parts.append(part_of_clip(stage, convs, shortcuts, kept))
        return tuple(parts)

    def inflates(self, stage: int, block: int) -> bool:
        """Return whether a block begins with a 3x1x1 convolution."""
        if self.temporal == "i3d":
            return stage == 2 or block % 2 == (stage == 5)
        return self.temporal == "slow" and stage > 3

    def build(self) -> "Inflated":
        """Return the network with its initial weights."""
        net = Inflated(self)
        load_weights(net, self)
        return net


def _shapes(config: InflatedConfig, size: int) -> Iterator[TemporalShape]:
    """Yield the blocks for clips of ``size`` x ``size`` pixels, in the order of the forward pass."""
    for s in shapes_after_stem(config, conv_out(conv_out(size, 7, 2), 3, 2)):
        yield TemporalShape(**vars(s), frames=3 if config.inflates(s.stage, s.block) else 1)


class Inflated(Backbone):
    """Stem, four stages with a temporal pool after the first, global average pool over frames and pixels.

    Shape: (N, 3, T, H, W) -> (N, channels).
    """

    def __init__(self, config: InflatedConfig) -> None:
        super().__init__()
        stem, frames = config.base(2), config.stem_frames
        self.conv1 = nn.Conv3d(
            3, stem, (frames, 7, 7), (config.stem_stride, 2, 2), (frames // 2, 3, 3), bias=False
        )  # fmt: skip
        self.bn1 = nn.BatchNorm3d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (config.pool_stride, 2, 2), (0, 1, 1))
        self.pool2 = nn.MaxPool3d((2, 1, 1), (2, 1, 1)) if config.pool_frames else nn.Identity()
        layers: list[list[PathwayBlock]] = [[], [], [], []]
        for s in _shapes(config, size=224):
            layers[s.stage - 2].append(PathwayBlock(s))
        self.layer1, self.layer2, self.layer3, self.layer4 = (nn.Sequential(*blocks) for blocks in layers)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.channels = config.channels()
        init_3d_convolutions(self)

    def maps(self, images: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n c s i j"]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.pool2(self.layer1(x)))))

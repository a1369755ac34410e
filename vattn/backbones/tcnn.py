"""T-CNN: residual pairs of a spatial and a dilated temporal convolution.

Source: Zhou, Li, Wang and Li, "Integrating Temporal and Spatial Attention for Video Action Recognition", Security and
Communication Networks, 2022, Table 1. The layout there was found by architecture search.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, ClassVar, Literal, Self

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
from vattn.backbones._residual import BlocksConfig, BlockShape, ResidualBlock, sites_in
from vattn.modules._base import Position, Site

Dilation = Literal[1, 2, 4]
#: Spatial stride of each stage.
_STRIDES = (2, 2, 2, 1, 2, 1, 1)


class TCNNConfig(BlocksConfig, kind="tcnn"):
    """T-CNN, seven stages of pairs. The defaults are the paper's layout.

    The paper's table lists 36 convolutions and marks the dilated ones, which are all the second convolution of a pair.
    """

    kind: Literal["tcnn"] = "tcnn"
    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (32, 64, 96, 160, 224, 288, 512), description="number of channels of each of the 7 stages"
    )
    dilations: tuple[tuple[Dilation, ...], ...] = Field(
        ((1,), (1,), (1,), (1, 4, 4, 4, 1, 4), (1, 2, 4), (1, 2, 2, 1), (1, 2)),
        description="for each of the 7 stages, the temporal dilation of each of its pairs, frames; this also sets the "
        "number of pairs",
    )

    folds: ClassVar[bool] = False
    has_published_weights: ClassVar[bool] = False

    @model_validator(mode="after")
    def _seven_stages_of_pairs(self) -> Self:
        for name, length in ("widths", len(self.widths)), ("dilations", len(self.dilations)):
            if length != len(_STRIDES):
                raise ValueError(f"{name}: must have one entry for each of the 7 stages (got {length})")
        for stage, pairs in enumerate(self.dilations, 1):
            if not pairs:
                raise ValueError(f"dilations: each stage has at least one pair; give stage {stage} one (got none)")
        return self

    def stages(self) -> tuple[int, ...]:
        """Return stages 1 to 7, as the paper numbers them."""
        return tuple(range(1, 8))

    def positions(self) -> tuple[Position, ...]:
        """Return the positions before the pair (block, a), between its convolutions (b) and after the last norm (d)."""
        return ("block", "a", "b", "d")

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites pair by pair. All have the clip's number of frames."""
        return sites_in(self, size, _shapes, strides_first=True)

    def channels(self) -> int:
        """Return the length of the feature vector."""
        return self.widths[-1]

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of seven stages; there is no stem."""
        parts = []
        for stage, shapes in groupby(_shapes(self, size), key=lambda s: s.stage):
            convs, shortcuts, kept = [], [], 0
            for s in shapes:
                places = frames * s.side_out**2
                convs += [Conv3(s.inputs, s.outputs, 9, places), Conv3(s.outputs, s.outputs, 3, places)]
                if s.resizes:
                    shortcuts.append(Conv3(s.inputs, s.outputs, 1, places))
                if stage == 1:
                    # The clip; the pool's output and its indices.
                    kept = 3 * frames * size**2 + 2 * s.outputs * frames * conv_out(s.side_out, 3, 2) ** 2
            parts.append(part_of_clip(stage, convs, shortcuts, kept))
        return tuple(parts)

    def build(self) -> "TCNN":
        """Return the network with its initial weights."""
        net = TCNN(self)
        load_weights(net, self)
        return net


@dataclass(frozen=True)
class _Shape(BlockShape):
    """The shape of one pair, and the ``dilation`` of its temporal convolution, frames."""

    dilation: int


def _shapes(config: TCNNConfig, size: int) -> Iterator[_Shape]:
    """Yield the pairs for clips of ``size`` x ``size`` pixels, in the order of the forward pass."""
    inputs, side = 3, size
    for stage, outputs, dilations, stride in zip(
        config.stages(), config.widths, config.dilations, _STRIDES, strict=True
    ):
        for block, dilation in enumerate(dilations):
            block_stride = stride if block == 0 else 1
            side_out = conv_out(side, 3, block_stride)
            yield _Shape(stage, block, inputs, outputs, outputs, block_stride, side, side_out, dilation)
            inputs, side = outputs, side_out
        if stage == 1:
            side = conv_out(side, 3, 2)


class Pair(ResidualBlock):
    """A residual pair, 1x3x3 in space, then 3x1x1 in time over frames that are ``dilation`` apart, with its sites.

    Shape: (N, inputs, T, H, W) -> (N, outputs, T, H / stride, W / stride), rounded up.
    """

    def __init__(self, s: _Shape) -> None:
        super().__init__()
        self.bottleneck = False
        self.conv1 = nn.Conv3d(s.inputs, s.outputs, (1, 3, 3), (1, s.stride, s.stride), (0, 1, 1), bias=False)
        self.bn1 = nn.BatchNorm3d(s.outputs)
        d = s.dilation
        self.conv2 = nn.Conv3d(s.outputs, s.outputs, (3, 1, 1), padding=(d, 0, 0), dilation=(d, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(s.outputs)
        self.relu = nn.ReLU(inplace=True)
        if s.resizes:
            self.downsample = nn.Sequential(
                nn.Conv3d(s.inputs, s.outputs, 1, (1, s.stride, s.stride), bias=False), nn.BatchNorm3d(s.outputs)
            )
        else:
            self.downsample = None
        self.at = slots(("block", "a", "b", "d"))


class TCNN(Backbone):
    """Seven stages, a spatial pool after the first, global average pool over frames and pixels. No layer reduces T.

    Shape: (N, 3, T, H, W) -> (N, channels).
    """

    def __init__(self, config: TCNNConfig) -> None:
        super().__init__()
        layers: list[list[Pair]] = [[] for _ in config.stages()]
        for s in _shapes(config, size=224):
            layers[s.stage - 1].append(Pair(s))
        self.layers = nn.Sequential(*(nn.Sequential(*pairs) for pairs in layers))
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.channels = config.channels()
        init_3d_convolutions(self)

    def maps(self, images: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n c s i j"]:
        return self.layers[1:](self.maxpool(self.layers[0](images)))

    def stage_of(self, name: str) -> int:
        """Return the stage of a module or parameter."""
        layer = re.match(r"layers\.(\d)", name)
        return int(layer[1]) + 1 if layer else 1

    def block(self, site: Site) -> nn.Module:
        """Return the pair that contains ``site``."""
        return self.get_submodule(f"layers.{site.stage - 1}.{site.block}")

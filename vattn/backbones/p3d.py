"""P3D: a ResNet with pairs of a spatial and a temporal convolution in place of its 3x3 convolutions.

Source: Qiu, Yao and Mei, "Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks", ICCV 2017
(arXiv:1711.10305).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.backbones._base import Backbone, Conv3, Part, conv_out, load_weights, part_of_clip, slots
from vattn.backbones._residual import BlockShape, ResidualConfig, SkippedBlock, shapes_after_stem, sites_in
from vattn.base import LATER
from vattn.modules._base import Site
from vattn.modules._fold import fold, unfold

Kind = Literal["A", "B", "C", "2D"]


class P3DConfig(ResidualConfig, kind="p3d"):
    """P3D. Depths 63, 131 and 199 are built like ResNet-50, -101 and -152.

    Pools halve the number of frames after the stem and after stages 2, 3 and 4 (res2 to res4). Of 16 frames, one is
    left for stage 5 (res5), which has 2D convolutions. The spatial and the temporal convolution of a block are both
    between positions b and c.
    """

    kind: Literal["p3d"] = "p3d"
    depth: Literal[17, 63, 131, 199] = Field(description="number of layers; 17 has one block per stage")
    inputs: Literal[2, 3] = Field(
        3,
        json_schema_extra=LATER,
        description="channels of a frame: 3 colours, or 2 for optical flow (data.modality: flow)",
    )

    folds: ClassVar[bool] = False
    has_published_weights: ClassVar[bool] = False
    #: Number of blocks in each stage, by depth. A block of res2 to res4 has 4 convolutions, one of res5 has 3.
    blocks: ClassVar = {17: (1, 1, 1, 1), 63: (3, 4, 6, 3), 131: (3, 4, 23, 3), 199: (3, 8, 36, 3)}
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^conv1_custom\.", "conv1."), (r"\.conv_normal\.", ".conv2."), (r"\.bn_normal\.", ".bn2."),
    )  # fmt: skip

    @property
    def input_channels(self) -> int:
        """Number of channels of a frame."""
        return self.inputs

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites block by block. The first convolution of a block has the stride."""
        return sites_in(self, size, _shapes, strides_first=True)

    def check(self, size: int, frames: int) -> None:
        """Refuse clips with too few frames for the pools."""
        if frames < 16:
            raise ValueError(f"frames: p3d halves the time four times; take at least 16 (got {frames})")

    def frames_at(self, site: Site, frames: int) -> int:
        """Return the number of frames at a site: each stage halves it, rounded down."""
        return self._frames_in(site.stage, frames)

    def _frames_in(self, stage: int, frames: int) -> int:
        return frames // 2 ** (stage - 1)

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of the stem and of four stages; a pool belongs to the stage before it."""
        stem, side = self.base(2), conv_out(size, 7, 2)
        # The stem keeps the clip, and the output and the indices of its pool.
        pooled = 2 * stem * self._frames_in(2, frames) * conv_out(side, 3, 2) ** 2
        clip = self.inputs * frames * size**2
        parts = [part_of_clip(1, [Conv3(self.inputs, stem, 49, frames * side**2)], kept=clip + pooled)]
        for stage in self.stages():
            convs, shortcuts, kept = [], [], 0
            t = self._frames_in(stage, frames)
            for s in (s for s in _shapes(self, size) if s.stage == stage):
                places = t * s.side_out**2
                convs += [Conv3(s.inputs, s.planes, 1, places), Conv3(s.planes, s.planes, 9, places)]
                if s.kind != "2D":
                    convs.append(Conv3(s.planes, s.planes, 3, places))
                if s.kind in ("B", "C"):
                    # The sum of both convolutions.
                    kept += s.planes * places
                convs.append(Conv3(s.planes, s.outputs, 1, places))
                if s.resizes:
                    shortcuts.append(Conv3(s.inputs, s.outputs, 1, places))
                if s.kind == "2D" and s.block == 0 and t > 1:
                    # With several frames, the first block and its shortcut each fold a copy of them into the batch.
                    kept += s.inputs * t * s.side_in**2
                if stage < 5 and s.last:
                    kept += 2 * s.outputs * (t // 2) * s.side_out**2
            parts.append(part_of_clip(stage, convs, shortcuts, kept))
        return tuple(parts)

    def build(self) -> "P3D":
        """Return the network with its initial weights."""
        net = P3D(self)
        load_weights(net, self)
        return net


@dataclass(frozen=True)
class _Shape(BlockShape):
    """The shape of one block, its ``kind`` as in `P3DBlock`, and whether it is the ``last`` of its stage."""

    kind: Kind
    last: bool


def _shapes(config: P3DConfig, size: int) -> Iterator[_Shape]:
    """Yield the blocks for clips of ``size`` x ``size`` pixels, in the order of the forward pass."""
    kinds: tuple[Kind, ...] = ("A", "B", "C")
    for index, s in enumerate(shapes_after_stem(config, conv_out(conv_out(size, 7, 2), 3, 2))):
        last = s.block == config.blocks[config.depth][s.stage - 2] - 1
        yield _Shape(**vars(s), kind="2D" if s.stage == 5 else kinds[index % 3], last=last)


class FrameConv(nn.Conv2d):
    """A 2D convolution on each frame; the authors' weights of res5 have this shape."""

    def forward(self, input: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d t i j"]:
        return unfold(super().forward(fold(input)), input.shape[2])


class P3DBlock(SkippedBlock):
    """A bottleneck with a spatial convolution S (1x3x3) and a temporal convolution T (3x1x1), with its sites.

    Between the two 1x1x1 convolutions, a block of kind A has T(S(x)), B has S(x) + T(x), C has S(x) + T(S(x)), and 2D
    has S(x). A norm and a ReLU follow each convolution.

    Shape: (N, inputs, T, H, W) -> (N, outputs, T, H / stride, W / stride), rounded up.
    """

    def __init__(self, kind: Kind, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = _pointwise(kind, inputs, planes, stride)
        self.bn1 = nn.BatchNorm3d(planes)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv2: nn.Module
        if kind == "2D":
            self.conv2 = FrameConv(planes, planes, 3, padding=1, bias=False)
        else:
            self.conv2 = nn.Conv3d(planes, planes, (1, 3, 3), padding=(0, 1, 1), bias=False)
            self.conv3 = nn.Conv3d(planes, planes, (3, 1, 1), padding=(1, 0, 0), bias=False)
            self.bn3 = nn.BatchNorm3d(planes)
        self.conv4 = _pointwise(kind, planes, outputs, 1)
        self.bn4 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(_pointwise(kind, inputs, outputs, stride), nn.BatchNorm3d(outputs))
        else:
            self.downsample = None
        self.kind = kind
        self.at = slots()

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d t i j"]:
        x = self.at["block"](x)
        y = self.at["b"](self.relu(self.bn1(self.conv1(self.at["a"](x)))))
        s = self.relu(self.bn2(self.conv2(y)))
        if self.kind == "2D":
            y = s
        else:
            t = self.relu(self.bn3(self.conv3(y if self.kind == "B" else s)))
            y = t if self.kind == "A" else s + t
        y = self.residual(self.at["d"](self.bn4(self.conv4(self.at["c"](y)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def _pointwise(kind: Kind, inputs: int, outputs: int, stride: int) -> nn.Module:
    if kind == "2D":
        return FrameConv(inputs, outputs, 1, stride, bias=False)
    return nn.Conv3d(inputs, outputs, 1, (1, stride, stride), bias=False)


class P3D(Backbone):
    """Stem, four stages with temporal pools between them, global average pool over frames and pixels.

    Shape: (N, 3, T, H, W) -> (N, channels).
    """

    def __init__(self, config: P3DConfig) -> None:
        super().__init__()
        stem = config.base(2)
        self.conv1 = nn.Conv3d(config.inputs, stem, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((2, 3, 3), 2, (0, 1, 1))
        self.maxpool_2 = nn.MaxPool3d((2, 1, 1), (2, 1, 1))
        layers: list[list[P3DBlock]] = [[], [], [], []]
        for s in _shapes(config, size=160):
            layers[s.stage - 2].append(P3DBlock(s.kind, s.inputs, s.planes, s.stride))
        self.layer1, self.layer2, self.layer3, self.layer4 = (nn.Sequential(*blocks) for blocks in layers)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.channels = config.channels()
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, images: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n c s i j"]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for layer in (self.layer1, self.layer2, self.layer3):
            x = self.maxpool_2(layer(x))
        return self.layer4(x)

"""ResNet (He et al., CVPR 2016, arXiv:1512.03385), as torchvision builds and names it; stage 2 is its layer1."""

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple, Self

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vattn.backbones._base import Backbone, BackboneConfig, Part, conv_out, load_weights
from vattn.modules._base import Layer, Position, Site

_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ResNetConfig(BackboneConfig, kind="resnet"):
    """Depth 10, 18 and 34 are of basic blocks, 50 and 101 of bottlenecks; depth 10 has one block a stage."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[10, 18, 34, 50, 101]
    width: float = Field(1.0, gt=0, le=8, description="times the channels of every layer, rounded to multiples of 8")

    @property
    def published(self) -> str:
        """The name that torchvision publishes weights under."""
        return f"resnet{self.depth}"

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        if self.weights == "default" and (self.depth == 10 or self.width != 1):
            raise ValueError(
                "weights: default has depths 18, 34, 50 and 101 at width 1; write none, or the path of your own file "
                f"(got depth {self.depth}, width {self.width:g})"
            )
        return self

    @property
    def bottleneck(self) -> bool:
        """Blocks are of three convolutions (1x1, 3x3, 1x1), not of two (3x3)."""
        return self.depth >= 50

    @property
    def groups(self) -> int:
        """Groups of a bottleneck's 3x3 convolution."""
        return 1

    def stages(self) -> tuple[int, ...]:
        """Res2 to res5."""
        return (2, 3, 4, 5)

    def positions(self) -> tuple[Position, ...]:
        """All; but in basic blocks the second convolution is the last, so that c is d, and no layer can be replaced."""
        return ("block", "a", "conv1", "b", "conv2", "c", "d") if self.bottleneck else ("block", "a", "b", "d")

    def sites(self, size: int) -> tuple[Site, ...]:
        """Block by block. A block's stride is in its first 3x3 convolution."""
        return _sites(self, size)

    def channels(self) -> int:
        """Length of the feature vector."""
        return self.outputs(5)

    def base(self, stage: int) -> int:
        """Channels that others are multiples of; those of stage 2 are the stem's."""
        return 8 * max(1, round(64 * self.width * 2 ** (stage - 2) / 8))

    def planes(self, stage: int) -> int:
        """Channels of a stage's 3x3 convolutions."""
        return self.base(stage)

    def outputs(self, stage: int) -> int:
        """Channels that a stage's blocks give out."""
        return self.base(stage) * (4 if self.bottleneck else 1)

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Stem and four stages."""
        return tuple(
            Part(p.stage, p.macs * frames, p.params, p.activations * frames) for p in _parts_of_one_image(self, size)
        )

    def build(self) -> "ResNet":
        """Return the network."""
        net = ResNet(self)
        load_weights(net, self.weights, self.published, classifier="fc.")
        return net


class _Shape(NamedTuple):
    """One block: channels in, of its 3x3 convolutions, and out; sides in and out in pixels."""

    stage: int
    block: int
    inputs: int
    planes: int
    outputs: int
    stride: int
    side_in: int
    side_out: int

    @property
    def projects(self) -> bool:
        """Its shortcut is a 1x1 convolution."""
        return self.stride > 1 or self.inputs != self.outputs


def block_shapes(config: ResNetConfig, size: int) -> Iterator[_Shape]:
    """Return the blocks for images of ``size`` x ``size`` pixels, in the order in which data meets them."""
    inputs, side = config.base(2), conv_out(conv_out(size, 7, 2), 3, 2)
    for stage, blocks in zip(config.stages(), _BLOCKS[config.depth], strict=True):
        planes, outputs = config.planes(stage), config.outputs(stage)
        for block in range(blocks):
            stride = 2 if stage > 2 and block == 0 else 1
            side_out = conv_out(side, 3, stride)
            yield _Shape(stage, block, inputs, planes, outputs, stride, side, side_out)
            inputs, side = outputs, side_out


@cache
def _sites(config: ResNetConfig, size: int) -> tuple[Site, ...]:
    sites = []
    for s in block_shapes(config, size):
        # In a basic block the first convolution has the stride, in a bottleneck the second.
        after_first = s.side_in if config.bottleneck else s.side_out
        features = {
            "block": (s.inputs, s.side_in),
            "a": (s.inputs, s.side_in),
            "b": (s.planes, after_first),
            "c": (s.planes, s.side_out),
            "d": (s.outputs, s.side_out),
        }
        for position in config.positions():
            if position == "conv1":
                sites.append(_conv1(s))
            elif position == "conv2":
                sites.append(_conv2(s, config.groups))
            else:
                channels, side = features[position]
                sites.append(Site(s.stage, s.block, position, channels, side, side))
    return tuple(sites)


def _conv1(s: _Shape) -> Layer:
    """Return the place that the first 1x1 convolution of a bottleneck holds; what it keeps, its neighbours keep too."""
    weights = s.inputs * s.planes
    return Layer(
        s.stage, s.block, "conv1", s.inputs, s.side_in, s.side_in, s.planes, stride=1,
        macs=weights * s.side_in**2, params=weights, activations=0,
    )  # fmt: skip


def _conv2(s: _Shape, groups: int) -> Layer:
    """Return the place that the 3x3 convolution of a bottleneck holds."""
    weights, values = 9 * s.planes // groups * s.planes, s.planes * s.side_out**2
    return Layer(
        s.stage, s.block, "conv2", s.planes, s.side_in, s.side_in, s.planes, s.stride,
        macs=weights * s.side_out**2, params=weights + 2 * s.planes, activations=2 * values,
    )  # fmt: skip


@cache
def _parts_of_one_image(config: ResNetConfig, size: int) -> tuple[Part, ...]:
    stem, side = config.base(2), conv_out(size, 7, 2)
    pooled = conv_out(side, 3, 2)
    parts = [
        Part(
            stage=1,
            macs=7 * 7 * 3 * stem * side**2,
            params=7 * 7 * 3 * stem + 2 * stem,
            # The image; what the norm and the pool take; what the pool gives, and where it found it.
            activations=3 * size**2 + 2 * stem * side**2 + 2 * stem * pooled**2,
        )
    ]
    for stage in config.stages():
        macs = params = activations = 0
        for s in (s for s in block_shapes(config, size) if s.stage == stage):
            if config.bottleneck:
                # To each output of a 3x3 convolution, the inputs are those of its group.
                convs = [(s.inputs, s.planes, 1, s.side_in), (s.planes // config.groups, s.planes, 3, s.side_out)]
                convs += [(s.planes, s.outputs, 1, s.side_out)]
            else:
                convs = [(s.inputs, s.planes, 3, s.side_out), (s.planes, s.planes, 3, s.side_out)]
            # Each norm keeps its input; the ReLU behind it works in place and keeps what it gives.
            activations += sum(2 * outputs * side**2 for _, outputs, _, side in convs)
            if s.projects:
                convs.append((s.inputs, s.outputs, 1, s.side_out))
                activations += s.outputs * s.side_out**2
            macs += sum(i * o * k**2 * side**2 for i, o, k, side in convs)
            params += sum(i * o * k**2 + 2 * o for i, o, k, _ in convs)
        parts.append(Part(stage, macs, params, activations))
    return tuple(parts)


class Block(nn.Module):
    """A residual block, basic (two 3x3 convolutions) or bottleneck (1x1, 3x3, 1x1), and its sites.

    Shape: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).
    """

    def __init__(
        self, inputs: int, planes: int, outputs: int, stride: int, *, bottleneck: bool, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv1: nn.Module
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, groups=groups, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, outputs, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
        self.relu, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )  # fmt: skip
        else:
            self.downsample = None
        self.bottleneck = bottleneck
        # Empty ones pass their input through and have no entry in the state dict.
        self.at = nn.ModuleDict({position: nn.Sequential() for position in ("block", "a", "b", "c", "d")})

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        x = self.at["block"](x)
        y = self.at["b"](self.relu(self.bn1(self.conv1(self.at["a"](x)))))
        if self.bottleneck:
            y = self.at["c"](self.relu2(self.bn2(self.conv2(y))))
            y = self.bn3(self.conv3(y))
        else:
            y = self.bn2(self.conv2(y))
        # Not in place: a mechanism may need for its gradient what it gave.
        return self.relu(self.at["d"](y) + (x if self.downsample is None else self.downsample(x)))

    def replace_conv2(self, module: nn.Module) -> None:
        """Put ``module`` in the place of a bottleneck's second convolution, its norm and its ReLU."""
        assert self.bottleneck
        self.conv2, self.bn2, self.relu2 = module, nn.Identity(), nn.Identity()


class ResNet(Backbone):
    """Stem, four stages, average over pixels.

    Shape: (N, 3, H, W) -> (N, channels).
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        stem = config.base(2)
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        layers: list[list[Block]] = [[], [], [], []]
        for s in block_shapes(config, size=224):
            block = Block(
                s.inputs, s.planes, s.outputs, s.stride, bottleneck=config.bottleneck, groups=config.groups
            )  # fmt: skip
            layers[s.stage - 2].append(block)
        self.layer1, self.layer2, self.layer3, self.layer4 = (nn.Sequential(*blocks) for blocks in layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.channels = config.channels()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m c"]:
        x = self.layer4(self.layer3(self.layer2(self.res2(images))))
        return self.avgpool(x).flatten(1)

    def res2(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m d i j"]:
        """Return what the stem and the first stage give."""
        return self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))

    def insert(self, site: Site, module: nn.Module) -> None:
        """Put ``module`` at ``site``, behind what already stands there, or in the place of the layer there."""
        block = self.get_submodule(f"layer{site.stage - 1}.{site.block}")
        assert isinstance(block, Block)
        if site.position == "conv1":
            block.conv1 = module
        elif site.position == "conv2":
            block.replace_conv2(module)
        else:
            sequence = block.at[site.position]
            assert isinstance(sequence, nn.Sequential)
            sequence.append(module)

    def layer(self, site: Layer) -> nn.Module:
        """Return the convolution that holds the place at ``site``."""
        return self.get_submodule(f"layer{site.stage - 1}.{site.block}.{site.position}")

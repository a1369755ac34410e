"""ResNet, with torchvision's layers and names; stage 2 is torchvision's layer1.

Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv:1512.03385).
"""

from collections.abc import Iterator
from functools import cache
from typing import Literal, Self

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vattn.backbones._base import Backbone, Part, conv_out, load_weights, slots
from vattn.backbones._residual import (
    BlockShape,
    ResidualBlock,
    ResidualConfig,
    check_resnet_weights,
    shapes_after_stem,
)
from vattn.modules._base import Layer, Position, Site


class ResNetConfig(ResidualConfig, kind="resnet"):
    """A 2D ResNet. Depths 10, 18 and 34 have basic blocks, the others bottlenecks."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[10, 14, 18, 34, 50, 101] = Field(
        description="number of layers: 10, 18 and 34 have basic blocks, the others bottlenecks; 10 and 14 have one "
        "block per stage"
    )

    @property
    def published(self) -> str:
        """Torchvision's name of the model whose weights it publishes."""
        return f"resnet{self.depth}"

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        check_resnet_weights(self.weights, self.depth, self.width)
        return self

    def positions(self) -> tuple[Position, ...]:
        """Return all positions, without c and the layers in basic blocks.

        The second convolution of a basic block is the last one, so c is the same place as d. Its layers cannot be
        replaced.
        """
        return ("block", "a", "conv1", "b", "conv2", "c", "d") if self.bottleneck else ("block", "a", "b", "d")

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites block by block. The first 3x3 convolution of a block has the stride."""
        return _sites(self, size)

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of the stem and of four stages."""
        return tuple(part.of_images(frames) for part in _parts_of_one_image(self, size))

    def build(self) -> "ResNet":
        """Return the network with its initial weights."""
        net = ResNet(self)
        load_weights(net, self, self.published)
        return net


def block_shapes(config: ResNetConfig, size: int) -> Iterator[BlockShape]:
    """Yield the blocks for images of ``size`` x ``size`` pixels, in the order of the forward pass."""
    return shapes_after_stem(config, conv_out(conv_out(size, 7, 2), 3, 2))


@cache
def _sites(config: ResNetConfig, size: int) -> tuple[Site, ...]:
    sites = []
    for s in block_shapes(config, size):
        for position in config.positions():
            if position == "conv1":
                sites.append(_conv1(s))
            elif position == "conv2":
                sites.append(_conv2(s, config.groups))
            else:
                sites.append(s.site(position, strides_first=not config.bottleneck))
    return tuple(sites)


def _conv1(s: BlockShape) -> Layer:
    """Return the layer of a bottleneck's first 1x1 convolution.

    It adds no activations: its neighbours keep the same values.
    """
    weights = s.inputs * s.planes
    return Layer(
        s.stage, s.block, "conv1", s.inputs, s.side_in, s.side_in, s.planes, stride=1,
        macs=weights * s.side_in**2, params=weights, activations=0,
    )  # fmt: skip


def _conv2(s: BlockShape, groups: int) -> Layer:
    """Return the layer of a bottleneck's 3x3 convolution with its norm and ReLU."""
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
            # The image; the inputs of the norm and of the pool; the pool's output and its indices.
            activations=3 * size**2 + 2 * stem * side**2 + 2 * stem * pooled**2,
        )
    ]
    for stage in config.stages():
        macs = params = activations = 0
        for s in (s for s in block_shapes(config, size) if s.stage == stage):
            if config.bottleneck:
                # An output channel of the 3x3 convolution depends on the input channels of its group.
                convs = [(s.inputs, s.planes, 1, s.side_in), (s.planes // config.groups, s.planes, 3, s.side_out)]
                convs += [(s.planes, s.outputs, 1, s.side_out)]
            else:
                convs = [(s.inputs, s.planes, 3, s.side_out), (s.planes, s.planes, 3, s.side_out)]
            # Each norm keeps its input. The ReLU after it works in place and keeps its output.
            activations += sum(2 * outputs * side**2 for _, outputs, _, side in convs)
            if s.resizes:
                convs.append((s.inputs, s.outputs, 1, s.side_out))
                activations += s.outputs * s.side_out**2
            macs += sum(i * o * k**2 * side**2 for i, o, k, side in convs)
            params += sum(i * o * k**2 + 2 * o for i, o, k, _ in convs)
        parts.append(Part(stage, macs, params, activations))
    return tuple(parts)


class Block(ResidualBlock):
    """A residual block, basic (two 3x3 convolutions) or bottleneck (1x1, 3x3, 1x1), with its sites.

    Shape: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).
    """

    def __init__(
        self, inputs: int, planes: int, outputs: int, stride: int, *, bottleneck: bool, groups: int = 1
    ) -> None:
        super().__init__()
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
        self.at = slots()

    def replace_conv2(self, module: nn.Module) -> None:
        """Put ``module`` in place of a bottleneck's second convolution with its norm and ReLU."""
        assert self.bottleneck
        self.conv2, self.bn2, self.relu2 = module, nn.Identity(), nn.Identity()


class ResNet(Backbone):
    """Stem, four stages, global average pool.

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

    def maps(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m c i j"]:
        return self.layer4(self.layer3(self.layer2(self.res2(images))))

    def res2(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m d i j"]:
        """Return the output of stage 2 (res2), after the stem."""
        return self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))

    def insert(self, site: Site, module: nn.Module) -> None:
        """Put ``module`` at ``site``: after the modules that are already there, or in place of the layer there."""
        block = self.block(site)
        assert isinstance(block, Block)
        if site.position == "conv1":
            block.conv1 = module
        elif site.position == "conv2":
            block.replace_conv2(module)
        else:
            super().insert(site, module)

    def layer(self, site: Layer) -> nn.Module:
        """Return the convolution that is at ``site``."""
        return self.get_submodule(f"layer{site.stage - 1}.{site.block}.{site.position}")

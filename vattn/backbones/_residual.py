"""The common part of residual networks: sizes, block shapes, the forward pass of a block, and sites."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.backbones._base import POSITIONS, Backbone, BackboneConfig, conv_out
from vattn.base import LATER
from vattn.modules._base import Position, Site


class BlocksConfig(BackboneConfig):
    """A network of residual blocks, which training can leave out by chance.

    Stochastic depth, with the linear rule: of L blocks, block l is left out with probability l / L * p, separately for
    each clip. A block that stays is divided by the probability that it does, so that evaluation changes nothing. The
    blocks of one stage in several pathways are numbered for each pathway. Source: Huang, Sun, Liu, Sedra and
    Weinberger, "Deep Networks with Stochastic Depth", ECCV 2016 (arXiv:1603.09382).
    """

    stochastic_depth: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="p, probability that training leaves out the residual branch of the last block, for each clip; "
        "from the first block to the last it rises linearly; 0: never",
        json_schema_extra=LATER,
    )

    def leave_out_blocks(self, net: Backbone, frames: int) -> None:
        """Let ``net`` leave out its blocks in training; ``frames`` successive images of its batch are one clip."""
        for blocks in self.pathways(net):
            for number, block in enumerate(blocks, start=1):
                block.skips, block.frames = self.stochastic_depth * number / len(blocks), frames

    def pathways(self, net: Backbone) -> "list[list[SkippedBlock]]":
        """Return the blocks in the order of the forward pass, for each pathway; unless overridden, there is one."""
        return [[module for module in net.modules() if isinstance(module, SkippedBlock)]]


class ResidualConfig(BlocksConfig):
    """Four stages, 2 to 5, of basic blocks (two convolutions) or bottlenecks (three; the first and last are 1x1)."""

    depth: int = Field(description="number of layers, which sets the type of the blocks and their number per stage")
    width: float = Field(
        1.0, gt=0, le=8, description="factor on the channels of every layer, rounded to multiples of 8"
    )

    #: Number of blocks in each stage, by depth.
    blocks: ClassVar[Mapping[int, tuple[int, ...]]] = {
        10: (1, 1, 1, 1), 14: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
    }  # fmt: skip

    @property
    def bottleneck(self) -> bool:
        """Blocks have three convolutions instead of two."""
        return self.depth not in (10, 18, 34)

    @property
    def groups(self) -> int:
        """Number of groups of a bottleneck's second convolution."""
        return 1

    def positions(self) -> tuple[Position, ...]:
        """Return all positions that are not layers, without c in basic blocks.

        Their second convolution is the last one, so c is the same place as d.
        """
        return POSITIONS if self.bottleneck else ("block", "a", "b", "d")

    def channels(self) -> int:
        """Return the length of the feature vector."""
        return self.outputs(5)

    def base(self, stage: int) -> int:
        """Return the base number of channels of a stage; the stem has that of stage 2."""
        return 8 * max(1, round(64 * self.width * 2 ** (stage - 2) / 8))

    def planes(self, stage: int) -> int:
        """Return the number of channels inside a stage's blocks."""
        return self.base(stage)

    def outputs(self, stage: int) -> int:
        """Return the number of output channels of a stage's blocks."""
        return self.base(stage) * (4 if self.bottleneck else 1)


@dataclass(frozen=True)
class BlockShape:
    """The shape of one block: input, inner and output channels; stride; input and output side in pixels."""

    stage: int
    block: int
    inputs: int
    planes: int
    outputs: int
    stride: int
    side_in: int
    side_out: int

    @property
    def resizes(self) -> bool:
        """The shortcut is not the identity, because the block changes the size or the number of channels."""
        return self.stride > 1 or self.inputs != self.outputs

    def site(self, position: Position, *, strides_first: bool) -> Site:
        """Return the block's site at ``position``, which is not a layer.

        ``strides_first``: the first convolution has the stride.
        """
        channels, side = {
            "block": (self.inputs, self.side_in),
            "a": (self.inputs, self.side_in),
            "b": (self.planes, self.side_out if strides_first else self.side_in),
            "c": (self.planes, self.side_out),
            "d": (self.outputs, self.side_out),
        }[position]
        return Site(self.stage, self.block, position, channels, side, side)


def shapes_after_stem(config: ResidualConfig, side: int) -> Iterator[BlockShape]:
    """Yield the blocks in the order of the forward pass, where the stem gives ``side`` x ``side`` pixels."""
    inputs = config.base(2)
    for stage, blocks in zip(config.stages(), config.blocks[config.depth], strict=True):
        planes, outputs = config.planes(stage), config.outputs(stage)
        for block in range(blocks):
            stride = 2 if stage > 2 and block == 0 else 1
            side_out = conv_out(side, 3, stride)
            yield BlockShape(stage, block, inputs, planes, outputs, stride, side, side_out)
            inputs, side = outputs, side_out


@cache
def sites_in(
    config: BackboneConfig, size: int, shapes: Callable[[Any, int], Iterator[BlockShape]], *, strides_first: bool
) -> tuple[Site, ...]:
    """Return the sites of the blocks ``shapes(config, size)``, none of which is a layer to replace.

    ``strides_first`` is as in `BlockShape.site`.
    """
    return tuple(
        s.site(position, strides_first=strides_first) for s in shapes(config, size) for position in config.positions()
    )


class SkippedBlock(nn.Module):
    """A residual block whose residual branch training can leave out; see `BlocksConfig`."""

    #: Probability that the residual branch is left out.
    skips: float = 0.0
    #: Number of successive images in the batch that are one clip.
    frames: int = 1

    def residual(self, branch: Float[Tensor, "n d *fewer"]) -> Float[Tensor, "n d *fewer"]:
        """Return the output of the residual branch, in training without that of some clips."""
        if not self.training or not self.skips:
            return branch
        clips, stays = branch.unflatten(0, (-1, self.frames)), 1 - self.skips
        kept = clips.new_empty(len(clips), *[1] * (clips.dim() - 1)).bernoulli_(stays)
        return (clips * kept.div_(stays)).flatten(0, 1)


class ResidualBlock(SkippedBlock):
    """The forward pass of a residual block, basic or bottleneck, with a norm after each convolution; and its sites.

    A subclass creates the layers, for images or for clips. ``downsample`` is None where the shortcut is the identity.

    Shape: (N, inputs, ..., H, W) -> (N, outputs, ..., H / stride, W / stride), rounded up.
    """

    bottleneck: bool
    conv1: nn.Module
    conv2: nn.Module
    conv3: nn.Module
    bn1: nn.Module
    bn2: nn.Module
    bn3: nn.Module
    relu: nn.Module
    relu2: nn.Module
    downsample: nn.Module | None
    at: nn.ModuleDict

    def forward(self, x: Float[Tensor, "n c *places"]) -> Float[Tensor, "n d *fewer"]:
        x = self.at["block"](x)
        y = self.at["b"](self.relu(self.bn1(self.conv1(self.at["a"](x)))))
        if self.bottleneck:
            y = self.at["c"](self.relu2(self.bn2(self.conv2(y))))
            y = self.bn3(self.conv3(y))
        else:
            y = self.bn2(self.conv2(y))
        # Not in place: a mechanism may need its own output for its gradient.
        return self.relu(self.residual(self.at["d"](y)) + (x if self.downsample is None else self.downsample(x)))


def check_resnet_weights(weights: str, depth: int, width: float) -> None:
    """Check that torchvision publishes weights of this ResNet, where ``weights`` is default.

    Raises:
        ValueError: it publishes none of this depth and width.
    """
    if weights == "default" and (depth in (10, 14) or width != 1):
        raise ValueError(
            "weights: default has depths 18, 34, 50 and 101 at width 1; write none, or the path of your own file "
            f"(got depth {depth}, width {width:g})"
        )

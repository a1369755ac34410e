"""Inception v3, with torchvision's layers and names.

Source: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision", CVPR
2016 (arXiv:1512.00567).
"""

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vattn.backbones._base import POSITIONS, Backbone, BackboneConfig, Conv, Part, load_weights, part_of, slots
from vattn.modules._base import Site

#: The smallest image that the reductions can process, pixels a side.
_SMALLEST_SIDE = 75


class InceptionV3Config(BackboneConfig, kind="inception_v3"):
    """Inception v3 without the auxiliary classifier. Stage k is torchvision's Mixed_(k + 2).

    As in a ResNet, stage k has about 1 / 2^k of the image's side. Stages 3, 4 and 5 have 3, 5 and 3 blocks, stage 2 has
    none. Mechanisms are in the branch with the most convolutions (3x3dbl, 7x7dbl, 7x7x3), which takes the role of the
    residual path: position a is before its first convolution, b after it, c after the second, and d at its end, before
    the concatenation. Position block is before the branches split. Images have at least 75 pixels a side.

    The published weights were trained on values in [-1, 1]. With ``weights: default`` the network therefore converts
    images that are normalised by ImageNet's mean and standard deviation to this range, as torchvision does. With the
    weights of a file it uses images unchanged.
    """

    kind: Literal["inception_v3"] = "inception_v3"

    def check(self, size: int, frames: int) -> None:
        """Refuse images that are too small for the reductions."""
        if size < _SMALLEST_SIDE:
            raise ValueError(
                f"size: inception_v3 takes images of {_SMALLEST_SIDE} pixels a side or more; enlarge them, or take "
                f"another backbone (got {size})"
            )

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites block by block."""
        return _sites(size)

    def channels(self) -> int:
        """Return the length of the feature vector."""
        return 2048

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of the stem and of three stages."""
        return tuple(
            Part(p.stage, p.macs * frames, p.params, p.activations * frames) for p in _parts_of_one_image(size)
        )

    def build(self) -> "InceptionV3":
        """Return the network with its initial weights."""
        net = InceptionV3(to_symmetric=self.weights == "default")
        load_weights(net, self, "inception_v3")
        return net


class _Layer(NamedTuple):
    """A convolution with its norm and ReLU. It has no padding if its stride is 2 or ``valid`` is set."""

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False

    @property
    def pads(self) -> bool:
        return self.stride == 1 and not self.valid

    def side(self, side: int) -> int:
        """Return the output side, in pixels."""
        return side if self.pads else (side - self.kernel[0]) // self.stride + 1


class _Branch(NamedTuple):
    """Layers in sequence, with an optional pool before them and an optional fork of two parallel layers after them."""

    layers: tuple[_Layer, ...] = ()
    fork: tuple[_Layer, ...] = ()
    pool: Literal["none", "average", "max"] = "none"


class _Shape(NamedTuple):
    """The shape of one block: name in torchvision, input and output channels and side in pixels, branches."""

    stage: int
    block: int
    name: str
    inputs: int
    outputs: int
    side_in: int
    side_out: int
    branches: tuple[_Branch, ...]


_STEM = (
    _Layer("Conv2d_1a_3x3", 32, (3, 3), stride=2),
    _Layer("Conv2d_2a_3x3", 32, (3, 3), valid=True),
    _Layer("Conv2d_2b_3x3", 64, (3, 3)),
    _Layer("Conv2d_3b_1x1", 80),
    _Layer("Conv2d_4a_3x3", 192, (3, 3), valid=True),
)
#: Stem layers that are followed by a pool.
_POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")
_TALL, _WIDE = (7, 1), (1, 7)


def _in_sequence(name: str, *layers: tuple[int, tuple[int, int]], reduce: bool = False) -> tuple[_Layer, ...]:
    """Return layers named name_1, name_2 and so on; ``reduce``: the last has stride 2."""
    return tuple(
        _Layer(f"{name}_{i}", outputs, kernel, stride=2 if reduce and i == len(layers) else 1)
        for i, (outputs, kernel) in enumerate(layers, start=1)
    )


def _at_35(pooled: int) -> tuple[_Branch, ...]:
    return (
        _Branch((_Layer("branch1x1", 64),)),
        _Branch(_in_sequence("branch5x5", (48, (1, 1)), (64, (5, 5)))),
        _Branch(_in_sequence("branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3)))),
        _Branch((_Layer("branch_pool", pooled),), pool="average"),
    )


def _at_17(inner: int) -> tuple[_Branch, ...]:
    twice = _in_sequence(
        "branch7x7dbl", (inner, (1, 1)), (inner, _TALL), (inner, _WIDE), (inner, _TALL), (192, _WIDE)
    )  # fmt: skip
    return (
        _Branch((_Layer("branch1x1", 192),)),
        _Branch(_in_sequence("branch7x7", (inner, (1, 1)), (inner, _WIDE), (192, _TALL))),
        _Branch(twice),
        _Branch((_Layer("branch_pool", 192),), pool="average"),
    )


def _fork(name: str) -> tuple[_Layer, ...]:
    return (_Layer(f"{name}a", 384, (1, 3)), _Layer(f"{name}b", 384, (3, 1)))


_TO_17 = (
    _Branch((_Layer("branch3x3", 384, (3, 3), stride=2),)),
    _Branch(_in_sequence("branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3)), reduce=True)),
    _Branch(pool="max"),
)
_TO_8 = (
    _Branch(_in_sequence("branch3x3", (192, (1, 1)), (320, (3, 3)), reduce=True)),
    _Branch(_in_sequence("branch7x7x3", (192, (1, 1)), (192, _WIDE), (192, _TALL), (192, (3, 3)), reduce=True)),
    _Branch(pool="max"),
)
_AT_8 = (
    _Branch((_Layer("branch1x1", 320),)),
    _Branch(_in_sequence("branch3x3", (384, (1, 1))), _fork("branch3x3_2")),
    _Branch(_in_sequence("branch3x3dbl", (448, (1, 1)), (384, (3, 3))), _fork("branch3x3dbl_3")),
    _Branch((_Layer("branch_pool", 192),), pool="average"),
)
#: Blocks and their branches (the paper's Figures 5, 6 and 7; the reductions are Figure 10). The names of the branch
#: functions give the side in pixels for images of 299 pixels.
_BLOCKS = {
    3: {"5b": _at_35(32), "5c": _at_35(64), "5d": _at_35(64)},
    4: {"6a": _TO_17, "6b": _at_17(128), "6c": _at_17(160), "6d": _at_17(160), "6e": _at_17(192)},
    5: {"7a": _TO_8, "7b": _AT_8, "7c": _AT_8},
}


def _deepest(branches: tuple[_Branch, ...]) -> int:
    """Return the index of the branch with the sites a to d: in every block the last but one."""
    return len(branches) - 2


def _pooled(side: int) -> int:
    return (side - 3) // 2 + 1


def _stem_sides(size: int) -> Iterator[tuple[_Layer, int]]:
    """Yield each layer of the stem with its output side, in pixels, before any pool."""
    for layer in _STEM:
        size = layer.side(size)
        yield layer, size
        if layer.name in _POOLED:
            size = _pooled(size)


def _shapes(size: int) -> Iterator[_Shape]:
    *_, (last, unpooled) = _stem_sides(size)
    inputs, side = last.outputs, _pooled(unpooled)
    for stage, blocks in _BLOCKS.items():
        for i, (name, branches) in enumerate(blocks.items()):
            reduces = any(branch.pool == "max" for branch in branches)
            outputs = sum(_outputs(branch, inputs) for branch in branches)
            side_out = _pooled(side) if reduces else side
            yield _Shape(stage, i, f"Mixed_{name}", inputs, outputs, side, side_out, branches)
            inputs, side = outputs, side_out


def _outputs(branch: _Branch, inputs: int) -> int:
    """Return the number of output channels of a branch."""
    if branch.fork:
        return sum(layer.outputs for layer in branch.fork)
    return branch.layers[-1].outputs if branch.layers else inputs


@cache
def _sites(size: int) -> tuple[Site, ...]:
    sites = []
    for s in _shapes(size):
        branch = s.branches[_deepest(s.branches)]
        first, second = branch.layers[:2]
        features = {
            "block": (s.inputs, s.side_in),
            "a": (s.inputs, s.side_in),
            "b": (first.outputs, s.side_in),
            "c": (second.outputs, s.side_in),
            "d": (_outputs(branch, s.inputs), s.side_out),
        }
        for position in POSITIONS:
            channels, side = features[position]
            sites.append(Site(s.stage, s.block, position, channels, side, side))
    return tuple(sites)


@cache
def _parts_of_one_image(size: int) -> tuple[Part, ...]:
    convs, inputs, kept = [], 3, 3 * size**2
    for layer, side in _stem_sides(size):
        convs.append(Conv(inputs, layer.outputs, layer.kernel[0] * layer.kernel[1], side))
        inputs = layer.outputs
        if layer.name in _POOLED:
            # The pool's output and its indices.
            kept += 2 * layer.outputs * _pooled(side) ** 2
    parts = [part_of(1, convs, kept)]
    for stage in _BLOCKS:
        convs, kept = [], 0
        for s in (s for s in _shapes(size) if s.stage == stage):
            for branch in s.branches:
                inputs, side = s.inputs, s.side_in
                for layer in branch.layers:
                    side = layer.side(side)
                    convs.append(Conv(inputs, layer.outputs, layer.kernel[0] * layer.kernel[1], side))
                    inputs = layer.outputs
                convs += [Conv(inputs, fork.outputs, 3, side) for fork in branch.fork]
                # An average pool: its output, which the next convolution needs. A maximum pool: its indices.
                kept += s.inputs * {"none": 0, "average": s.side_in, "max": s.side_out}[branch.pool] ** 2
            # The concatenation, which the next block needs; the global average pool after the last block does not.
            kept += s.outputs * s.side_out**2 if s.name != "Mixed_7c" else 0
        parts.append(part_of(stage, convs, kept))
    return tuple(parts)


class _Conv(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, inputs: int, layer: _Layer) -> None:
        super().__init__()
        height, width = layer.kernel
        padding = (height // 2, width // 2) if layer.pads else 0
        self.conv = nn.Conv2d(inputs, layer.outputs, layer.kernel, layer.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(layer.outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Block(nn.Module):
    """Parallel branches whose outputs are concatenated, with sites in one of them.

    Shape: (N, inputs, H, W) -> (N, outputs, I, J).
    """

    def __init__(self, inputs: int, branches: tuple[_Branch, ...]) -> None:
        super().__init__()
        self._branches = branches
        self._deepest = _deepest(branches)
        for branch in branches:
            channels = inputs
            for layer in branch.layers:
                self.add_module(layer.name, _Conv(channels, layer))
                channels = layer.outputs
            for layer in branch.fork:
                self.add_module(layer.name, _Conv(channels, layer))
        self.at = slots()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        x = self.at["block"](x)
        outputs = []
        for i, branch in enumerate(self._branches):
            outputs.append(self._run_with_sites(branch, x) if i == self._deepest else self._run(branch, x))
        return torch.cat(outputs, dim=1)

    def _run(self, branch: _Branch, x: Tensor) -> Tensor:
        if branch.pool == "max":
            return F.max_pool2d(x, 3, stride=2)
        if branch.pool == "average":
            x = F.avg_pool2d(x, 3, stride=1, padding=1)
        for layer in branch.layers:
            x = self.get_submodule(layer.name)(x)
        if branch.fork:
            return torch.cat([self.get_submodule(layer.name)(x) for layer in branch.fork], dim=1)
        return x

    def _run_with_sites(self, branch: _Branch, x: Tensor) -> Tensor:
        first, second, *others = branch.layers
        x = self.at["b"](self.get_submodule(first.name)(self.at["a"](x)))
        x = self.at["c"](self.get_submodule(second.name)(x))
        return self.at["d"](self._run(branch._replace(layers=tuple(others)), x))


class InceptionV3(Backbone):
    """Stem, eleven blocks, global average pool.

    Shape: (N, 3, H, W) -> (N, 2048).
    """

    def __init__(self, to_symmetric: bool) -> None:
        super().__init__()
        self.channels = 2048
        self._to_symmetric = to_symmetric
        inputs = 3
        for layer in _STEM:
            self.add_module(layer.name, _Conv(inputs, layer))
            inputs = layer.outputs
        for s in _shapes(size=299):
            self.add_module(s.name, Block(s.inputs, s.branches))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.1, a=-2, b=2)

    def maps(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c i j"]:
        x = from_imagenet_to_symmetric(images) if self._to_symmetric else images
        for layer in _STEM:
            x = self.get_submodule(layer.name)(x)
            if layer.name in _POOLED:
                x = F.max_pool2d(x, 3, stride=2)
        for blocks in _BLOCKS.values():
            for name in blocks:
                x = self.get_submodule(f"Mixed_{name}")(x)
        return x

    def stage_of(self, name: str) -> int:
        """Return the stage of a module or parameter."""
        block = name.partition(".")[0].removeprefix("Mixed_")
        return next((stage for stage, blocks in _BLOCKS.items() if block in blocks), 1)

    def block(self, site: Site) -> nn.Module:
        """Return the block that contains ``site``."""
        return self.get_submodule(f"Mixed_{list(_BLOCKS[site.stage])[site.block]}")


def from_imagenet_to_symmetric(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Convert images that are normalised by ImageNet's mean and standard deviation to values in [-1, 1]."""
    mean = images.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = images.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (images * deviation + mean - 0.5) / 0.5

"""The network of TDN: a ResNet with the short-term temporal difference module (S-TDM).

TDN's long-term temporal difference module is the mechanism ``tdn``.

Source: Wang, Tong, Ji and Wu, "TDN: Temporal Difference Networks for Efficient Action Recognition", CVPR 2021
(arXiv:2012.10071).
"""

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.backbones._base import Backbone, Part, conv_out, load_weights
from vattn.backbones._residual import SkippedBlock
from vattn.backbones.resnet import ResNet, ResNetConfig, block_shapes
from vattn.modules._base import Layer, Site
from vattn.weights import read_state


class TDNResNetConfig(ResNetConfig, kind="resnet_tdn"):
    """A ResNet with a second path for the differences between the frames around each frame.

    ``weights`` are those of a TDN, or of a ResNet without this path, from which both paths start.
    """

    kind: Literal["resnet_tdn"] = "resnet_tdn"  # pyright: ignore[reportIncompatibleVariableOverride]
    keep: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="alpha: weight of the single frame's path, against 1 - alpha of the path of differences; the "
        "authors use 0.5 for T = 8, otherwise 0.75",
    )

    frames_per_segment: ClassVar[int] = 5
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = (
        # Entries of their checkpoints that their network does not use.
        (r"^conv1_temp1?\..*", ""),
        (r"^(layer\d)_bak\.", r"\1."), (r"^resnext_layer1\.", "short_layer1."), (r"^conv1_5\.", "short_stem."),
    )  # fmt: skip

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return the sites of the ResNet. Its convolutions have biases in this network."""
        return tuple(
            replace(site, params=site.params + site.outputs) if isinstance(site, Layer) else site
            for site in super().sites(size)
        )

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost by stage. Stem and res2 have a path of differences too, at half the height and width."""
        base, wide = self.base(2), conv_out(conv_out(size, 7, 2), 3, 2)
        side = conv_out(size // 2, 7, 2)
        weights = 7 * 7 * 12 * base
        short_stem = Part(
            1,
            weights * side**2 * frames,
            weights + 2 * base,
            # Four further frames; the inputs of the convolution, its norm and the pool; the pool's output and indices.
            (12 * size**2 + 12 * (size // 2) ** 2 + 2 * base * (side**2 + conv_out(side, 3, 2) ** 2)) * frames,
        )
        short_res2 = super().parts(size // 2, frames)[1]
        # The sum of both paths.
        short_res2 = short_res2._replace(activations=short_res2.activations + self.outputs(2) * wide**2 * frames)
        biases = Counter({1: base})
        for s in block_shapes(self, size):
            outputs = [s.planes] * self.bottleneck + [s.planes, s.outputs] + [s.outputs] * s.resizes
            biases[s.stage] += sum(outputs) * (2 if s.stage == 2 else 1)
        added = {1: short_stem, 2: short_res2}
        nothing = Part(0, 0, 0, 0)
        return tuple(
            Part(part.stage, part.macs + more.macs, part.params + more.params + biases[part.stage],
                 part.activations + more.activations)
            for part in super().parts(size, frames) for more in [added.get(part.stage, nothing)]
        )  # fmt: skip

    def pathways(self, net: Backbone) -> list[list[SkippedBlock]]:
        """Return the ResNet's blocks, and those with the blocks of the path of differences in their places."""
        assert isinstance(net, TDNResNet)
        first, others = net.layer1, (net.layer2, net.layer3, net.layer4)
        paths = [chain.from_iterable([layer, *others]) for layer in (first, net.short_layer1)]
        return [[block for block in path if isinstance(block, SkippedBlock)] for path in paths]

    def build(self) -> "TDNResNet":
        """Return the network with its initial weights."""
        net = TDNResNet(self)
        if (file := self.weights_file) and _has_short_path(file):
            load_weights(net, self)
            return net
        if self.weights != "none":
            net.load_state_dict(super().build().state_dict(), strict=False)
        net.start_short_path()
        return net


def _has_short_path(file: Path) -> bool:
    return file.is_file() and any("conv1_5." in name or "short_stem." in name for name in read_state(file))


class TDNResNet(ResNet):
    r"""Mix the middle one of 5 frames with the differences between the 5 frames, after the stem and after res2.

    .. math::
        D &= \mathrm{pool}([F_2 - F_1, F_3 - F_2, F_4 - F_3, F_5 - F_4]), \quad S = \mathrm{stem}_D(D) \\
        X &= \alpha \, \mathrm{stem}(F_3) + (1 - \alpha) \, \mathrm{up}(S) \\
        Y &= \alpha \, \mathrm{res2}(X) + (1 - \alpha) \, \mathrm{up}(\mathrm{res2}_D(S))

    A stem is a 7x7 convolution, batch norm, ReLU and maximum pool; pool is an average pool; up repeats pixels (nearest
    neighbour). The rest is a ResNet. As in the authors' code, the ResNet's convolutions have biases, and both paths
    start from the same weights; those of the stem of differences are the mean over the colours.

    Shape: (N * 5, 3, H, W) -> (N, channels), with 5 successive frames after each other.
    """

    def __init__(self, config: TDNResNetConfig) -> None:
        super().__init__(config)
        add_biases(self)
        stem = config.base(2)
        self.short_pool = nn.AvgPool2d(2)
        self.short_stem = nn.Sequential(
            nn.Conv2d(12, stem, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )  # fmt: skip
        self.short_layer1 = deepcopy(self.layer1)
        self.keep = config.keep

    def start_short_path(self) -> None:
        """Copy the weights of the single frame's path to the path of differences."""
        conv = self.short_stem[0]
        assert isinstance(conv, nn.Conv2d)
        with torch.no_grad():
            conv.weight.copy_(self.conv1.weight.mean(1, keepdim=True).expand_as(conv.weight))
        self.short_layer1.load_state_dict(self.layer1.state_dict())

    def res2(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m d i j"]:
        """Return the mixed output of res2 of both paths."""
        # The mean of differences is the difference of means, which has a quarter of the pixels.
        small = self.short_pool(images).unflatten(0, (-1, 5))
        # The colours of the four differences are the channels of one image, in the format channels_last.
        short = self.short_stem((small[:, 1:] - small[:, :-1]).permute(0, 3, 4, 1, 2).flatten(-2).permute(0, 3, 1, 2))
        middle = images.unflatten(0, (-1, 5))[:, 2]
        x = self._mixed(self.maxpool(self.relu(self.bn1(self.conv1(middle)))), short)
        return self._mixed(self.layer1(x), self.short_layer1(short))

    def stage_of(self, name: str) -> int:
        """Return the stage of a module or parameter; the path of differences has stages 1 and 2."""
        return super().stage_of(name.removeprefix("short_"))

    def first_convolutions(self) -> list[nn.Module]:
        """Return the convolutions of both stems."""
        return [self.conv1, self.short_stem[0]]

    def _mixed(self, x: Float[Tensor, "n c h w"], short: Float[Tensor, "n c i j"]) -> Float[Tensor, "n c h w"]:
        return self.keep * x + (1 - self.keep) * F.interpolate(short, x.shape[-2:])


def add_biases(net: nn.Module) -> None:
    """Give each 2D convolution in ``net`` a bias of 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(module.weight.new_zeros(module.out_channels))

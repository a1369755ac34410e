"""MTA: multiple temporal aggregation, one half of TEA (vattn/modules/tea.py is the other).

Yan Li, Bin Ji, Xintian Shi, Jianguo Zhang, Bin Kang and Limin Wang, "TEA: Temporal Excitation and Aggregation for
Action Recognition", CVPR 2020, arXiv:2004.01398, section 3.2.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import Layer, ModuleConfig, Place, Position, Site
from vattn.modules._fold import fold, unfold
from vattn.modules._temporal import LearnableShift


class MTAConfig(ModuleConfig, kind="mta"):
    """Options of MTA, which replaces the 3x3 convolution of a bottleneck.

    The TEA network has ``tea`` at position b and MTA in every block of a ``resnext`` with 4 groups of width 26.
    """

    kind: Literal["mta"] = "mta"
    position: Place = "conv2"
    splits: int = Field(
        4, ge=2, description="S, groups of channels; each but the last takes the output of the one before"
    )

    places: ClassVar[tuple[Position, ...]] = ("conv2",)
    no_identity = "it replaces a convolution and has a different form"
    authors_names = ((r"(shifts\.\d+)\.conv\.", r"\1."),)
    authors_network = ((r"(layer\d\.\d+)\.(convs|bns|shifts)\.", r"\1.conv2.module.\2."),)

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``splits`` does not divide the channels."""
        if site.channels % self.splits:
            fitting = [n for n in range(2, 17) if site.channels % n == 0]
            raise ValueError(
                f"splits: must divide the channels, of which stage {site.stage} has {site.channels} at position "
                f"{site.position}; try {', '.join(map(str, fitting)) or 'another width of the backbone'} "
                f"(got {self.splits})"
            )

    def build(self, site: Site, frames: int) -> "MTA":
        """Return the aggregation that replaces the layer at ``site``."""
        assert isinstance(site, Layer)
        return MTA(site.channels // self.splits, self.splits, site.stride, first=site.block == 0)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        width, (pixels, pixels_out) = site.channels // self.splits, _pixels(site)
        return frames * width * (3 * self.splits * pixels + 9 * width * (self.splits - 1) * pixels_out)

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        width = site.channels // self.splits
        return width * (3 * self.splits + (self.splits - 1) * (9 * width + 2))

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: inputs of the layers of each split, outputs of the ReLUs, output.

        A split of the input is a view, which is not counted.
        """
        width, (pixels, pixels_out) = site.channels // self.splits, _pixels(site)
        kept = (self.splits - 1) * (pixels + 2 * pixels_out) + self.splits * pixels_out
        # In the first block of a stage, the pool keeps its input. In other blocks, each sum of two splits is new.
        kept += pixels if site.block == 0 else (self.splits - 2) * pixels
        return frames * width * kept


def _pixels(site: Site) -> tuple[int, int]:
    """Return the numbers of pixels of a frame before and after the layer at ``site``."""
    assert isinstance(site, Layer)
    return site.height * site.width, -(-site.height // site.stride) * -(-site.width // site.stride)


class MTA(nn.Module):
    r"""Split the channels and process each split over time and space, after adding the output of the split before.

    .. math:: Y_i = \text{ReLU}(K_i \ast (T_i \ast (X_i + Y_{i-1}))), \quad Y_0 = 0, \quad Y_S = T_S \ast X_S

    :math:`X_i` are the S splits. :math:`T_i` are depthwise temporal convolutions with 3 taps; they start as the
    identity, the last as a shift of one half of its channels in each direction. :math:`K_i` are 3x3 convolutions, each
    with a batch norm. So the receptive field grows from split to split.

    This follows the authors' code; the paper passes the first split on unchanged. In the ``first`` block of a stage,
    the code adds no output of another split, and averages the last split over 3x3 pixels with the stride, zeros at the
    border included.

    Shape: (N, C, T, H, W) -> (N, C, T, H / stride, W / stride), with C = ``splits * width``.
    """

    def __init__(self, width: int, splits: int, stride: int, *, first: bool) -> None:
        super().__init__()
        shifts = [LearnableShift(width, div=2) for _ in range(splits)]
        for shift in shifts[:-1]:
            shift.init_identity()
        convs = [nn.Conv2d(width, width, 3, stride, padding=1, bias=False) for _ in range(splits - 1)]
        for conv in convs:
            # The same initialisation as the convolutions of the backbone.
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.shifts, self.convs = nn.ModuleList(shifts), nn.ModuleList(convs)
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(splits - 1))
        self.stride = stride
        self.first = first

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t i j"]:
        *splits, last = x.chunk(len(self.shifts), dim=1)
        *shifts, last_shift = self.shifts
        outputs: list[Tensor] = []
        for split, shift, conv, bn in zip(splits, shifts, self.convs, self.bns, strict=True):
            total = split if self.first or not outputs else split + unfold(outputs[-1], x.shape[2])
            outputs.append(F.relu(bn(conv(fold(shift(total)))), inplace=True))
        last = fold(last_shift(last))
        outputs.append(F.avg_pool2d(last, 3, self.stride, padding=1) if self.first else last)
        return unfold(torch.cat(outputs, dim=1), x.shape[2])

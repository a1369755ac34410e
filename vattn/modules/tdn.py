"""TDN: long-term temporal difference module, L-TDM; the short-term module is the backbone ``resnet_tdn``.

Limin Wang, Zhan Tong, Bin Ji and Gangshan Wu, "TDN: Temporal Difference Networks for Efficient Action Recognition",
CVPR 2021, arXiv:2012.10071.
"""

from collections import OrderedDict
from typing import Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site, check_divisors
from vattn.modules._fold import fold, unfold
from vattn.modules._temporal import LearnableShift, difference


class TDNConfig(ModuleConfig, kind="tdn"):
    """Options of L-TDM and of the shift that follows it; the authors' network has both in res3 to res5."""

    kind: Literal["tdn"] = "tdn"
    stages: tuple[int, ...] = Field(
        (3, 4, 5),
        description="residual stages that get the mechanism; 2 is res2, 5 is res5; each once; the authors omit res2",
    )
    reduction: int = Field(
        16, ge=1, description="r, reduction of the channels whose differences are computed: C -> C // r"
    )
    shift: bool = Field(True, description="learnable temporal shift after the difference module")
    div: int = Field(
        8, ge=2, description="the learnable shift starts by shifting C // div channels in each direction of time"
    )

    authors_names = (
        (r"(^|\.)conv1\.", r"\1reduce.0."), (r"(^|\.)bn1\.", r"\1reduce.1."), (r"(^|\.)conv2\.", r"\1smooth."),
        (r"(^|\.)conv3_smallscale2\.", r"\1coarse."), (r"(^|\.)bn3_smallscale2\.", r"\1coarse_norm."),
        (r"(^|\.)conv3_smallscale4\.", r"\1fine."), (r"(^|\.)bn3_smallscale4\.", r"\1fine_norm."),
        (r"(^|\.)conv3\.", r"\1expand."), (r"(^|\.)bn3\.", r"\1expand_norm."),
    )  # fmt: skip
    authors_network = (
        (r"(layer\d\.\d+)\.mse\.", r"\1.at.b.0.module.difference."),
        (r"(layer\d\.\d+)\.shift\.conv\.", r"\1.at.b.0.module.shift."),
    )

    @property
    def reversal_equivariant(self) -> bool:
        """True without the shift: both directions of time share their weights."""
        return not self.shift

    def canonical(self) -> Self:
        """Return an equal mechanism; ``div`` has no effect without the shift, or with ``init: identity``."""
        return self if self.shift and self.init == "default" else self.model_copy(update={"div": 8})

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``reduction`` or ``div`` leaves no channel, or the frames cannot be halved in size."""
        check_divisors(site, reduction=self.reduction)
        if self.shift:
            check_divisors(site, div=self.div)
        if min(site.height, site.width) < 2:
            raise ValueError(
                f"stages: the difference is also taken at half the size, which needs 2 x 2 pixels; leave stage "
                f"{site.stage} out, or enlarge the crop (got {site.height} x {site.width} pixels)"
            )

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the difference module for the features at ``site``, followed by the shift if there is one."""
        difference = LongTermDifference(site.channels, self.reduction)
        if self.init == "identity":
            nn.init.zeros_(difference.expand_norm.weight)
        if not self.shift:
            return difference
        shift = LearnableShift(site.channels, self.div)
        if self.init == "identity":
            shift.init_identity()
        return nn.Sequential(OrderedDict(difference=difference, shift=shift))

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        c, r, pixels = site.channels, site.channels // self.reduction, site.height * site.width
        halved = (site.height // 2) * (site.width // 2)
        each_way = 9 * r * r * (pixels + halved) + r * c * pixels
        return frames * (c * r * pixels + 9 * r * pixels + 2 * each_way + 3 * c * pixels * self.shift)

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        c, r = site.channels, site.channels // self.reduction
        return c * r + 2 * r + 9 * r + 2 * (9 * r * r + 2 * r) + r * c + 2 * c + 3 * c * self.shift

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: hidden values (of both directions from the differences on), gates, outputs."""
        c, r, pixels = site.channels, site.channels // self.reduction, site.height * site.width
        halved = (site.height // 2) * (site.width // 2)
        return frames * (r * (8 * pixels + 4 * halved) + (6 + self.shift) * c * pixels)


class LongTermDifference(nn.Module):
    r"""L-TDM: gate each channel and pixel by the differences to the next and to the previous frame.

    .. math::
        D^\pm_t &= W_s \ast b_{t \pm 1} - b_t, \quad b = \mathrm{BN}(W_r X) \\
        S(D) &= (D + \mathrm{up}(\mathrm{BN}(W_c \ast \mathrm{pool}(D))) + \mathrm{BN}(W_f \ast D)) / 3 \\
        Y &= X + X \odot (\sigma(\mathrm{BN}(W_e S(D^+))) + \sigma(\mathrm{BN}(W_e S(D^-))) - 1) / 2

    The last :math:`D^+` and the first :math:`D^-` are 0. :math:`W_s` is depthwise 3x3, :math:`W_c` and :math:`W_f` are
    3x3, :math:`W_r` (C -> C // r) and :math:`W_e` (back) are 1x1. pool is a 2x2 average, up a nearest-neighbour
    upsampling. Both directions share all weights. In training, the norms use separate statistics for each direction, as
    in the authors' code. With ``authors_code``, the backward :math:`W_f` branch takes the output of the forward branch
    as its input, which is a defect in the code of M2A.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W), with H and W at least 2.
    """

    def __init__(self, channels: int, reduction: int, authors_code: bool = False) -> None:
        super().__init__()
        reduced = channels // reduction
        self.reduce = nn.Sequential(nn.Conv2d(channels, reduced, 1, bias=False), nn.BatchNorm2d(reduced))
        self.smooth = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.pool = nn.AvgPool2d(2)
        self.coarse = nn.Conv2d(reduced, reduced, 3, padding=1, bias=False)
        self.coarse_norm = nn.BatchNorm2d(reduced)
        self.fine = nn.Conv2d(reduced, reduced, 3, padding=1, bias=False)
        self.fine_norm = nn.BatchNorm2d(reduced)
        self.expand = nn.Conv2d(reduced, channels, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(channels)
        self.authors_code = authors_code

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return torch.addcmul(x / 2, x, self._gates(x), value=0.5)

    def gate(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        """Return the mean gate of both directions minus 0.5, in (-0.5, 0.5); Y = X + X * gate."""
        return self._gates(x) / 2 - 0.5

    def _gates(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        """Return the sum of the sigmoids of both directions."""
        forward, backward = self.expand(self._scales(self._differences(x))).unflatten(0, (2, -1))
        gates = self.expand_norm(forward).sigmoid() + self.expand_norm(backward).sigmoid()
        return unfold(gates, x.shape[2])

    def _differences(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "both r h w"]:
        """Return the differences as images: first those to the next frames, then those to the previous frames."""
        images = self.reduce(fold(x))
        now, smooth = (unfold(y, x.shape[2]) for y in (images, self.smooth(images)))
        return torch.cat([fold(difference(smooth, now, step)) for step in (1, -1)])

    def _scales(self, difference: Float[Tensor, "both r h w"]) -> Float[Tensor, "both r h w"]:
        """Return S(D): the mean of the differences, of their convolution at half the size, and of their convolution."""
        coarse = _by_direction(self.coarse_norm, self.coarse(self.pool(difference)))
        if self.authors_code:
            forward = self.fine_norm(self.fine(difference.unflatten(0, (2, -1))[0]))
            fine = torch.cat([forward, self.fine_norm(self.fine(forward))])
        else:
            fine = _by_direction(self.fine_norm, self.fine(difference))
        return (difference + F.interpolate(coarse, difference.shape[-2:]) + fine) / 3


def _by_direction(norm: nn.Module, both: Float[Tensor, "both r h w"]) -> Float[Tensor, "both r h w"]:
    """Normalise each half of the batch with its own statistics, the first half first."""
    # Not chunk: torch.export cannot divide a number of clips that it does not know.
    return torch.cat([norm(half) for half in both.unflatten(0, (2, -1))])

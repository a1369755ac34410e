"""TEA: motion excitation, ME; the other half of TEA is vattn/modules/mta.py.

Yan Li, Bin Ji, Xintian Shi, Jianguo Zhang, Bin Kang and Limin Wang, "TEA: Temporal Excitation and Aggregation for
Action Recognition", CVPR 2020, arXiv:2004.01398, section 3.1.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site, check_divisors
from vattn.modules._fold import fold, full_precision, unfold
from vattn.modules._temporal import difference


class TEAConfig(ModuleConfig, kind="tea"):
    """Options of motion excitation; in the authors' network it is at position b, before ``mta``."""

    kind: Literal["tea"] = "tea"
    reduction: int = Field(16, ge=1, description="r, reduction of the channels whose motion is computed: C -> C // r")

    authors_network = ((r"(layer\d\.\d+)\.me\.", r"\1.at.b.0.module."),)

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``reduction`` leaves no channel."""
        check_divisors(site, reduction=self.reduction)

    def build(self, site: Site, frames: int) -> "MotionExcitation":
        """Return a motion excitation for the features at ``site``."""
        module = MotionExcitation(site.channels, self.reduction)
        if self.init == "identity":
            assert isinstance(module.bn3, nn.BatchNorm2d)
            # All gates are 1. The scale of the norm learns from the first step, the layers before it from the second.
            nn.init.zeros_(module.bn3.weight)
        return module

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        reduced, pixels = site.channels // self.reduction, site.height * site.width
        return frames * reduced * (site.channels * pixels + 9 * pixels + site.channels)

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        reduced = site.channels // self.reduction
        return reduced * (2 * site.channels + 9) + 2 * reduced + 2 * site.channels

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: input of the first norm, sums for nine taps, hidden values of the gate, output."""
        reduced, pixels = site.channels // self.reduction, site.height * site.width
        return frames * (reduced * (pixels + 10) + site.channels * (3 + pixels))


class MotionExcitation(nn.Module):
    r"""Gate each channel of a frame by its difference to the next frame.

    .. math:: B = W_1 X, \quad D_t = (K \ast B_{t+1}) - B_t, \quad D_T = 0, \quad
        Y = X + X \odot (\sigma(W_3 \bar D) - 1/2)

    :math:`W_1` (C -> C // r) and :math:`W_3` (back) are 1x1 convolutions, each with a batch norm. K is a depthwise 3x3
    convolution. :math:`\bar D` is the spatial mean of D. The convolutions have no biases. The gate
    :math:`\sigma - 1/2` is that of the authors' code; in the paper it is :math:`2 \sigma - 1`. Without ``gate_norm``,
    :math:`W_3` has no norm.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int, reduction: int, *, gate_norm: bool = True) -> None:
        super().__init__()
        reduced = channels // reduction
        self.conv1 = nn.Conv2d(channels, reduced, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(reduced)
        self.conv2 = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.conv3 = nn.Conv2d(reduced, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels) if gate_norm else nn.Identity()

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        # As images, where the gradient of the gates, a sum over pixels, runs along contiguous channels.
        return unfold(fold(x) * (fold(self.logits(x)).sigmoid() + 0.5), x.shape[2])

    def logits(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t 1 1"]:
        """Return the logits of the gates."""
        reduced = self._reduced(x)
        # The mean of a convolution over all pixels follows from means of its input, without running the convolution.
        means = window_means(reduced)
        after = (means * self.conv2.weight.flatten(1)).sum(-1)
        now, after = (y.unflatten(0, x.shape[0:3:2]) for y in (means[..., 4], after))
        change = F.pad(after[:, 1:] - now[:, :-1], (0, 0, 0, 1)).flatten(0, 1)
        return unfold(self._expanded(change.to(reduced.dtype)[..., None, None]), x.shape[2])

    def motion(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n r t h w"]:
        """Return D, the differences to the next frames."""
        images = self._reduced(x)
        now, after = (unfold(y, x.shape[2]) for y in (images, self.conv2(images)))
        return difference(after, now, 1)

    def expand(self, motion: Float[Tensor, "n r t h w"]) -> Float[Tensor, "n c t h w"]:
        """Return the last convolution and norm of ``motion``, which is D or its spatial mean."""
        return unfold(self._expanded(fold(motion)), motion.shape[2])

    def _expanded(self, motion: Float[Tensor, "nt r h w"]) -> Float[Tensor, "nt c h w"]:
        return self.bn3(self.conv3(motion))

    def _reduced(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "nt r h w"]:
        return self.bn1(self.conv1(fold(x)))


def window_means(x: Float[Tensor, "b r h w"]) -> Float[Tensor, "b r 9"]:
    """Return, for each tap of a zero-padded 3x3 convolution, the sum of the pixels that it multiplies, over h * w.

    The middle tap multiplies all pixels, a tap left of it all but the last column, a tap above it all but the last row,
    and so on. Sums are at least float32, because taps of opposite signs subtract sums of similar size.
    """
    h, w = x.shape[-2:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    with full_precision(x.device):
        # The taps that reach a pixel from the pixels around it are those that multiply it, in reverse order.
        taps = F.unfold(x.new_full((1, 1, h, w), 1 / (h * w), dtype=dtype), 3, padding=1).flip(1)
        return torch.bmm(x.flatten(-2).to(dtype), taps.mT.expand(x.shape[0], -1, -1))

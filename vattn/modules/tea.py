"""TEA's motion excitation, ME (Li et al., CVPR 2020, arXiv:2004.01398, section 3.1); its other half is mta.py."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site, check_divisors
from vattn.modules._fold import fold, unfold


class TEAConfig(ModuleConfig, kind="tea"):
    """Motion excitation; the authors put it at position b and follow it with ``mta``."""

    kind: Literal["tea"] = "tea"
    reduction: int = Field(16, ge=1, description="r: motion is seen in C // r channels")

    authors_network = ((r"(layer\d\.\d+)\.me\.", r"\1.at.b.0.module."),)

    def check(self, site: Site, frames: int) -> None:
        """Refuse a ``reduction`` that leaves no channel to see motion in."""
        check_divisors(site, reduction=self.reduction)

    def build(self, site: Site, frames: int) -> "MotionExcitation":
        """Return a motion excitation for the features at ``site``."""
        module = MotionExcitation(site.channels, self.reduction)
        if self.init == "identity":
            assert isinstance(module.bn3, nn.BatchNorm2d)
            # All gates are then 1. The scale learns from the first step on, and what is before it from the second.
            nn.init.zeros_(module.bn3.weight)
        return module

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        reduced, pixels = site.channels // self.reduction, site.height * site.width
        return frames * reduced * (site.channels * pixels + 9 * pixels + site.channels)

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        reduced = site.channels // self.reduction
        return reduced * (2 * site.channels + 9) + 2 * reduced + 2 * site.channels

    def activations(self, site: Site, frames: int) -> int:
        """What the first norm takes, sums for the nine taps, what stands between the gate's layers, the output."""
        reduced, pixels = site.channels // self.reduction, site.height * site.width
        return frames * (reduced * (pixels + 10) + site.channels * (3 + pixels))


class MotionExcitation(nn.Module):
    r"""Raise and lower whole channels of a frame by how its successor differs from it.

    .. math:: B = W_1 X, \quad D_t = (K \ast B_{t+1}) - B_t, \quad D_T = 0, \quad
        Y = X + X \odot (\sigma(W_3 \bar D) - 1/2)

    :math:`W_1` (C -> C // r) and :math:`W_3` (back) are 1x1 convolutions, each with a batch norm; K is a depthwise 3x3
    convolution, :math:`\bar D` the spatial mean. Nothing has a bias. As in the authors' code: the paper's gate is
    :math:`2 \sigma - 1`. Without ``gate_norm``, :math:`W_3` has no norm.

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
        return x * (self.logits(x).sigmoid() + 0.5)

    def logits(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t 1 1"]:
        """Return what the gates' sigmoid takes."""
        reduced = self._reduced(x)
        # A convolution's mean over pixels follows from sums of its input; the convolution itself need not be run.
        sums = window_sums(reduced)
        after = (sums * self.conv2.weight[:, 0].unsqueeze(1)).sum(dim=(-2, -1))
        change = F.pad(after[:, :, 1:] - sums[:, :, :-1, 1, 1], (0, 1)) / (x.shape[-2] * x.shape[-1])
        return self.expand(change.to(reduced.dtype)[..., None, None])

    def motion(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n r t h w"]:
        """Return D."""
        now = self._reduced(x)
        after = unfold(self.conv2(fold(now)), x.shape[2])
        return F.pad(after[:, :, 1:] - now[:, :, :-1], (0, 0, 0, 0, 0, 1))

    def expand(self, motion: Float[Tensor, "n r t h w"]) -> Float[Tensor, "n c t h w"]:
        """Return the last convolution and norm of motion, at every pixel or of its mean."""
        return self.bn3(self.conv3(motion.flatten(-2))).unflatten(-1, motion.shape[-2:])

    def _reduced(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n r t h w"]:
        return self.bn1(self.conv1(x.flatten(-2))).unflatten(-1, x.shape[-2:])


def window_sums(x: Float[Tensor, "n r t h w"]) -> Float[Tensor, "n r t 3 3"]:
    """Return, for each tap of a 3x3 convolution, the sum of the pixels that it meets; the middle one meets all.

    A tap left of the middle meets no pixel of the last column, one above it none of the last row, and so on. The sums
    are of float32 at least: taps of opposite signs leave small differences of them.
    """
    rows = x.sum(-2, dtype=torch.promote_types(x.dtype, torch.float32))
    rows = torch.stack([rows - x[..., -1, :], rows, rows - x[..., 0, :]], dim=-2)
    all_columns = rows.sum(-1)
    return torch.stack([all_columns - rows[..., -1], all_columns, all_columns - rows[..., 0]], dim=-1)

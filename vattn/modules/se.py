"""SE: squeeze and excitation.

Jie Hu, Li Shen and Gang Sun, "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Place, Site, check_divisors
from vattn.modules._fold import frame_means


class SEConfig(ModuleConfig, kind="se"):
    """Options of SE; the defaults are those of the authors, applied to each frame."""

    kind: Literal["se"] = "se"
    position: Place = "d"
    reduction: int = Field(16, ge=1, description="r, reduction of the channels between the two layers: C -> C // r")
    squeeze: Literal["frame", "clip"] = Field(
        "frame", description="average over the pixels of each frame, or of all frames of a clip"
    )

    no_identity = "the sigmoid reaches 1 only in the limit, where its gradient is 0"

    @property
    def reversal_equivariant(self) -> bool:
        """True: frames are processed separately or averaged."""
        return True

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``reduction`` leaves no channel."""
        check_divisors(site, reduction=self.reduction)

    def build(self, site: Site, frames: int) -> "SE":
        """Return the SE for the channels at ``site``."""
        return SE(site.channels, self.reduction, of_clip=self.squeeze == "clip")

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        return self._gates(frames) * self.params(site, frames)

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        return 2 * site.channels * (site.channels // self.reduction)

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: means, hidden values, gates, output."""
        gate = 2 * site.channels + site.channels // self.reduction
        return self._gates(frames) * gate + site.channels * frames * site.height * site.width

    def _gates(self, frames: int) -> int:
        """Return the number of gates of a channel in one clip."""
        return 1 if self.squeeze == "clip" else frames


class SE(nn.Module):
    r"""Multiply each channel by a gate that is predicted from the means of all channels.

    .. math:: Y = X \odot \sigma(W_2 \, \mathrm{ReLU}(W_1 \bar X))

    :math:`\bar X` is the mean over the pixels of a frame, or of all frames of a clip. :math:`W_1` (C -> C // r) and
    :math:`W_2` (back) have no biases, as the authors recommend for ResNets.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int, reduction: int, *, of_clip: bool) -> None:
        super().__init__()
        reduced = channels // reduction
        self.gate = nn.Sequential(
            nn.Conv1d(channels, reduced, 1, bias=False), nn.ReLU(inplace=True),
            nn.Conv1d(reduced, channels, 1, bias=False), nn.Sigmoid(),
        )  # fmt: skip
        self.of_clip = of_clip

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        mean = frame_means(x)
        if self.of_clip:
            mean = mean.mean(dim=-1, keepdim=True)
        return x * self.gate(mean)[..., None, None]

"""SE: squeeze and excitation (Hu et al., CVPR 2018, arXiv:1709.01507)."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Position, Site, check_divisors
from vattn.modules._fold import frame_means


class SEConfig(ModuleConfig, kind="se"):
    """What is squeezed together; the defaults are the authors', frame by frame."""

    kind: Literal["se"] = "se"
    position: Position = "d"
    reduction: int = Field(16, ge=1, description="of the excitation: C -> C // reduction")
    squeeze: Literal["frame", "clip"] = Field("frame", description="one gate a channel for each frame, or for all")

    no_identity = "the sigmoid reaches 1 only in the limit, where it no longer learns"

    @property
    def reversal_equivariant(self) -> bool:
        """Frames do not meet, or meet in a mean."""
        return True

    def check(self, site: Site, frames: int) -> None:
        """Refuse a ``reduction`` that leaves no channel."""
        check_divisors(site, reduction=self.reduction)

    def build(self, site: Site, frames: int) -> "SE":
        """Return the excitation of the channels at ``site``."""
        return SE(site.channels, self.reduction, of_clip=self.squeeze == "clip")

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        return self._gates(frames) * self.params(site, frames)

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        return 2 * site.channels * (site.channels // self.reduction)

    def activations(self, site: Site, frames: int) -> int:
        """The means, what stands between the layers, the gates, the output."""
        gate = 2 * site.channels + site.channels // self.reduction
        return self._gates(frames) * gate + site.channels * frames * site.height * site.width

    def _gates(self, frames: int) -> int:
        return 1 if self.squeeze == "clip" else frames


class SE(nn.Module):
    r"""Scale each channel by a gate predicted from the means of all channels.

    .. math:: Y = X \odot \sigma(W_2 \, \mathrm{ReLU}(W_1 \bar X))

    :math:`\bar X` is the mean over the pixels of a frame, or of all frames of a clip. As the authors advise for
    ResNets, the layers have no biases.

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

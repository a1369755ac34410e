"""C2D-Pool: an average over neighbouring frames (Liu et al., ICCV 2021, arXiv:2005.06803, section 4.3)."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site
from vattn.modules._temporal import odd


class C2DPoolConfig(ModuleConfig, kind="c2d_pool"):
    """TAM's simplest baseline, at TAM's places."""

    kind: Literal["c2d_pool"] = "c2d_pool"
    kernel_size: int = Field(3, ge=1, description="frames that are averaged; odd")

    no_identity = "it averages frames from the first step on"
    _odd = field_validator("kernel_size")(odd)

    @property
    def reversal_equivariant(self) -> bool:
        """Its window is symmetric."""
        return True

    def build(self, site: Site, frames: int) -> "TemporalPool":
        """Return the average, which is the same at any site."""
        return TemporalPool(self.kernel_size)

    def macs(self, site: Site, frames: int) -> int:
        """None: pools are not counted."""
        return 0

    def params(self, site: Site, frames: int) -> int:
        """None."""
        return 0

    def activations(self, site: Site, frames: int) -> int:
        """Its output."""
        return site.channels * frames * site.height * site.width


class TemporalPool(nn.Module):
    """Average each frame with its neighbours; at the ends, with those that there are.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        k = self.kernel_size
        mean = F.avg_pool2d(x.flatten(-2), (k, 1), stride=1, padding=(k // 2, 0), count_include_pad=False)
        return mean.view(x.shape)

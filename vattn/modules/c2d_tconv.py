"""C2D-TConv: a plain temporal convolution (Liu et al., ICCV 2021, arXiv:2005.06803, section 4.3)."""

from typing import Literal

from pydantic import Field, field_validator

from vattn.modules._base import ModuleConfig, Site
from vattn.modules._temporal import TemporalConv, odd


class C2DTConvConfig(ModuleConfig, kind="c2d_tconv"):
    """TAM's baseline of one kernel for all videos, at TAM's places; it mixes channels, and has no bias."""

    kind: Literal["c2d_tconv"] = "c2d_tconv"
    kernel_size: int = Field(3, ge=1, description="taps of the convolution; odd")

    _odd = field_validator("kernel_size")(odd)

    @property
    def reversal_equivariant(self) -> bool:
        """One tap sees no other frame."""
        return self.kernel_size == 1

    def build(self, site: Site, frames: int) -> TemporalConv:
        """Return the convolution for the features at ``site``."""
        conv = TemporalConv(site.channels, site.channels, self.kernel_size)
        if self.init == "identity":
            conv.stand_still()
        return conv

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        return self.params(site, frames) * frames * site.height * site.width

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        return self.kernel_size * site.channels**2

    def activations(self, site: Site, frames: int) -> int:
        """Its output."""
        return site.channels * frames * site.height * site.width

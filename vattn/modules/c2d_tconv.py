"""C2D-TConv: a plain temporal convolution, a baseline of the TAM paper.

Zhaoyang Liu, Limin Wang, Wayne Wu, Chen Qian and Tong Lu, "TAM: Temporal Adaptive Module for Video Recognition", ICCV
2021, arXiv:2005.06803, section 4.3.
"""

from typing import Literal

from pydantic import Field, field_validator

from vattn.modules._base import ModuleConfig, Site
from vattn.modules._temporal import TemporalConv, check_odd


class C2DTConvConfig(ModuleConfig, kind="c2d_tconv"):
    r"""Options of C2D-TConv, :math:`Y = W \ast_T X`; it is placed where TAM is.

    W has K taps over time, mixes all channels, is the same for all videos, and has no bias.
    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    kind: Literal["c2d_tconv"] = "c2d_tconv"
    kernel_size: int = Field(3, ge=1, description="K, taps of the temporal convolution; odd")

    _odd = field_validator("kernel_size")(check_odd)

    @property
    def reversal_equivariant(self) -> bool:
        """True for one tap, which sees one frame."""
        return self.kernel_size == 1

    def build(self, site: Site, frames: int) -> TemporalConv:
        """Return the convolution for the features at ``site``."""
        conv = TemporalConv(site.channels, site.channels, self.kernel_size)
        if self.init == "identity":
            conv.init_identity()
        return conv

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        return self.params(site, frames) * frames * site.height * site.width

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        return self.kernel_size * site.channels**2

    def activations(self, site: Site, frames: int) -> int:
        """Return the number of values of the output."""
        return site.channels * frames * site.height * site.width

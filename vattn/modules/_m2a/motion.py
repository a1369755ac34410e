"""The motion parts of M2A: its own frame difference, and the motion of TEA and of TDN."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vattn.modules._base import Site
from vattn.modules._m2a.frames import by_frame
from vattn.modules._m2a.part import Part, num_values
from vattn.modules.tdn import LongTermDifference, TDNConfig
from vattn.modules.tea import MotionExcitation

#: L-TDM on the reduced channels.
_TDN = TDNConfig(reduction=1, shift=False)


class FrameDifference(Part):
    """``motion: m2a``: the next frame minus this frame."""

    options = frozenset({"fill"})
    reversal_equivariant = False

    def __init__(self, fill: Literal["zero", "first"]) -> None:
        self.fill = fill

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the difference of successive frames."""
        return Difference(circular=self.fill == "first")


class Difference(nn.Module):
    """Return the next frame minus this frame; after the last frame comes the first (``circular``) or zero.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, circular: bool) -> None:
        super().__init__()
        self.circular = circular

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return by_frame(x, self.along_time)

    def along_time(self, x: Float[Tensor, "n t *rest"]) -> Float[Tensor, "n t *rest"]:
        """Return the differences along the second dimension."""
        after = x.roll(-1, 1) if self.circular else F.pad(x, (0, 0) * (x.dim() - 2) + (-1, 1))
        return after - x


class TEAPart(Part):
    """``motion: tea``: motion excitation of TEA without pooling and gate."""

    reversal_equivariant = False

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the motion of TEA."""
        return TEAMotion(site.channels, reduction=1)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        return num_values(site, frames) * (2 * site.channels + 9)

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        c = site.channels
        return 2 * c * c + 9 * c + 4 * c

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: inputs of the five layers."""
        return 5 * num_values(site, frames)


class TEAMotion(MotionExcitation):
    """Return the motion of TEA at every pixel, up to its last norm.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return self.expand(self.motion(x))


class TDNPart(Part):
    """``motion: tdn``: the gate of TDN's long-term difference module."""

    options = frozenset({"authors_code"})
    # In M2A's code, the layers of this part have the names that TEA's layers have, below ``motion``.
    authors_names = tuple((old.replace(r"(^|\.)", r"((?:^|\.)motion\.)"), new) for old, new in TDNConfig.authors_names)

    def __init__(self, authors_code: bool) -> None:
        self.authors_code = authors_code

    @property
    def reversal_equivariant(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True without the defect of the authors' code, which treats the two directions of time differently."""
        return not self.authors_code

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if the frames cannot be halved in size."""
        _TDN.check(site, frames)

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the gate of TDN."""
        return TDNMotion(site.channels, reduction=1, authors_code=self.authors_code)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        return _TDN.macs(site, frames)

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        return _TDN.params(site, frames)

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: those of TDN but its output; with the defect, also one input of a branch."""
        return _TDN.activations(site, frames) - num_values(site, frames) * (not self.authors_code)


class TDNMotion(LongTermDifference):
    """Return the long-term gate of TDN, in (-0.5, 0.5).

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return self.gate(x)

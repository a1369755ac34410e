"""I3D 3x1x1: a residual block's first convolution, inflated over time (Wang et al., CVPR 2018, arXiv:1711.07971)."""

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from vattn.modules._base import Layer, ModuleConfig, Position, Site
from vattn.modules._temporal import TemporalConv, odd


class I3DConfig(ModuleConfig, kind="i3d"):
    """TAM's baseline of 3D convolutions: the first 1x1 convolution of a bottleneck sees neighbouring frames.

    It starts from the weights of the convolution it replaces: divided among the taps as in Carreira and Zisserman (CVPR
    2017, arXiv:1705.07750); or, with ``init: identity``, at the middle tap, so that the network computes what it did.
    """

    kind: Literal["i3d"] = "i3d"
    position: Position = "conv1"
    kernel_size: int = Field(3, ge=1, description="taps of the convolution; odd")

    places = ("conv1",)
    _odd = field_validator("kernel_size")(odd)

    @property
    def reversal_equivariant(self) -> bool:
        """One tap sees no other frame."""
        return self.kernel_size == 1

    def build(self, site: Site, frames: int) -> TemporalConv:
        """Return the convolution for the place of the layer at ``site``."""
        assert isinstance(site, Layer)
        conv = TemporalConv(site.channels, site.outputs, self.kernel_size)
        if self.init == "identity":
            conv.stand_still()
        return conv

    def adopt(self, built: nn.Module, layer: nn.Module) -> None:
        """Start from the weights of the convolution that is replaced."""
        assert isinstance(built, TemporalConv)
        assert isinstance(layer, nn.Conv2d)
        weights, k = layer.weight.flatten(1), self.kernel_size
        with torch.no_grad():
            if self.init == "identity":
                built.weight.zero_()[..., k // 2] = weights
            else:
                built.weight.copy_((weights / k).unsqueeze(-1))

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        return self.params(site, frames) * frames * site.height * site.width

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        assert isinstance(site, Layer)
        return self.kernel_size * site.channels * site.outputs

    def activations(self, site: Site, frames: int) -> int:
        """None that the layer would not have kept."""
        return 0

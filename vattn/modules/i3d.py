"""I3D 3x1x1: the first 1x1 convolution of a bottleneck, inflated over time.

Xiaolong Wang, Ross Girshick, Abhinav Gupta and Kaiming He, "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971. It
is a baseline of the TAM paper: Zhaoyang Liu, Limin Wang, Wayne Wu, Chen Qian and Tong Lu, "TAM: Temporal Adaptive
Module for Video Recognition", ICCV 2021, arXiv:2005.06803, section 4.3.
"""

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from vattn.modules._base import Layer, ModuleConfig, Place, Site
from vattn.modules._temporal import TemporalConv, check_odd


class I3DConfig(ModuleConfig, kind="i3d"):
    r"""Options of I3D, :math:`Y = W \ast_T X` in place of the first 1x1 convolution of a bottleneck.

    W (outputs x C x K) has K taps over time and no bias. It starts from the weights V of the convolution that it
    replaces: V / K at each tap, as in Joao Carreira and Andrew Zisserman, "Quo Vadis, Action Recognition? A New Model
    and the Kinetics Dataset", CVPR 2017, arXiv:1705.07750; with ``init: identity``, V at the middle tap and 0
    elsewhere, so that the outputs of the network do not change.

    Shape: (N, C, T, H, W) -> (N, outputs, T, H, W).
    """

    kind: Literal["i3d"] = "i3d"
    position: Place = "conv1"
    kernel_size: int = Field(3, ge=1, description="K, taps of the convolution over time; odd")

    places = ("conv1",)
    _odd = field_validator("kernel_size")(check_odd)

    @property
    def reversal_equivariant(self) -> bool:
        """True for one tap, which sees one frame."""
        return self.kernel_size == 1

    def build(self, site: Site, frames: int) -> TemporalConv:
        """Return the convolution that replaces the layer at ``site``."""
        assert isinstance(site, Layer)
        conv = TemporalConv(site.channels, site.outputs, self.kernel_size)
        if self.init == "identity":
            conv.init_identity()
        return conv

    def inherit_weights(self, built: nn.Module, layer: nn.Module) -> None:
        """Initialise the inflated convolution from the 2D convolution that it replaces."""
        assert isinstance(built, TemporalConv)
        assert isinstance(layer, nn.Conv2d)
        weights, k = layer.weight.flatten(1), self.kernel_size
        with torch.no_grad():
            if self.init == "identity":
                built.weight.zero_()[..., k // 2] = weights
            else:
                built.weight.copy_((weights / k).unsqueeze(-1))

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        return self.params(site, frames) * frames * site.height * site.width

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        assert isinstance(site, Layer)
        return self.kernel_size * site.channels * site.outputs

    def activations(self, site: Site, frames: int) -> int:
        """Return 0: autograd keeps the same values for the replaced layer."""
        return 0

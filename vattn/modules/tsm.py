"""TSM: temporal shift module.

Ji Lin, Chuang Gan and Song Han, "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019,
arXiv:1811.08383.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Place, Site, check_divisors


class TSMConfig(ModuleConfig, kind="tsm"):
    """Options of TSM; position a is the residual shift of the authors, block their in-place shift."""

    kind: Literal["tsm"] = "tsm"
    position: Place = "a"
    div: int = Field(8, ge=2, description="C // div channels are shifted in each direction of time")
    online: bool = Field(
        False, description="shift from the previous frame only, so that frames can be processed one by one"
    )

    no_identity = "a shift moves channels from the first step and has no weights"
    authors_network = ((r"\.conv1\.net\.", ".conv1."), (r"(layer\d\.\d+)\.net\.", r"\1."))

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``div`` leaves no channel to shift."""
        check_divisors(site, div=self.div)

    def build(self, site: Site, frames: int) -> "TSM":
        """Return the shift for the features at ``site``."""
        return TSM(site.channels // self.div, self.online)

    def macs(self, site: Site, frames: int) -> int:
        """Return 0: a shift multiplies nothing."""
        return 0

    def params(self, site: Site, frames: int) -> int:
        """Return 0."""
        return 0

    def activations(self, site: Site, frames: int) -> int:
        """Return the number of values of the output."""
        return site.channels * frames * site.height * site.width


class TSM(nn.Module):
    r"""Shift a part of the channels by one frame in each direction of time, with zeros at the ends.

    .. math:: Y_t = [X_{t+1}^{0..f}, X_{t-1}^{f..2f}, X_t^{2f..C}], \quad f = C // div

    With ``online``, the first f channels come from the previous frame and the rest are unchanged:
    :math:`Y_t = [X_{t-1}^{0..f}, X_t^{f..C}]`.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, fold: int, online: bool) -> None:
        super().__init__()
        self.fold = fold
        self.online = online

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return _Shift.apply(x, 0 if self.online else self.fold, self.fold, 1)


class _Shift(torch.autograd.Function):
    """Take the first ``later`` channels of frame t from frame t + ``step``, the next ``earlier`` from t - ``step``.

    The gradient of a shift is the shift back. So forward and backward read and write x once each, whereas autograd
    through slices would allocate and add whole tensors of zeros.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, later: int, earlier: int, step: int) -> Tensor:
        y = torch.empty_like(x)
        both = later + earlier
        for channels, offset in (slice(0, later), step), (slice(later, both), -step):
            source, target = x[:, channels], y[:, channels]
            if offset > 0:
                target[:, :, :-1], target[:, :, -1:] = source[:, :, 1:], 0
            else:
                target[:, :, 1:], target[:, :, :1] = source[:, :, :-1], 0
        y[:, both:] = x[:, both:]
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int, int], output: Tensor) -> None:
        _, ctx.later, ctx.earlier, ctx.step = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _Shift.apply(grads[0], ctx.later, ctx.earlier, -ctx.step), None, None, None

"""C2D-Pool: an average over neighbouring frames (Liu et al., ICCV 2021, arXiv:2005.06803, section 4.3)."""

from typing import Any, Literal

import torch
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
        t, reach = x.shape[2], self.kernel_size // 2
        frame = torch.arange(t, device=x.device)
        seen = (frame + reach).clamp(max=t - 1) - (frame - reach).clamp(min=0) + 1
        return _Sums.apply(x, reach) / seen.to(x.dtype)[:, None, None]


class _Sums(torch.autograd.Function):
    """The sum of each frame and those up to ``reach`` from it: K sums in place, in the order of memory that x has.

    Its gradient is the same sum of the gradients; autograd's own, through slices, would fill whole tensors of zeros. A
    2D pool of (T, H * W) takes 5 times as long where pixels lie together.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, reach: int) -> Tensor:
        y = x.clone()
        for shift in range(1, min(reach + 1, x.shape[2])):
            y[:, :, shift:] += x[:, :, :-shift]
            y[:, :, :-shift] += x[:, :, shift:]
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        _, ctx.reach = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Sums.apply(grads[0], ctx.reach), None

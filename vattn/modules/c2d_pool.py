"""C2D-Pool: average over neighbouring frames, a baseline of the TAM paper.

Zhaoyang Liu, Limin Wang, Wayne Wu, Chen Qian and Tong Lu, "TAM: Temporal Adaptive Module for Video Recognition", ICCV
2021, arXiv:2005.06803, section 4.3.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site
from vattn.modules._temporal import check_odd


class C2DPoolConfig(ModuleConfig, kind="c2d_pool"):
    """Options of C2D-Pool; it is placed where TAM is."""

    kind: Literal["c2d_pool"] = "c2d_pool"
    kernel_size: int = Field(3, ge=1, description="K, number of frames that are averaged; odd")

    no_identity = "it averages frames from the first step"
    _odd = field_validator("kernel_size")(check_odd)

    @property
    def reversal_equivariant(self) -> bool:
        """True: the window is symmetric."""
        return True

    def build(self, site: Site, frames: int) -> "TemporalPool":
        """Return the average, which is the same at every site."""
        return TemporalPool(self.kernel_size)

    def macs(self, site: Site, frames: int) -> int:
        """Return 0: pooling is not counted."""
        return 0

    def params(self, site: Site, frames: int) -> int:
        """Return 0."""
        return 0

    def activations(self, site: Site, frames: int) -> int:
        """Return the number of values of the output."""
        return site.channels * frames * site.height * site.width


class TemporalPool(nn.Module):
    r"""Average each frame with its neighbours; at both ends, over the frames that exist.

    .. math:: Y_t = \frac{1}{|S_t|} \sum_{s \in S_t} X_s, \quad S_t = \{s : |s - t| \le K // 2, 1 \le s \le T\}

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        t, reach = x.shape[2], self.kernel_size // 2
        frame = torch.arange(t, device=x.device)
        count = (frame + reach).clamp(max=t - 1) - (frame - reach).clamp(min=0) + 1
        return _Sums.apply(x, reach) / count.to(x.dtype)[:, None, None]


class _Sums(torch.autograd.Function):
    """Sum each frame with the frames at a distance of at most ``reach``, in place and in the memory format of x.

    The gradient is the same sum over the gradients. Autograd through slices would allocate whole tensors of zeros. A 2D
    pool over (T, H * W) takes 5 times as long in the contiguous format.
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

"""Temporal convolutions at every pixel, and differences of frames, which several mechanisms share."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vattn.modules._fold import rows


class TemporalConv(nn.Conv1d):
    """Convolve over the frames with the same 1D kernel at every pixel, zero padded.

    It is equal to a 3D convolution with a K x 1 x 1 kernel. It runs as a 2D convolution over (T, H * W), because that
    is a view of x in either memory format, keeps the format, and is 10 times faster on a CPU.

    Shape: (N, in_channels, T, H, W) -> (N, out_channels, T, H, W); ``kernel_size`` is odd.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: int, groups: int = 1, bias: bool = False) -> None:
        super().__init__(channels, outputs, kernel_size, padding=kernel_size // 2, groups=groups, bias=bias)

    def forward(self, input: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d t h w"]:
        weight, padding = self.weight.unsqueeze(-1), (self.kernel_size[0] // 2, 0)
        y = F.conv2d(rows(input), weight, self.bias, padding=padding, groups=self.groups)
        return y.unflatten(-1, input.shape[-2:])

    def init_identity(self) -> None:
        """Set the weights so that the output is the input."""
        with torch.no_grad():
            nn.init.dirac_(self.weight, self.groups)


class LearnableShift(TemporalConv):
    """Convolve each channel over the frames with 3 learnable taps, initialised as the shift of TSM.

    At the start, the first C // div channels take frame t + 1, the next C // div take frame t - 1, and the rest are
    unchanged.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int, div: int) -> None:
        super().__init__(channels, channels, 3, groups=channels)
        fold = channels // div
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:fold, 0, 2] = 1
            self.weight[fold : 2 * fold, 0, 0] = 1
            self.weight[2 * fold :, 0, 1] = 1


def difference(
    later: Float[Tensor, "n c t h w"], now: Float[Tensor, "n c t h w"], step: int
) -> Float[Tensor, "n c t h w"]:
    """Return ``later`` at frame t + ``step`` minus ``now`` at frame t, and 0 where there is no such frame."""
    return _Difference.apply(later, now, step)


class _Difference(torch.autograd.Function):
    """Compute `difference`; ``step`` is 1 or -1. Autograd through slices would lose the memory format in gradients."""

    generate_vmap_rule = True

    @staticmethod
    def forward(later: Tensor, now: Tensor, step: int) -> Tensor:
        here, there, end = _ends(step)
        y = torch.empty_like(now)
        y[:, :, here], y[:, :, end] = later[:, :, there] - now[:, :, here], 0
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.step = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,), (here, there, end) = grads, _ends(ctx.step)
        of_later, of_now = torch.empty_like(grad), -grad
        of_later[:, :, there], of_later[:, :, _ends(-ctx.step)[2]], of_now[:, :, end] = grad[:, :, here], 0, 0
        return of_later, of_now, None


def _ends(step: int) -> tuple[slice, slice, slice]:
    """Return the frames that have a frame at a distance of ``step``, those frames, and the frame that has none."""
    return (slice(-1), slice(1, None), slice(-1, None)) if step > 0 else (slice(1, None), slice(-1), slice(1))


def check_odd(kernel_size: int) -> int:
    """Return ``kernel_size``; raise ValueError if it is even."""
    if kernel_size % 2 == 0:
        raise ValueError(f"must be odd, so that T frames in give T frames out; try {kernel_size + 1}")
    return kernel_size

"""Folds clips into single images and back; sums over the pixels of a frame; gates."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def fold(clips: Float[Tensor, "n c t h w"]) -> Float[Tensor, "nt c h w"]:
    """Return the frames as images, frame t of clip n at index n * T + t; a view under ``channels_last``."""
    return clips.transpose(1, 2).flatten(0, 1)


def unfold(images: Float[Tensor, "nt c h w"], frames: int) -> Float[Tensor, "n c t h w"]:
    """Return the clips of ``frames`` frames that `fold` turned into images; always a view."""
    return images.unflatten(0, (-1, frames)).transpose(1, 2)


def rows(clips: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t hw"]:
    """Return each clip as one image with a row for each frame; a view in either memory format, which it keeps."""
    # clips.flatten(-2) gives a single clip a stride of N with which convolutions do not recognise channels_last.
    return clips.permute(0, 2, 3, 4, 1).flatten(2, 3).permute(0, 3, 1, 2)


def frame_means(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t"]:
    """Return the mean over the pixels of each frame. In any memory format, the speed is that of reading x."""
    # Not x.mean: its gradient allocates one more tensor of the size of x.
    return frame_sums(x).contiguous() / (x.shape[-2] * x.shape[-1])


def frame_sums(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t"]:
    """Return the sum over the pixels of each frame. In any memory format, the speed is that of reading x."""
    # With T before C, torch sums whole rows of channels under channels_last, which is 7 times faster.
    return x.transpose(1, 2).flatten(-2).sum(-1).transpose(1, 2)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast."""
    # There is none on the meta device.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def gated(
    x: Float[Tensor, "b c h w"], by_channel: Float[Tensor, "b c 1 1"], by_pixel: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """Return x * (by_channel + by_pixel). Neither the sum nor its gradient, both of the size of x, is in memory."""
    return _Gated.apply(x, by_channel, by_pixel)


class _Gated(torch.autograd.Function):
    """Compute `gated`. Autograd would write two products for its value and four for its gradient; here, half of it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, by_channel: Tensor, by_pixel: Tensor) -> Tensor:
        return torch.addcmul(x * by_channel, x, by_pixel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,), (x, by_channel, by_pixel) = grads, ctx.saved_tensors
        product = grad * x
        of_x = torch.addcmul(grad * by_channel, grad, by_pixel)
        return of_x, product.sum((2, 3), keepdim=True), product.sum(1, keepdim=True)

"""Folds clips into single images and back, and sums over the pixels of a frame."""

from jaxtyping import Float
from torch import Tensor


def fold(clips: Float[Tensor, "n c t h w"]) -> Float[Tensor, "nt c h w"]:
    """Return the frames as images, frame t of clip n at index n * T + t; a view under ``channels_last``."""
    return clips.transpose(1, 2).flatten(0, 1)


def unfold(images: Float[Tensor, "nt c h w"], frames: int) -> Float[Tensor, "n c t h w"]:
    """Return the clips of ``frames`` frames that `fold` turned into images; always a view."""
    return images.unflatten(0, (-1, frames)).transpose(1, 2)


def frame_means(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t"]:
    """Return the mean over the pixels of each frame. In any memory format, the speed is that of reading x."""
    # Not x.mean: its gradient allocates one more tensor of the size of x.
    return frame_sums(x).contiguous() / (x.shape[-2] * x.shape[-1])


def frame_sums(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t"]:
    """Return the sum over the pixels of each frame. In any memory format, the speed is that of reading x."""
    # With T before C, torch sums whole rows of channels under channels_last, which is 7 times faster.
    return x.transpose(1, 2).flatten(-2).sum(-1).transpose(1, 2)

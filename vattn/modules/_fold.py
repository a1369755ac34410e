"""Clips as single images and back, for mechanisms that look at each frame with 2D layers."""

from jaxtyping import Float
from torch import Tensor


def fold(clips: Float[Tensor, "n c t h w"]) -> Float[Tensor, "nt c h w"]:
    """Return the frames as images, frame t of clip n at index n * T + t; a view under ``channels_last``."""
    return clips.transpose(1, 2).flatten(0, 1)


def unfold(images: Float[Tensor, "nt c h w"], frames: int) -> Float[Tensor, "n c t h w"]:
    """Return the clips that `fold` made images of; always a view."""
    return images.unflatten(0, (-1, frames)).transpose(1, 2)

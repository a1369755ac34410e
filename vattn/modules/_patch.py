"""Self-attention without projections, among whole frames or patches of them: what M2A attends with."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Tokens = Float[Tensor, "n t p d"]


def by_frame(x: Float[Tensor, "n c t h w"], function: Callable[[Tensor], Tensor]) -> Float[Tensor, "n c t h w"]:
    """Apply to (N, T, ...) what does not mind the order of values in a frame: that of memory, so nothing is copied."""
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    order, back = ((0, 2, 3, 4, 1), (0, 4, 1, 2, 3)) if last else ((0, 2, 1, 3, 4), (0, 2, 1, 3, 4))
    return function(x.permute(order)).permute(back)


def normalised(x: Float[Tensor, "n t *rest"], dims: int) -> Float[Tensor, "n t *rest"]:
    """Return x with mean 0 and variance 1 over its last dimensions, without scale and shift."""
    return F.layer_norm(x, x.shape[-dims:])


class Difference(nn.Module):
    """The next frame minus this one; the last one's successor is the first frame, or zero.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, around: bool) -> None:
        super().__init__()
        self.around = around

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return by_frame(x, self.along)

    def along(self, x: Float[Tensor, "n t *rest"]) -> Float[Tensor, "n t *rest"]:
        """Return the differences along the second dimension."""
        after = x.roll(-1, 1) if self.around else F.pad(x, (0, 0) * (x.dim() - 2) + (-1, 1))
        return after - x


class FrameAttention(nn.Module):
    r"""Attend among frames: :math:`\mathrm{softmax}(X X^T / \sqrt d) X`, a row of X for each frame.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return by_frame(x, _among_frames)


def _among_frames(frames: Float[Tensor, "n t *rest"]) -> Float[Tensor, "n t *rest"]:
    rows = frames.flatten(2)
    # T is small and d large, which fused kernels are not made for.
    scores = rows @ rows.mT * rows.shape[-1] ** -0.5
    return (scores.softmax(-1) @ rows).view(frames.shape)


class PatchAttention(nn.Module):
    r"""Attend among the frames of each patch, then among the patches of each frame (TimeSformer, arXiv:2102.05095).

    .. math:: Y = X + A_{time}(D(LN(X))), \quad Z = Y + A_{space}(LN(Y))

    Tokens are patches of ``size`` x ``size`` pixels, D is M2A's motion. Where the size does not divide the height and
    the width, tokens are single pixels, and each attends to all of all frames: Y is the result. There, with
    ``authors_code``, D subtracts a pixel from its successor in the row instead of in the next frame.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, size: int, authors_code: bool) -> None:
        super().__init__()
        self.size = size
        self.authors_code = authors_code

    def forward(self, x: Float[Tensor, "n c t h w"], motion: Callable[[Tensor], Tensor]) -> Float[Tensor, "n c t h w"]:
        height, width = x.shape[-2:]
        if not divides(self.size, height, width):
            tokens = split(x, 1)
            moved = self._moved(normalised(tokens, 1), 1, height, motion)
            return join(tokens + _attend(moved.flatten(1, 2).unsqueeze(1)).view(tokens.shape), 1, height)
        tokens = split(x, self.size)
        moved = self._moved(normalised(tokens, 1), self.size, height, motion)
        tokens = tokens + _attend(moved.transpose(1, 2)).transpose(1, 2)
        return join(tokens + _attend(normalised(tokens, 1)), self.size, height)

    def _moved(self, tokens: Tokens, size: int, height: int, motion: Callable[[Tensor], Tensor]) -> Tokens:
        if isinstance(motion, nn.Identity):
            return tokens
        if not isinstance(motion, Difference):
            return split(motion(join(tokens, size, height)), size)
        if self.authors_code and size != self.size:
            return motion.along(tokens.flatten(1, 2)).view(tokens.shape)
        return motion.along(tokens)


def divides(size: int, height: int, width: int) -> bool:
    """Patches of ``size`` x ``size`` pixels fill a frame."""
    return height % size == 0 and width % size == 0


def split(x: Float[Tensor, "n c t h w"], size: int) -> Tokens:
    """Return the values of each patch of each frame as one row."""
    patches = x.unflatten(4, (-1, size)).unflatten(3, (-1, size))
    return patches.permute(0, 2, 3, 5, 4, 6, 1).flatten(4).flatten(2, 3)


def join(tokens: Tokens, size: int, height: int) -> Float[Tensor, "n c t h w"]:
    """Return the frames that `split` made rows of."""
    patches = tokens.unflatten(3, (size, size, -1)).unflatten(2, (height // size, -1))
    return patches.transpose(3, 4).flatten(4, 5).flatten(2, 3).permute(0, 4, 1, 2, 3)


def _attend(tokens: Float[Tensor, "n heads l d"]) -> Float[Tensor, "n heads l d"]:
    return F.scaled_dot_product_attention(tokens, tokens, tokens)

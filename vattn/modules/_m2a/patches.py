"""Self-attention without projections among patches of frames."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vattn.modules._m2a.frames import normalised
from vattn.modules._m2a.motion import Difference

Tokens = Float[Tensor, "n t p d"]


class PatchAttention(nn.Module):
    r"""Attend among the frames of each patch, then among the patches of each frame.

    .. math:: Y = X + A_{time}(D(LN(X))), \quad Z = Y + A_{space}(LN(Y))

    The order of time and space is that of Gedas Bertasius, Heng Wang and Lorenzo Torresani, "Is Space-Time Attention
    All You Need for Video Understanding?", ICML 2021, arXiv:2102.05095. A token is a patch of ``size`` x ``size``
    pixels of a frame. D is the motion part of M2A. If the size does not divide the height and the width, a token is a
    pixel, each token attends to all pixels of all frames, and Y is the result. In this case, with ``authors_code``, D
    subtracts each pixel from the next pixel of the row instead of the same pixel of the next frame.

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
            moved = self._motion(normalised(tokens, 1), 1, height, motion)
            return join(tokens + _attend(moved.flatten(1, 2).unsqueeze(1)).view(tokens.shape), 1, height)
        tokens = split(x, self.size)
        moved = self._motion(normalised(tokens, 1), self.size, height, motion)
        tokens = tokens + _attend(moved.transpose(1, 2)).transpose(1, 2)
        return join(tokens + _attend(normalised(tokens, 1)), self.size, height)

    def _motion(self, tokens: Tokens, size: int, height: int, motion: Callable[[Tensor], Tensor]) -> Tokens:
        """Return D of the tokens, which are patches of ``size`` x ``size`` pixels."""
        if isinstance(motion, nn.Identity):
            return tokens
        if not isinstance(motion, Difference):
            return split(motion(join(tokens, size, height)), size)
        if self.authors_code and size != self.size:
            return motion.along_time(tokens.flatten(1, 2)).view(tokens.shape)
        return motion.along_time(tokens)


def divides(size: int, height: int, width: int) -> bool:
    """Return whether patches of ``size`` x ``size`` pixels fill a frame."""
    return height % size == 0 and width % size == 0


def split(x: Float[Tensor, "n c t h w"], size: int) -> Tokens:
    """Return the tokens: a row holds the values of one patch of one frame."""
    patches = x.unflatten(4, (-1, size)).unflatten(3, (-1, size))
    return patches.permute(0, 2, 3, 5, 4, 6, 1).flatten(4).flatten(2, 3)


def join(tokens: Tokens, size: int, height: int) -> Float[Tensor, "n c t h w"]:
    """Return the clips that `split` cut into tokens; ``height`` is that of a frame."""
    patches = tokens.unflatten(3, (size, size, -1)).unflatten(2, (height // size, -1))
    return patches.transpose(3, 4).flatten(4, 5).flatten(2, 3).permute(0, 4, 1, 2, 3)


def _attend(tokens: Float[Tensor, "n heads l d"]) -> Float[Tensor, "n heads l d"]:
    return F.scaled_dot_product_attention(tokens, tokens, tokens)

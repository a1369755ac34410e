"""Operations on whole frames, in the memory format of the input."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def by_frame(x: Float[Tensor, "n c t h w"], function: Callable[[Tensor], Tensor]) -> Float[Tensor, "n c t h w"]:
    """Apply a function of (N, T, ...) that does not depend on the order of values in a frame.

    The order is that of the memory format, so nothing is copied.
    """
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    order, back = ((0, 2, 3, 4, 1), (0, 4, 1, 2, 3)) if last else ((0, 2, 1, 3, 4), (0, 2, 1, 3, 4))
    return function(x.permute(order)).permute(back)


def normalised(x: Float[Tensor, "n t *rest"], dims: int) -> Float[Tensor, "n t *rest"]:
    """Return x with mean 0 and variance 1 over its last ``dims`` dimensions: a layer norm without scale and shift."""
    return F.layer_norm(x, x.shape[-dims:])

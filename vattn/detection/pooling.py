"""Max pooling of the features of regions in time, to as many cells for each region."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def pool_regions(
    features: Float[Tensor, "n c t h w"], regions: Float[Tensor, "regions 3"], cells: tuple[int, int, int], scale: float
) -> Float[Tensor, "regions c p q s"]:
    """Return the maxima of each region's features in ``cells`` (time, height, width), which cover all pixels.

    With s and e the region's ends times ``scale``, rounded half away from zero, and n = e - s + 1, cell i of P reads
    the places s + floor(i n / P) to s + ceil((i + 1) n / P) - 1. Cells overlap. They are computed before they are cut
    to the places that exist; a cell without a place is 0. As in R-C3D's public code.

    Args:
        features: of a batch of buffers.
        regions: rows (row of the batch, start, end), frames.
        cells: numbers of cells.
        scale: places per frame.
    """
    over_pixels = F.adaptive_max_pool3d(features, (features.shape[2], *cells[1:]))
    row = regions[:, 0].long()
    places = over_pixels.permute(0, 2, 1, 3, 4)  # (n, t, c, q, s)
    first, last = _cells(regions[:, 1:], cells[0], scale, features.shape[2])
    with torch.no_grad():
        at = _first_maxima(places, row, first, last)
    pooled = places[row].gather(1, at) if len(row) else places.new_zeros(at.shape)
    # Where a cell is empty, there is no gradient either.
    return pooled.where((last > first)[..., None, None, None], 0).transpose(1, 2)


def _cells(
    boxes: Float[Tensor, "regions 2"], count: int, scale: float, length: int
) -> tuple[Int64[Tensor, "regions count"], Int64[Tensor, "regions count"]]:
    """Return the first place of each cell, and the one after its last."""
    scaled = boxes * scale
    start, end = (scaled.sign() * (scaled.abs() + 0.5).floor()).long().unbind(1)
    num_places = (end - start + 1).clamp(min=1)[:, None]
    cell = torch.arange(count, device=boxes.device)
    first = start[:, None] + cell * num_places // count
    last = start[:, None] - (-(cell + 1) * num_places // count)
    return first.clamp(0, length), last.clamp(0, length)


def _first_maxima(
    places: Float[Tensor, "n t c q s"], row: Int64[Tensor, " regions"], first: Tensor, last: Tensor
) -> Int64[Tensor, "regions count c q s"]:
    """Return the place of each cell's maximum, the first of equal ones."""
    shape = (*first.shape, *places.shape[2:])
    best = places.new_full(shape, -torch.inf)
    at = torch.zeros(shape, dtype=torch.int64, device=places.device)
    longest = int((last - first).max()) if first.numel() else 0
    for step in range(longest):
        place = first + step
        value = places[row[:, None], place.clamp(max=places.shape[1] - 1)]
        inside = (place < last)[..., None, None, None]
        better = inside & ~(value <= best)  # true of a NaN, which then reaches the loss
        best = torch.where(better, value, best)
        at = torch.where(better, place[..., None, None, None], at)
    return at

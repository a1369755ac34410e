"""Segments in time, as boxes (start, end): anchors, offsets, overlaps, and suppression of non-maxima.

R-C3D counts frames inclusively: a box from frame 3 to frame 5 is 3 frames long. Source: Xu, Das and Saenko, "R-C3D:
Region Convolutional 3D Network for Temporal Activity Detection", ICCV 2017 (arXiv:1703.07814).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

Boxes = Float[Tensor, "*#rows 2"]
#: How `nms` measures lengths and decides at equality. inclusive: end - start + 1, a box stays while its IoU is below
#: the threshold; inclusive_gpu: the same lengths, a box stays while its IoU is at most the threshold; plain and scnn:
#: end - start, at most. R-C3D's public code has the first rule on CPUs and the second on GPUs.
Rule = Literal["inclusive", "inclusive_gpu", "plain", "scnn"]


def anchors(scales: Sequence[float | int], length: int, stride: int = 8, base: int = 8) -> Float[Tensor, "anchors 2"]:
    """Return the anchors of ``length`` positions, in frames: the scales of a position follow each other.

    The anchor of scale s at position i has the inclusive length ``base`` * s around the centre stride * i + (base - 1)
    / 2.
    """
    half = (base * torch.tensor(scales, dtype=torch.float32) - 1) / 2
    centres = stride * torch.arange(length, dtype=torch.float32) + (base - 1) / 2
    return torch.stack([centres[:, None] - half, centres[:, None] + half], -1).flatten(0, 1)


def encode(boxes: Boxes, targets: Boxes) -> Float[Tensor, "*_ 2"]:
    """Return the offsets of ``targets`` from ``boxes``: distance of the centres in lengths, log ratio of lengths."""
    length, target_length = (_inclusive(each) for each in (boxes, targets))
    centre, target_centre = boxes[..., 0] + length / 2, targets[..., 0] + target_length / 2
    return torch.stack([(target_centre - centre) / length, (target_length / length).log()], -1)


def decode(boxes: Boxes, offsets: Float[Tensor, "*#rows offsets"]) -> Float[Tensor, "*_ offsets"]:
    """Return the boxes at ``offsets`` from ``boxes``; the last dimension has an offset for each of several classes.

    As in the public code, a decoded end is one frame later than the end that was encoded: the length is inclusive in
    `encode` and is not here.
    """
    length = _inclusive(boxes)[..., None]
    centre = offsets[..., 0::2] * length + boxes[..., :1] + length / 2
    half = offsets[..., 1::2].exp() * length / 2
    return torch.stack([centre - half, centre + half], -1).flatten(-2)


def clip(boxes: Tensor, length: int) -> Tensor:
    """Return boxes within the frames 0 to ``length`` - 1."""
    return boxes.clamp(0, length - 1)


def overlaps(boxes: Float[Tensor, "*#n a 2"], others: Float[Tensor, "*#n b 2"]) -> Float[Tensor, "*_ a b"]:
    """Return the IoU of each of ``boxes`` with each of ``others``, by inclusive lengths.

    Others of one frame are padding, and have an IoU of 0. The IoU of a box of one frame is -1.
    """
    length, other_length = _inclusive(boxes)[..., :, None], _inclusive(others)[..., None, :]
    first = torch.maximum(boxes[..., :, None, 0], others[..., None, :, 0])
    last = torch.minimum(boxes[..., :, None, 1], others[..., None, :, 1])
    shared = (last - first + 1).clamp(min=0)
    iou = shared / (length + other_length - shared)
    iou = iou.masked_fill((other_length == 1).expand_as(iou), 0)
    return iou.masked_fill((length == 1).expand_as(iou), -1)


def nms(boxes: Float[Tensor, "n 2"], scores: Float[Tensor, " n"], threshold: float, rule: Rule) -> Int64[Tensor, " k"]:
    """Return the rows that stay, by decreasing score: those of which no better one that stays overlaps too much."""
    from torchvision.ops import nms as suppress  # takes a second to import

    inclusive = rule in ("inclusive", "inclusive_gpu")
    corners = torch.stack([boxes[:, 0], torch.zeros_like(boxes[:, 0]), boxes[:, 1] + inclusive], 1)
    corners = torch.cat([corners, torch.ones_like(corners[:, :1])], 1)
    number = np.float64 if boxes.dtype == torch.float64 else np.float32
    limit = number(threshold)
    if rule == "inclusive":
        limit = np.nextafter(limit, number(-1))  # torchvision suppresses above its threshold, this rule from it on
    return suppress(corners, scores.to(boxes.dtype), float(limit))


def nms_by_class(
    boxes: Float[Tensor, "n 2"], scores: Float[Tensor, " n"], classes: Tensor, threshold: float, rule: Rule
) -> Int64[Tensor, " k"]:
    """Return the rows that stay where only boxes of one class compete: class by class, each by decreasing score."""
    rows = [torch.nonzero(classes == label)[:, 0] for label in classes.unique().tolist()]
    kept = [each[nms(boxes[each], scores[each], threshold, rule)] for each in rows]
    return torch.cat(kept) if kept else classes.new_zeros(0, dtype=torch.int64)


def _inclusive(boxes: Boxes) -> Tensor:
    return boxes[..., 1] - boxes[..., 0] + 1

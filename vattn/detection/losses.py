"""The losses of R-C3D and of Segment-CNN."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vattn.detection.targets import AnchorTargets


def smooth_l1(
    offsets: Tensor, targets: Tensor, inside: Tensor | float, outside: Tensor | float, sigma: float
) -> Float[Tensor, ""]:
    """Return the smooth L1 loss: summed over all dimensions but the first, and averaged over the first.

    ``inside`` weighs the difference, ``outside`` its loss. Below 1 / sigma^2 the loss is quadratic. Source: Girshick,
    "Fast R-CNN", ICCV 2015 (arXiv:1504.08083).
    """
    each = F.smooth_l1_loss(inside * offsets, inside * targets, reduction="none", beta=1 / sigma**2)
    return (outside * each).flatten(1).sum(1).mean()


def anchor_losses(
    scores: Float[Tensor, "n anchors 2"], offsets: Float[Tensor, "n anchors 2"], targets: AnchorTargets
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the losses of the scores (background, action) and of the offsets of anchors."""
    used = targets.labels >= 0
    score_loss = F.cross_entropy(scores[used], targets.labels[used].long())
    weights = targets.inside[..., None], targets.outside[..., None]
    return score_loss, smooth_l1(offsets, targets.offsets, *weights, sigma=3.0)


def region_losses(
    scores: Float[Tensor, "regions classes"],
    offsets: Float[Tensor, "regions offsets"],
    labels: Int64[Tensor, " regions"],
    targets: Float[Tensor, "regions 2"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the losses of the class and of the offsets of regions; background counts as 0 in the mean of the second.

    Of ``offsets``, two for each class, those of the region's own class count.
    """
    own = offsets.unflatten(1, (-1, 2))[torch.arange(len(labels), device=labels.device), labels]
    action = (labels > 0).to(offsets)[:, None]
    return F.cross_entropy(scores, labels), smooth_l1(own, targets, action, action, sigma=1.0)


class OverlapLoss(NamedTuple):
    """The loss of Segment-CNN's localisation network, and its two terms."""

    total: Float[Tensor, ""]
    class_loss: Float[Tensor, ""]
    overlap_loss: Float[Tensor, ""]


def overlap_loss(
    scores: Float[Tensor, "n classes"],
    labels: Int64[Tensor, " n"],
    overlap: Float[Tensor, " n"],
    weight: float = 1.0,
    alpha: float = 0.25,
) -> OverlapLoss:
    r"""Return cross-entropy plus ``weight`` times a loss by which windows of small overlap get small scores.

    .. math:: L = \frac1N \sum_n -\ln p_n^{k_n} + \lambda [k_n > 0]\, \tfrac12 ((p_n^{k_n})^2 / v_n^\alpha - 1)

    p is the softmax of ``scores``, k the label (0 is background) and v the IoU with the instance. Source: Shou, Wang
    and Chang, "Temporal Action Localization in Untrimmed Videos via Multi-stage CNNs", CVPR 2016 (arXiv:1601.02129).
    """
    own = scores.softmax(1).gather(1, labels[:, None])[:, 0]
    action = labels > 0
    # Background has no overlap to divide by.
    expected = overlap.where(action, 1).pow(alpha)
    class_loss = F.cross_entropy(scores, labels)
    term = (0.5 * (own.square() / expected - 1)).where(action, 0).mean()
    return OverlapLoss(class_loss + weight * term, class_loss, term)

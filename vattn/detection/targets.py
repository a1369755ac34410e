"""What R-C3D learns from: which anchors and which regions are actions, and how far their boxes are off.

Random draws are arguments, so that the results of the public code can be repeated. An array of instances has rows
(start, end, class), filled up with rows of zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vattn.detection.boxes import encode, overlaps
from vattn.detection.proposals import with_row

Instances = Float[Tensor, "n instances 3"]


class Draws:
    """A source of random numbers: torch's default generator of the CPU, which checkpoints keep."""

    def permutation(self, n: int) -> Int64[Tensor, " n"]:
        """Return the numbers 0 to n - 1 in random order."""
        return torch.randperm(n)

    def uniform(self, n: int) -> Float[Tensor, " n"]:
        """Return ``n`` numbers from 0 to 1, without 1."""
        return torch.rand(n, dtype=torch.float64)


@dataclass(frozen=True)
class AnchorRule:
    """Which anchors are learned from."""

    positive: float = 0.7
    """IoU from which an anchor is an action"""
    negative: float = 0.3
    """IoU below which it is background"""
    count: int = 64
    """number of anchors of a buffer"""
    share: float = 0.5
    """greatest share of actions among them"""


class AnchorTargets(NamedTuple):
    """Targets of all anchors of a batch of buffers."""

    labels: Float[Tensor, "n anchors"]
    """1: action, 0: background, -1: not used"""
    offsets: Float[Tensor, "n anchors 2"]
    """of the anchor's best instance; 0 for anchors that leave the buffer"""
    inside: Float[Tensor, "n anchors"]
    """weight of the offsets: 1 for actions"""
    outside: Float[Tensor, "n anchors"]
    """weight in the sum: 1 / number of anchors used in the last buffer, as in the public code"""


def anchor_targets(
    anchors: Float[Tensor, "anchors 2"], instances: Instances, length: int, rule: AnchorRule, draws: Draws
) -> AnchorTargets:
    """Return the targets of the anchors; of those that leave the ``length`` frames of a buffer, none is used.

    Label 1: the best anchors of each instance (all of equal IoU), and those with an IoU of at least ``positive``. Label
    0: the others whose IoU is below ``negative``. Of too many, random ones are dropped, actions first.
    """
    within = (anchors[:, 0] >= 0) & (anchors[:, 1] < length)
    iou = overlaps(anchors[within], instances[..., :2])  # (n, anchors, instances)
    best, which = iou.max(2)
    best_of_instance = iou.amax(1, keepdim=True)
    # An instance that meets no anchor marks none.
    marked = ((iou == best_of_instance) & (best_of_instance > 0)).any(2)
    labels = torch.full_like(best, -1)
    labels[best < rule.negative] = 0
    labels[marked | (best >= rule.positive)] = 1
    for row in labels:
        _drop(row, 1, int(rule.share * rule.count), draws)
        _drop(row, 0, rule.count - int((row == 1).sum()), draws)
    nearest = instances[..., :2].gather(1, which[..., None].expand(-1, -1, 2))
    offsets = encode(anchors[within], nearest)
    everywhere = labels.new_full((len(labels), len(anchors)), -1)
    everywhere[:, within] = labels
    all_offsets = labels.new_zeros(len(labels), len(anchors), 2)
    all_offsets[:, within] = offsets
    used = everywhere >= 0
    return AnchorTargets(
        everywhere, all_offsets, (everywhere == 1).to(labels), used.to(labels) / used[-1].sum().clamp(min=1)
    )


def _drop(labels: Float[Tensor, " anchors"], label: int, keep: int, draws: Draws) -> None:
    """Set all but ``keep`` random labels of this value to -1."""
    rows = torch.nonzero(labels == label)[:, 0]
    if len(rows) > keep:
        labels[rows[draws.permutation(len(rows)).to(rows.device)[: len(rows) - keep]]] = -1


@dataclass(frozen=True)
class RegionRule:
    """Which regions the classifier learns from."""

    count: int = 128
    """number of regions of a buffer"""
    share: float = 0.5
    """greatest share of actions among them"""
    positive: float = 0.5
    """IoU from which a region is an action"""
    negative: tuple[float, float] = (0.1, 0.5)
    """IoU of background: from the first value to below the second"""
    replace: bool = True
    """draw background with replacement, so that there are always ``count`` regions"""
    means: tuple[float, float] = (0.0, 0.0)
    deviations: tuple[float, float] = (0.1, 0.2)
    """offsets are (offset - mean) / deviation"""


class RegionTargets(NamedTuple):
    """The regions of a batch that the classifier learns from, row by row, actions first."""

    regions: Float[Tensor, "regions 3"]
    """(row of the batch, start, end)"""
    labels: Int64[Tensor, " regions"]
    """class; 0: background"""
    offsets: Float[Tensor, "regions 2"]
    """normalised; 0 for background"""


def region_targets(
    proposals: Sequence[Float[Tensor, "_ 2"]], instances: Instances, rule: RegionRule, draws: Draws
) -> RegionTargets:
    """Draw regions from the proposals and the instances themselves; a buffer without a region of either kind has none.

    Of two instances with the same times a region gets the class of the one that comes first.
    """
    rows = [_row(*each, rule, draws) for each in zip(proposals, instances, strict=True)]
    boxes, labels, offsets = zip(*rows, strict=True)
    return RegionTargets(with_row(list(boxes)), torch.cat(labels), torch.cat(offsets))


def _row(
    proposals: Float[Tensor, "_ 2"], instances: Float[Tensor, "instances 3"], rule: RegionRule, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    boxes = torch.cat([proposals, instances[:, :2]])
    best, which = overlaps(boxes, instances[:, :2]).max(1)
    actions = torch.nonzero(best >= rule.positive)[:, 0]
    background = torch.nonzero((best >= rule.negative[0]) & (best < rule.negative[1]))[:, 0]
    chosen, num_actions = _choose(actions, background, rule, draws)
    box, instance = boxes[chosen], instances[which[chosen]]
    labels = instance[:, 2].long()
    labels[num_actions:] = 0
    mean, deviation = (box.new_tensor(values) for values in (rule.means, rule.deviations))
    offsets = (encode(box, instance[:, :2]) - mean) / deviation
    return box, labels, offsets.where(labels[:, None] > 0, 0)


def _choose(actions: Tensor, background: Tensor, rule: RegionRule, draws: Draws) -> tuple[Tensor, int]:
    """Return the numbers of the drawn boxes, and how many of them are actions."""

    def several(rows: Tensor, count: int) -> Tensor:
        at = (draws.uniform(count) * len(rows)).long().clamp(max=len(rows) - 1)
        return rows[at.to(rows.device)]

    def distinct(rows: Tensor, count: int) -> Tensor:
        return rows[draws.permutation(len(rows)).to(rows.device)[:count]]

    if not len(background) and len(actions) and rule.replace:
        return several(actions, rule.count), rule.count
    num_actions = min(int(rule.share * rule.count), len(actions))
    chosen = distinct(actions, num_actions) if num_actions else actions
    if len(background):
        chosen = torch.cat([chosen, (several if rule.replace else distinct)(background, rule.count - num_actions)])
    return chosen, num_actions

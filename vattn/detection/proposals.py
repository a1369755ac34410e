"""R-C3D's proposals: the best boxes that the region proposal network finds in a buffer."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vattn.detection.boxes import Rule, clip, decode, nms


class Proposing(NamedTuple):
    """How proposals are chosen from scored boxes."""

    before: int
    """number of boxes with the highest scores that compete"""
    after: int
    """number of proposals that are kept at most"""
    threshold: float
    """IoU of `nms`"""
    minimum: float = 0
    """least length, frames"""
    drop_short: bool = False
    """remove shorter boxes; otherwise their score is 0"""
    rule: Rule = "inclusive_gpu"


def propose(
    anchors: Float[Tensor, "anchors 2"],
    scores: Float[Tensor, "n anchors"],
    offsets: Float[Tensor, "n anchors 2"],
    length: int,
    how: Proposing,
) -> list[Float[Tensor, "proposals 2"]]:
    """Return the proposals of each buffer by decreasing score; no gradient flows through them.

    Args:
        anchors: of all positions, frames.
        scores: probability that there is an action.
        offsets: of each box from its anchor.
        length: of the buffers, frames.
        how: the choice.
    """
    boxes = clip(decode(anchors, offsets.detach()), length)
    lengths = boxes[..., 1] - boxes[..., 0] + 1
    scores = scores.detach()
    chosen = []
    for row, score, long in zip(boxes, scores, lengths >= how.minimum, strict=True):
        if how.drop_short:
            row, score = row[long], score[long]
        else:
            score = score.where(long, 0)
        order = score.argsort(descending=True, stable=True)[: how.before]
        kept = nms(row[order], score[order], how.threshold, how.rule)[: how.after]
        chosen.append(row[order][kept])
    return chosen


def with_row(boxes: list[Float[Tensor, "_ columns"]]) -> Float[Tensor, "rows more"]:
    """Return the boxes of all rows of a batch, each as (row, start, end, ...)."""
    rows = [torch.cat([each.new_full((len(each), 1), row), each], 1) for row, each in enumerate(boxes)]
    return torch.cat(rows)

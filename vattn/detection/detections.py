"""From the outputs of a detector to the segments of a video."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vattn.detection.boxes import Rule, clip, decode, nms_by_class
from vattn.detection.windows import Buffer, Windows

#: Rows (class, start, end, score), by decreasing score; classes from 1.
Segments = Float64[np.ndarray, "_ 4"]


class Cleaning(NamedTuple):
    """How R-C3D's outputs become segments."""

    score: float = 0.005
    """regions with at most this score are left out"""
    buffer_threshold: float = 0.4
    """IoU of the suppression within a buffer"""
    merge_threshold: float = 0.4
    """IoU of the suppression over all buffers of a video"""
    most: int = 200
    """segments of a video"""
    deviations: tuple[float, float] = (0.1, 0.2)
    """of the offsets, see `RegionRule`"""
    means: tuple[float, float] = (0.0, 0.0)
    rule: Rule = "inclusive_gpu"


def buffer_segments(
    regions: Float[Tensor, "regions 2"],
    probabilities: Float[Tensor, "regions classes"],
    offsets: Float[Tensor, "regions offsets"],
    length: int,
    how: Cleaning,
) -> Float[Tensor, "_ 4"]:
    """Return the segments of one buffer, rows (class, start, end, score): class by class, each by decreasing score.

    Args:
        regions: the proposals, frames.
        probabilities: of each class; class 0 is background.
        offsets: as the network gives them, two for each class.
        length: of all buffers, frames; a shorter one is cut later (`video_segments`).
        how: the limits.
    """
    scale = offsets.new_tensor(how.deviations).repeat(probabilities.shape[1])
    shift = offsets.new_tensor(how.means).repeat(probabilities.shape[1])
    boxes = clip(decode(regions, offsets * scale + shift), length)
    boxes, scores = boxes.unflatten(1, (-1, 2))[:, 1:], probabilities[:, 1:]
    which, label = torch.nonzero(scores > how.score, as_tuple=True)
    box, score = boxes[which, label], scores[which, label]
    kept = nms_by_class(box, score, label, how.buffer_threshold, how.rule)
    return torch.cat([1 + label[kept, None].to(box), box[kept], score[kept, None]], 1)


def video_segments(
    of_buffers: Sequence[Float[Tensor, "_ 4"]], buffers: Sequence[Buffer], fps: float, how: Cleaning
) -> Segments:
    """Return the segments of a video, in seconds, from those of its buffers."""
    rows = []
    for segments, buffer in zip(of_buffers, buffers, strict=True):
        segments = segments.detach().cpu().double().numpy().copy()
        segments[:, 1:3] = (segments[:, 1:3] + buffer.start).clip(max=buffer.end) / fps
        rows.append(segments[segments[:, 1] < segments[:, 2]])
    return suppressed(np.concatenate(rows), how.merge_threshold)[: how.most]


def window_segments(
    windows: Windows,
    proposal_scores: Float[np.ndarray, " windows"],
    probabilities: Float[np.ndarray, "proposed classes"],
    prior: Float64[np.ndarray, "lengths actions"],
    fps: float,
    lengths: Sequence[int],
    least: float = 0.7,
    threshold: float = 0.4,
) -> tuple[np.ndarray, Segments]:
    """Return the segments that Segment-CNN finds, and the number of the window of each.

    Args:
        windows: all windows of the video.
        proposal_scores: probability of an action.
        probabilities: of the classes, for the windows with at least ``least``; class 0 is background.
        prior: see `vattn.detection.windows.window_prior`.
        fps: frames per second.
        lengths: of the rows of ``prior``, frames.
        least: see ``probabilities``.
        threshold: IoU of the suppression; above 1 nothing is suppressed.
    """
    number = np.flatnonzero(proposal_scores >= least)
    label = probabilities.argmax(1)
    number, best, label = (each[label > 0] for each in (number, probabilities.max(1), label))
    row = np.searchsorted(lengths, windows.rows[number, 0])
    score = best * prior[row, label - 1]
    segments = np.column_stack([label, windows.times(fps)[number], score])
    kept = _kept(segments, threshold)
    return number[kept], segments[kept]


def suppressed(segments: Segments, threshold: float) -> Segments:
    """Return the segments of a video that stay where those of a class compete, by plain lengths and falling score."""
    return segments[_kept(segments, threshold)]


def _kept(segments: Segments, threshold: float) -> np.ndarray:
    rows = torch.from_numpy(segments)
    numbers = np.sort(nms_by_class(rows[:, 1:3], rows[:, 3], rows[:, 0], threshold, "plain").numpy())
    return numbers[np.argsort(-segments[numbers, 3], kind="stable")]

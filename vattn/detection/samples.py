"""What a detector learns from in one epoch, and what it sees in an evaluation: parts of untrimmed videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from vattn.detection.config import RC3DConfig, SCNNConfig
from vattn.detection.videos import Video
from vattn.detection.windows import Buffer, BufferRule, Windows, buffers, training_buffers, windows

#: IoU above which a window is an action, below which it is background, and above which an instance without a window of
#: the first kind gets its best one.
POSITIVE, NEGATIVE, BEST = 0.7, 0.3, 0.5


class Part(NamedTuple):
    """The frames of a video that the network sees."""

    video: int
    frames: Int64[np.ndarray, " t"]
    """at the rate that the detector sees; they can be after the end"""
    mirrored: bool = False


@dataclass(frozen=True)
class Samples:
    """Parts of videos, and what the network is to find in each; the first dimension of ``targets`` counts the parts."""

    parts: Sequence[Part]
    targets: Float32[np.ndarray, "..."]


def rc3d_samples(
    every: Sequence[Video], config: RC3DConfig, length: int, fps: float, mirrored: Sequence[int] | None
) -> Samples:
    """Return the training buffers, with targets (start, end, class) of at most `BufferRule.most` instances.

    Args:
        every: the videos.
        config: the detector.
        length: of a buffer, frames.
        fps: frames per second.
        mirrored: the label of each label's mirror image, -1 if there is none: buffers are there mirrored too; None:
            none are.
    """
    rows = [video.instances(fps) for video in every]
    frames = [video.frames for video in every]
    rule = BufferRule(1.0, 0) if config.is_caffe else BufferRule()
    cut = training_buffers(frames, rows, length, config.step, rule, mirrored is not None, config.backward)
    parts, targets = [], []
    for sample in cut:
        own = np.zeros((rule.most, 3), np.float32)
        own[: len(sample.instances)] = sample.instances
        if sample.mirrored:
            assert mirrored is not None
            labels = np.array([0, *(1 + np.array(mirrored))])[sample.instances[:, 2].astype(np.int64)]
            if not labels.all():
                continue
            own[: len(labels), 2] = labels
        parts.append(Part(sample.video, sample.buffer.start + np.arange(length), sample.mirrored))
        targets.append(own)
    return Samples(parts, np.array(targets, np.float32).reshape(-1, rule.most, 3))


def rc3d_parts(every: Sequence[Video], config: RC3DConfig, length: int) -> tuple[list[Part], list[list[Buffer]]]:
    """Return the test buffers of all videos, as parts and by video."""
    cut = [buffers(video.frames, length, config.step, config.backward) for video in every]
    parts = [Part(number, buffer.start + np.arange(length)) for number, own in enumerate(cut) for buffer in own]
    return parts, cut


def scnn_windows(video: Video, config: SCNNConfig) -> Windows:
    """Return the windows of a video; one that is shorter than all of them is one window, which repeats its end."""
    cut = windows(video.frames, config.lengths, config.overlap)
    return cut if len(cut.rows) else windows(config.lengths[0], config.lengths[:1])


def scnn_parts(every: Sequence[Video], config: SCNNConfig, frames: int) -> tuple[list[Part], list[Windows]]:
    """Return the windows of all videos, as parts and by video."""
    cut = [scnn_windows(video, config) for video in every]
    parts = [Part(number, row - 1) for number, own in enumerate(cut) for row in own.frames(frames)]
    return parts, cut


def scnn_samples(
    every: Sequence[Video], config: SCNNConfig, frames: int, fps: float, mirrored: Sequence[int] | None,
    rng: np.random.Generator,
) -> Samples:  # fmt: skip
    """Return the training windows of one epoch, with targets (class, overlap, used).

    A window is an action if its best IoU is above `POSITIVE`, or if it is the best of an instance that has no such
    window, with an IoU above `BEST`. Of the windows below `NEGATIVE`, as many are sampled as there are actions. The
    localisation network uses as many of these as a class has actions on average. Half of the windows are mirrored if
    ``mirrored`` is given; the other arguments are those of `rc3d_samples`.
    """
    actions: list[tuple[Part, int, float]] = []
    background: list[Part] = []
    for number, video in enumerate(every):
        cut, rows = scnn_windows(video, config), video.instances(fps)
        seen = [Part(number, row - 1) for row in cut.frames(frames)]
        iou = _iou(cut.times(fps) * fps, rows)
        best, which = (iou.max(1), iou.argmax(1)) if len(rows) else (np.zeros(len(seen)), np.zeros(len(seen), int))
        chosen = {window: which[window] for window in np.flatnonzero(best > POSITIVE).tolist()}
        for instance in range(len(rows)):
            window = int(iou[:, instance].argmax())
            if instance not in chosen.values() and window not in chosen and iou[window, instance] > BEST:
                chosen[window] = instance
        actions += [(seen[w], int(rows[i, 2]), float(iou[w, i])) for w, i in chosen.items()]
        background += [seen[window] for window in np.flatnonzero(best < NEGATIVE).tolist() if window not in chosen]
    sampled = rng.permutation(len(background))[: max(len(actions), 1)]
    num_classes = len({label for _, label, _ in actions}) or 1
    used = len(actions) // num_classes
    parts = [part for part, _, _ in actions] + [background[number] for number in sampled.tolist()]
    targets = [(label, overlap, 1) for _, label, overlap in actions]
    targets += [(0, 1, int(place < used)) for place in range(len(sampled))]
    for place in np.flatnonzero(rng.random(len(parts)) < 0.5).tolist() if mirrored is not None else ():
        assert mirrored is not None
        label, overlap, counts = targets[place]
        other = 1 + mirrored[label - 1] if label else 0
        if label == 0 or other:
            parts[place] = parts[place]._replace(mirrored=True)
            targets[place] = (other, overlap, counts)
    return Samples(parts, np.array(targets, np.float32).reshape(-1, 3))


def _iou(
    boxes: Float64[np.ndarray, "windows 2"], rows: Float64[np.ndarray, "instances 3"]
) -> Float64[np.ndarray, "windows instances"]:
    first, last = (f(boxes[:, None, i], rows[None, :, i]) for i, f in ((0, np.maximum), (1, np.minimum)))
    start, end = (f(boxes[:, None, i], rows[None, :, i]) for i, f in ((0, np.minimum), (1, np.maximum)))
    return (last - first).clip(min=0) / (end - start)

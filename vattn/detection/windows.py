"""Which parts of an untrimmed video a detector sees: R-C3D's buffers and Segment-CNN's windows."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64


class Buffer(NamedTuple):
    """A part of a video: frames ``start`` to ``end`` - 1, counted from 0."""

    start: int
    end: int


def buffers(frames: int, length: int, step: int, backward: bool = True) -> list[Buffer]:
    """Return the buffers of a video of ``frames`` frames: from its front, and then, if ``backward``, from its end.

    A video that is shorter than a buffer is one buffer. Where buffers of both directions coincide, both are returned.
    """
    if frames <= length:
        forward = [Buffer(0, frames)]
        return forward * 2 if backward and frames == length else forward
    forward = [Buffer(start, start + length) for start in range(0, frames - length + 1, step)]
    return forward + [Buffer(end - length, end) for end in range(frames, length - 1, -step) if backward]


class BufferRule(NamedTuple):
    """Which instances of a video are targets of a buffer."""

    overlap: float = 0.7
    """least share of an instance's length that is in the buffer"""
    shortest: float = 3
    """least length of an instance, frames"""
    most: int = 20
    """number of instances that a buffer has at most; those that start first are kept"""


class TrainingBuffer(NamedTuple):
    """A buffer of a video, and its instances."""

    video: int
    buffer: Buffer
    mirrored: bool
    instances: Float64[np.ndarray, "_ 3"]
    """rows (start, end, class); frames from the start of the buffer"""


def training_buffers(
    frames: Sequence[int],
    instances: Sequence[Float64[np.ndarray, "_ 3"]],
    length: int,
    step: int,
    rule: BufferRule,
    mirror: bool = True,
    backward: bool = True,
) -> Iterator[TrainingBuffer]:
    """Yield the buffers that have an instance, each followed by its mirror image.

    Args:
        frames: number of frames of each video.
        instances: of each video, rows (start, end, class), frames.
        length: of a buffer, frames.
        step: between the starts of buffers, frames.
        rule: which instances count.
        mirror: yield each buffer mirrored too.
        backward: cut buffers from the end of a video too.
    """
    for video, (count, rows) in enumerate(zip(frames, instances, strict=True)):
        cut = buffers(count, length, step, backward)
        num_forward = len(buffers(count, length, step, backward=False))
        for number, buffer in enumerate(cut):
            inside = _inside(rows, buffer, rule, strict=number >= num_forward)
            if len(inside):
                for mirrored in (False, True)[: 1 + mirror]:
                    yield TrainingBuffer(video, buffer, mirrored, inside[: rule.most])


def _inside(
    rows: Float64[np.ndarray, "_ 3"], buffer: Buffer, rule: BufferRule, strict: bool
) -> Float64[np.ndarray, "_ 3"]:
    """Return the instances of a buffer, cut to it. ``strict``: a share or length that equals a limit is too small."""
    start, end = (rows[:, column].clip(buffer.start, buffer.end) for column in (0, 1))
    length = rows[:, 1] - rows[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (end - start) / length
    above = np.greater if strict else np.greater_equal
    chosen = above(share, rule.overlap) & above(length, rule.shortest)
    return np.column_stack([start - buffer.start, end - buffer.start, rows[:, 2]])[chosen]


class Windows(NamedTuple):
    """Windows of a video: ``rows`` are (length, first frame, last frame), counted from 1, both inclusive."""

    rows: Int64[np.ndarray, "windows 3"]

    def times(self, fps: float) -> Float64[np.ndarray, "windows 2"]:
        """Return start and end in seconds: Segment-CNN calls k / fps the time of frame k."""
        return self.rows[:, 1:] / fps

    def frames(self, count: int = 16) -> Int64[np.ndarray, "windows count"]:
        """Return the numbers of the ``count`` frames that the network sees, counted from 1."""
        every = self.rows[:, 0] // count
        return self.rows[:, 1:2] + every[:, None] * np.arange(count)


def windows(frames: int, lengths: Sequence[int] = (16, 32, 64, 128, 256, 512), overlap: float = 0.75) -> Windows:
    """Return the windows of a video, by length; windows of a length have ``overlap`` in common with the next."""
    rows = [
        (length, first, first + length - 1)
        for length in lengths
        for first in range(1, frames - length + 2, max(1, round(length * (1 - overlap))))
    ]
    return Windows(np.array(rows, np.int64).reshape(-1, 3))


#: Length of each of Segment-CNN's windows, seconds. The last is a slip of the authors for 20.44.
WINDOW_SECONDS = (0.6, 1.24, 2.52, 5.08, 10.2, 22.44)


def window_counts(
    durations: Float64[np.ndarray, " instances"],
    classes: Int64[np.ndarray, " instances"],
    num_classes: int,
    seconds: Sequence[float | int] = WINDOW_SECONDS,
) -> Int64[np.ndarray, "lengths classes"]:
    """Return for each window length how many instances of a class (0, 1, ...) are within a factor of 2 of it."""
    fits = [(length / 2 <= durations) & (durations <= 2 * length) for length in seconds]
    return np.array([np.bincount(classes[fit], minlength=num_classes) for fit in fits])


def window_prior(counts: Int64[np.ndarray, "lengths classes"]) -> Float64[np.ndarray, "lengths classes"]:
    """Return the share of each window length in the instances of a class; 0 for a class without any."""
    total = counts.sum(0)
    return np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)


def seconds_of(lengths: Sequence[int], fps: float) -> tuple[float, ...]:
    """Return (length - 1) / fps for each length, and the authors' slip where the length is theirs."""
    slip = math.isclose(fps, 25) and tuple(lengths) == (16, 32, 64, 128, 256, 512)
    return WINDOW_SECONDS if slip else tuple((length - 1) / fps for length in lengths)

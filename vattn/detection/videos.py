"""The untrimmed videos of a split: their frames at the rate that a detector sees, and their actions."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float64, Int64

from vattn.data import DataConfig
from vattn.data.untrimmed import Annotation
from vattn.detection.evaluation import Detections, Instances

_LOG = logging.getLogger(__name__)
#: Share of a frame by which a moment may be before a frame that is still shown then: times are rounded.
_ROUNDING = 1e-6
#: label of ambiguous segments; those of classes are 1 and more
AMBIGUOUS = 0


class Stored(Protocol):
    """The videos of one split in a clip cache."""

    @property
    def paths(self) -> list[str]: ...

    @property
    def shapes(self) -> Any: ...

    @property
    def seconds(self) -> Any: ...

    def times(self, i: int) -> Any: ...


class Video(NamedTuple):
    """One video; frames are counted from 0 at the rate that the detector sees."""

    path: str
    frames: int
    stored: int
    """number of stored frames"""
    rate: float
    """stored frames in a frame"""
    annotation: Annotation
    """times in seconds, cut to the video"""
    moments: Float64[np.ndarray, " stored"] = np.empty(0)
    """the frame at whose time each stored frame begins, a real number; empty if the rate is constant"""

    def stored_frames(self, frames: Int64[np.ndarray, " t"]) -> Int64[np.ndarray, " t"]:
        """Return the stored frame that is shown at the time of each frame; the last one after the end."""
        if len(self.moments):
            return (np.searchsorted(self.moments, frames + _ROUNDING, side="right") - 1).clip(0)
        return np.floor(frames * self.rate + _ROUNDING).astype(np.int64).clip(0, self.stored - 1)

    def instances(self, fps: float) -> Float64[np.ndarray, "_ 3"]:
        """Return rows (start, end, class), in frames, classes from 1; those that start first are first."""
        rows = self.annotation.instances * (fps, fps, 1) + (0, 0, 1)
        return rows[np.argsort(rows[:, 0], kind="stable")]


def videos(clips: Stored, data: DataConfig) -> list[Video]:
    """Return the videos of a split in the order of ``clips``.

    Actions are cut to the video, with a warning for those that end after it; those that begin after its end are left
    out. Raises UserError if the lists of the data set are wrong.
    """
    fps, _ = data.detection
    annotations = data.annotations(clips.paths)
    return [
        video_of(path, int(stored), float(seconds), annotations[path], fps, clips.times(i))
        for i, (path, stored, seconds) in enumerate(zip(clips.paths, clips.shapes[:, 0], clips.seconds, strict=True))
    ]


def video_of(
    path: str, stored: int, seconds: float, annotation: Annotation, fps: float, times: Sequence[float] = ()
) -> Video:
    """Return a video of ``stored`` frames that lasts ``seconds``, 0 or less if that is not known.

    ``fps`` is the rate at which a detector sees it. ``times`` are those of its frames and its end, seconds, where their
    rate is not constant.
    """
    length = times[-1] if len(times) else seconds if seconds > 0 else stored / fps
    rows = annotation.instances
    if late := int((rows[:, 1] > length + 1 / fps).sum()):
        _LOG.warning("%s: %d of %d actions end after the video, which lasts %.1f s", path, late, len(rows), length)
    cut = np.column_stack([rows[:, :2].clip(0, length), rows[:, 2]])
    annotation = Annotation(cut[cut[:, 0] < cut[:, 1]], annotation.ambiguous)
    frames = max(round(length * fps), 1)
    return Video(path, frames, stored, stored / (length * fps), annotation, np.array(times[:-1], np.float64) * fps)


def truth(every: Sequence[Video]) -> Instances:
    """Return all actions of videos, which are numbered in their order.

    Ambiguous segments have the label `AMBIGUOUS`.
    """
    rows = [
        (number, start, end, label + 1)
        for number, video in enumerate(every)
        for start, end, label in video.annotation.instances.tolist()
    ]
    rows += [
        (number, start, end, AMBIGUOUS)
        for number, video in enumerate(every)
        for start, end in video.annotation.ambiguous.tolist()
    ]
    return Instances(*np.array(rows, np.float64).reshape(-1, 4).T)


def detections(of_videos: Sequence[Float64[np.ndarray, "_ 4"]]) -> Detections:
    """Return the segments of videos, rows (class, start, end, score), as one table."""
    video = np.repeat(np.arange(len(of_videos)), [len(rows) for rows in of_videos]).astype(np.float64)
    label, start, end, score = np.concatenate([*of_videos, np.empty((0, 4))]).T
    return Detections(video, start, end, label, score)

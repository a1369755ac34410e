"""Detect with a trained model: from a video to the segments of its actions, exactly as `vattn test` scores them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vattn.config import TrialConfig
from vattn.data.decode import UnreadableFileError, decode_video
from vattn.data.untrimmed import EMPTY, Annotation
from vattn.detection.videos import Video, video_of
from vattn.errors import UserError
from vattn.files import at_home
from vattn.trained.model import Loaded
from vattn.training.batches.sources import ResidentClips
from vattn.training.tasks.detecting import Detected, detect


class Segment(NamedTuple):
    """An action that was found in a video: its class, its times in seconds, and its score."""

    label: str
    start: float
    end: float
    score: float


class TrainedDetector(Loaded):
    """A trained detector, see `Loaded`; a call with a video returns the segments of its actions."""

    task = "detection"

    def __call__(self, video: str | Path, top: int | None = None) -> list[Segment]:
        """Return the segments with the highest scores, the best first.

        Segments of one class overlap by an IoU of 0.4 at most, as those that `vattn test` scores at 0.5.

        Args:
            video: a file.
            top: number of segments; None: all.

        Raises:
            UserError: the video cannot be read.
        """
        config, net, _ = self.trained
        file = at_home(video)
        untrimmed, frames = read_untrimmed(config, file)
        clips = ResidentClips.of_video(frames, self.device)
        return self.segments(detect(net, clips, config, self.device, every=[untrimmed]), top)

    def segments(self, detected: Detected, top: int | None) -> list[Segment]:
        """Return the best segments of the first video of ``detected``."""
        found = detected.segments(0)[:top]
        return [Segment(self.labels[round(label) - 1], *times) for label, *times in found.tolist()]


def read_untrimmed(
    config: TrialConfig, file: Path, annotation: Annotation = EMPTY
) -> tuple[Video, UInt8[np.ndarray, "t h w 3"]]:
    """Return a video with its actions, and its frames as the clip cache of the config stores them.

    Raises:
        UserError: the video cannot be read.
    """
    if not file.is_file():
        raise UserError("there is no such file", file=file)
    try:
        decoded = decode_video(file, config.data.store.size, lambda t: True)
    except UnreadableFileError as error:
        raise UserError(f"cannot be read: {error}", file=file) from error
    frames = np.stack([frame for frame in decoded.frames if frame is not None])
    fps = config.data.detection[0]
    seconds = len(frames) / (decoded.rate or fps)
    return video_of(str(file), len(frames), seconds, annotation, fps, decoded.times), frames

"""Scales decoded frames to the size of the clip cache."""

from collections.abc import Callable, Iterable
from typing import Any

from vattn.data.cache.format import Frame
from vattn.data.decode.errors import UnreadableFileError


def scaled(frames: Iterable[Frame], size: int, wanted: Callable[[int], bool] = lambda t: True) -> list[Any]:
    """Return the frames with their shorter side scaled to ``size`` pixels, by bicubic interpolation.

    Frames whose number is not ``wanted`` are None in the list. Raises UnreadableFileError if there are no frames, or if
    wanted frames have different sizes.
    """
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

    scaler, result, shape = VideoReformatter(), [], None
    for t, frame in enumerate(frames):
        if not wanted(t):
            result.append(None)
            continue
        height, width = frame.shape[:2]
        if min(height, width) != size:
            height, width = (round(side * size / min(frame.shape[:2])) for side in (height, width))
            whole = VideoFrame.from_ndarray(frame, format="rgb24")
            # FFmpeg's scaler widens its kernel when it scales down, so fine texture does not alias into flicker.
            frame = scaler.reformat(whole, width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
        shape = shape or frame.shape
        if shape != frame.shape:
            raise UnreadableFileError(f"changes its size from {shape[1::-1]} to {frame.shape[1::-1]} pixels")
        result.append(frame)
    if not result:
        raise UnreadableFileError("has no frames")
    return result

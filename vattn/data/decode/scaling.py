"""Scales decoded frames to the size of the clip cache."""

from typing import Any

from vattn.data.cache.format import Frame
from vattn.data.decode.errors import UnreadableFileError


class Scaler:
    """Scales the frames of one clip so that their shorter side is ``size`` pixels, by bicubic interpolation."""

    def __init__(self, size: int) -> None:
        from av.video.reformatter import VideoReformatter

        self._size = size
        self._reformatter = VideoReformatter()
        self._shape: tuple[int, ...] = ()

    def __call__(self, frame: Any) -> Frame:
        """Return a frame of PyAV's format rgb24, scaled.

        Raises UnreadableFileError if it has another size than the frames before it.
        """
        sides = frame.height, frame.width
        if min(sides) != self._size:
            height, width = (round(side * self._size / min(sides)) for side in sides)
            # FFmpeg's scaler widens its kernel when it scales down, so fine texture does not alias into flicker.
            frame = self._reformatter.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1)
        pixels = frame.to_ndarray()
        self._shape = self._shape or pixels.shape
        if self._shape != pixels.shape:
            raise UnreadableFileError(f"changes its size from {self._shape[1::-1]} to {pixels.shape[1::-1]} pixels")
        return pixels

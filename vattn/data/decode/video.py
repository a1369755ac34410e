"""Decodes a video in order, as a whole. This is the only file that uses decord.

decord is the faster decoder and is tried first. If it reports anything about a file, or finds another number of frames
than the file has, PyAV decodes the file instead.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vattn.data.cache.format import Frame, Video
from vattn.data.decode.container import WHOLE, scan_packets
from vattn.data.decode.errors import UnreadableFileError, captured_stderr, ffmpeg_errors
from vattn.data.decode.scaling import scaled

log = logging.getLogger(__name__)


def read_video(path: Path, size: int) -> Video:
    """Return all frames of a video file, uint8 RGB (T, H, W, 3), upright, the shorter side ``size`` pixels.

    Raises UnreadableFileError, with the reason, if the file cannot be decoded.
    """
    return np.stack(decode_video(path, size, lambda t: True)[0])


def decode_video(path: Path, size: int, wanted: Callable[[int], bool]) -> tuple[list[Any], str]:
    """Return the frames of a video file, and the damage that the decoder concealed.

    Args:
        path: the file.
        size: the shorter side of the returned frames, pixels.
        wanted: whether the frame of a number, from 0, is to be returned.

    Returns:
        A list with an item for each frame of the file: uint8 RGB (H, W, 3), or None if it is not wanted; and the number
        of decode errors with the first of them, or an empty string.

    Raises:
        UnreadableFileError: the file cannot be decoded, is cut off, or lacks more than a tenth of its frames.
    """
    from av.error import FFmpegError

    try:
        stream = scan_packets(path)
        if stream.suits_decord:
            try:
                with captured_stderr() as messages:
                    frames = scaled(_decord_frames(path), size, wanted)
                if len(frames) == stream.frames and not messages and not stream.damage:
                    return frames, ""
                log.debug("%s: decord: %d of %d frames; %s", path, len(frames), stream.frames, messages)
            except Exception as error:  # decord raises many types for the same problem, and they share no base class
                log.debug("%s: decord: %s", path, error)
        errors = [stream.damage] if stream.damage else []
        frames = scaled(_pyav_frames(path, errors), size, wanted)
    except FFmpegError as error:
        raise UnreadableFileError(error.strerror or str(error)) from error
    if errors and len(frames) < WHOLE * stream.frames:
        raise UnreadableFileError(f"only {len(frames)} of {stream.frames} frames can be decoded: {errors[0]}")
    return frames, f"{len(errors)} decode errors, the first: {errors[0]}" if errors else ""


def _decord_frames(path: Path) -> Iterator[Frame]:
    import decord

    decord.logging.set_level(decord.logging.ERROR)
    reader = decord.VideoReader(str(path), num_threads=1)
    for _ in range(len(reader)):
        frame = reader.next().asnumpy()
        # If frames are 16, 24, 48 or 72 pixels wide, decord takes the padding of each row for a fourth channel.
        if frame.shape[2] != 3:
            raise UnreadableFileError(f"pixels of {frame.shape[2]} colours")
        yield frame


def _pyav_frames(path: Path, errors: list[str]) -> Iterator[Frame]:
    """Yield all frames that can be decoded; append the decoder's errors to ``errors``."""
    import av

    with ffmpeg_errors() as logged, av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            if frame.is_corrupt:
                logged.append("a frame is damaged")
            # Phones record how they were held. decord rotates frames by itself, PyAV does not.
            yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
    errors += logged

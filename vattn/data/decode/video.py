"""Decodes a video with FFmpeg, through PyAV, packet by packet: a damaged packet costs its own frame and no other."""

import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vattn.data.cache.format import Frame, Video
from vattn.data.decode.container import WHOLE, VideoSummary, opened, scan_packets
from vattn.data.decode.errors import UnreadableFileError, ffmpeg_errors
from vattn.data.decode.scaling import Scaler

#: Decoded frames that may wait for their conversion; a frame of 1920 x 1080 takes 3 MB.
WAITING = 8
#: Kinds of data beside a frame by which FFmpeg may be newer than PyAV.
NEWER = 16


def read_video(path: Path, size: int) -> Video:
    """Return all frames of a video file, uint8 RGB (T, H, W, 3), upright, the shorter side ``size`` pixels.

    Raises UnreadableFileError, with the reason, if the file cannot be decoded.
    """
    frames = decode_video(path, size, lambda t: True).frames
    return np.stack([frame for frame in frames if frame is not None])


class Decoded(NamedTuple):
    """What came out of a video file."""

    frames: list[Frame | None]
    """uint8 RGB (H, W, 3); None for a frame that is not wanted, or that was lost by damage"""
    damage: str
    """what the decoder concealed; empty if there was nothing"""
    rate: float
    """mean number of frames per second, as the header says; 0 if it does not"""
    times: tuple[float, ...]
    """seconds from the first frame to each that is here, and to the end of the last one; empty if the rate is constant
    and no frame was lost"""


def decode_video(path: Path, size: int, wanted: Callable[[int], bool]) -> Decoded:
    """Return the frames of a video file, and the damage that the decoder concealed.

    Args:
        path: the file.
        size: the shorter side of the returned frames, pixels.
        wanted: whether the frame of a number, from 0, is to be returned.

    Raises:
        UnreadableFileError: the file cannot be decoded, is cut off, or lacks more than a tenth of its frames.
    """
    summary = scan_packets(path)
    frames, decoded, errors = _decoded(path, size, wanted, summary, {})
    lost = summary.certain - decoded
    if lost > 0 and summary.pts:  # their timestamps tell which ones
        numbers = {pts: number for number, pts in enumerate(summary.pts)}
        frames, decoded, errors = _decoded(path, size, wanted, summary, numbers)
    if errors and decoded < WHOLE * (summary.frames - summary.leading):
        raise UnreadableFileError(f"only {decoded} of {summary.frames} frames can be decoded: {errors[0]}")
    if not frames:
        raise UnreadableFileError("has no frames")
    damage = [f"{len(errors)} decode errors, the first: {errors[0]}"] if errors else []
    damage += [f"{lost} of {summary.frames} frames are lost"] if lost > 0 else []
    return Decoded(frames, "; ".join(damage), float(summary.rate), _times(frames, summary))


def _times(frames: Sequence[Frame | None], summary: VideoSummary) -> tuple[float, ...]:
    timing = summary.timing()
    if timing is None or len(frames) != len(summary.pts):
        return ()
    if not timing.times and all(frame is not None for frame in frames):
        return ()
    every = timing.times or [number / timing.rate for number in range(timing.frames + 1)]
    here = [time for time, frame in zip(every, frames, strict=False) if frame is not None]
    return tuple(map(float, [*here, every[-1]]))


def _decoded(
    path: Path, size: int, wanted: Callable[[int], bool], summary: VideoSummary, numbers: dict[int, int]
) -> tuple[list[Frame | None], int, list[str]]:
    """Decode a file. ``numbers`` are those of the frames by their timestamps; without them, frames are counted.

    Returns the frames as `decode_video` does, how many were decoded, and the decoder's errors.
    """
    from av.error import FFmpegError

    frames: list[Future[Frame] | None] = []
    waiting: deque[Future[Frame]] = deque()
    decoded, found = 0, []
    rgb, scaled = _RGB(), Scaler(size)
    # One thread decodes, another converts; FFmpeg runs without Python's lock in both.
    with ThreadPoolExecutor(1) as converter, ffmpeg_errors() as logged, opened(path) as container:
        stream = container.streams[summary.stream]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        for packet in _packets(container, stream, found):
            try:
                pictures = stream.codec_context.decode(packet)
            except FFmpegError as error:
                found.append(error.strerror or str(error))
                if not numbers:
                    frames.append(None)
                continue
            for picture in pictures:
                decoded += 1
                if picture.is_corrupt:
                    found.append("a frame is damaged")
                frames += [None] * (numbers.get(picture.pts, 0) - len(frames))
                if not wanted(len(frames)):
                    frames.append(None)
                    continue
                waiting.append(converter.submit(lambda picture: scaled(rgb(picture)), picture))
                frames.append(waiting[-1])
                if len(waiting) > WAITING:
                    waiting.popleft().result()
    return [None if frame is None else frame.result() for frame in frames], decoded, logged or found


def _packets(container: Any, stream: Any, found: list[str]) -> Iterator[Any]:
    """Yield the packets of a stream, and None as the last; append errors to ``found``."""
    from av.error import FFmpegError

    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                found.append("a packet is marked as damaged")
            if packet.size:  # an empty packet in the middle of an AVI file repeats a frame
                yield packet
    except FFmpegError as error:
        found.append(error.strerror or str(error))
    yield None


class _RGB:
    """Converts decoded frames to upright RGB frames."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._graphs: dict[tuple[Any, ...], Any] = {}

    def __call__(self, frame: Any) -> Any:
        """Return a frame in PyAV's format rgb24, turned and mirrored as its display matrix says."""
        from av.video.frame import VideoFrame

        frame = self._known(frame)
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if frame.interlaced_frame:
            # The scaler would take the colours of both fields apart.
            frame = self._filtered(frame, ("setfield", "prog"))
        frame = self._reformatter.reformat(frame, format="rgb24", threads=1)
        if matrix is None:
            return frame
        pixels = frame.to_ndarray()
        upright = turned(pixels, struct.unpack("=9i", bytes(matrix)))
        return frame if upright is pixels else VideoFrame.from_ndarray(np.ascontiguousarray(upright), format="rgb24")

    def _known(self, frame: Any) -> Any:
        """Return the frame without data beside it of kinds that PyAV cannot name, such as EXIF: it would raise."""
        from av.sidedata.sidedata import Type

        try:
            assert frame.side_data is not None
        except ValueError:
            unknown = range(len(Type), len(Type) + NEWER)
            return self._filtered(frame, *(("sidedata", f"mode=delete:type={number}") for number in unknown))
        return frame

    def _filtered(self, frame: Any, *filters: tuple[str, str]) -> Any:
        """Return the frame after FFmpeg's filters, each a name and its options."""
        from av.filter import Graph

        key = frame.width, frame.height, frame.format.name, *filters
        if key not in self._graphs:
            graph = self._graphs[key] = Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            nodes = [graph.add(name, options) for name, options in filters]
            graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
        self._graphs[key].push(frame)
        return self._graphs[key].pull()


def turned(pixels: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """Return a frame (H, W, 3) turned and mirrored by a display matrix, rounded to quarter turns.

    The matrix has the rows (a, b, u), (c, d, v), (x, y, w): a pixel at (x, y) is shown at x' = a x + c y,
    y' = b x + d y, as ISO/IEC 14496-12 defines it. A matrix of zeros, which shows nothing, changes nothing.
    """
    a, b, _, c, d = matrix[:5]
    across, down = a, d
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    if across < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if down < 0 else pixels

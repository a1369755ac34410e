"""What the header and the packets of a video say about it, before its frames are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vattn.data.decode.errors import UnreadableFileError, ffmpeg_errors
from vattn.data.decode.images import image_size
from vattn.data.decode.sequence import images_by_prefix

#: A file with a smaller share than this of the frames that it announces was cut off. The share is below 1 because some
#: writers leave out one or two frames.
WHOLE = 0.9
#: The formats in which decord neither stalls nor skips frames, among those that it can open.
DECORD_FORMATS = ("mov", "avi", "matroska")
#: The AV1 decoders of FFmpeg; decord cannot decode AV1.
AV1_DECODERS = ("libdav1d", "av1", "libaom-av1")


class StreamSummary(NamedTuple):
    """What the packets of a video stream say."""

    frames: int
    """number of frames that are shown"""
    suits_decord: bool
    damage: str
    """first error in the packets; empty where there is none"""


def scan_packets(path: Path) -> StreamSummary:
    """Read the packets of a file, without decoding them.

    Raises UnreadableFileError if the file lacks frames that it announces: decoders take the end of the file for the end
    of the video. Raises `av.error.FFmpegError` if the file cannot be opened.
    """
    import av

    with ffmpeg_errors() as errors, av.open(str(path)) as container:
        if not container.streams.video:
            raise UnreadableFileError("has no video stream")
        stream = container.streams.video[0]
        name = container.format.name
        # 0 where the format announces no number. An edit list leaves frames out.
        announced = min(stream.frames, len(stream.index_entries)) if name.startswith("mov") else stream.frames
        packets = shown = 0
        end = 0.0
        for packet in container.demux(stream):
            packets += packet.size > 0
            shown += packet.size > 0 and not packet.is_discard
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packets < WHOLE * announced:
            raise UnreadableFileError(f"is cut off: has {packets} of {announced} frames")
        # With several streams the length is not compared: sound may be longer than the pictures.
        length = (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0
        if not announced and end - (container.start_time or 0) / av.time_base < WHOLE * length:
            raise UnreadableFileError(f"is cut off: has {end:.1f} of {length:.1f} seconds")
        suits_decord = name.startswith(DECORD_FORMATS) and stream.codec_context.name not in AV1_DECODERS
    return StreamSummary(shown, suits_decord, errors[0] if errors else "")


def frame_rate(path: Path) -> float:
    """Return the mean frame rate of a video in frames per second; raise UnreadableFileError if its header has none."""
    with _opened(path) as (_, _, rate):
        if not rate:
            raise UnreadableFileError("has no frame rate in its header")
        return rate


def header_shape(path: Path) -> tuple[int, int, int]:
    """Return (frames, height, width) of a video, as its header says, or of a folder of images.

    The number of frames is approximate. Raises UnreadableFileError if the header cannot be read.
    """
    import av

    if path.is_dir():
        images = max(images_by_prefix(path).values(), key=len, default=[])
        if not images:
            raise UnreadableFileError("has no frames")
        height, width = image_size(path / images[0][1])
        return len(images), height, width
    with _opened(path) as (container, stream, rate):
        frames = stream.frames or round((container.duration or 0) / av.time_base * rate)
        return frames, max(stream.height, 1), max(stream.width, 1)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any, float]]:
    """Yield a container, its video stream, and the frames per second in its header, or 0."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableFileError("has no video stream")
            stream = container.streams.video[0]
            yield container, stream, float(stream.average_rate or stream.guessed_rate or 0)
    except FFmpegError as error:
        raise UnreadableFileError(error.strerror or str(error)) from error

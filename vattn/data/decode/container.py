"""What the header and the packets of a video say about it, before its frames are decoded.

Everything that reads a video takes the stream, the frames and the origin of time that this file chooses:

* **Stream**: of the video streams that are no still pictures (cover, thumbnails), the one that shows the most pixels in
  all its frames together; of equals, the first. Flags such as "default" do not count: the content decides.
* **Frames**: the frames that a player shows, without those that an edit list leaves out.
* **Origin**: times count from the first of these frames, whatever its timestamp.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from vattn.data.cache.format import Frame
from vattn.data.decode.errors import UnreadableFileError

#: A file with a smaller share than this of the frames that it announces was cut off. The share is below 1 because some
#: writers leave out one or two frames.
WHOLE = 0.9
#: Frames that are shown nearer than this to the times of a constant rate have a constant rate, as a share of the time
#: between two frames. Timestamps in milliseconds are never exact.
CONSTANT = 0.1
#: Decoders of codecs with hidden frames: their packets may show nothing.
HIDING = ("vp8", "vp9", "libvpx", "libvpx-vp9", "libdav1d", "av1", "libaom-av1")
#: A packet of MPEG-4 with fewer bytes may repeat the last frame, and shows nothing.
REPEATING = 16
#: Identifier of the file properties of an ASF file, and bytes at the beginning in which they are looked for.
_ASF_PROPERTIES, _ASF_HEADER = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 1 << 16
#: Formats of files that are no videos, whatever their names end in: lists of other files. Single pictures end in _pipe.
_LISTS = ("concat", "hls", "dash", "imf")


class VideoSummary(NamedTuple):
    """What the packets of a file say about its video."""

    stream: int
    """number of the video stream in the file"""
    frames: int
    """number of packets that are shown"""
    certain: int
    """number of these that show a frame for certain; 0 if that is not known"""
    leading: int
    """number of these before the first keyframe, which cannot be decoded; files that were cut from others have them"""
    rate: Fraction
    """mean number of frames per second; 0 if the header has none"""
    pts: Sequence[int]
    """presentation timestamps of the frames, sorted; empty if the file does not give each frame one of its own"""
    end: float
    """timestamp at which the last frame ends; minus infinity if no frame has a timestamp"""
    time_base: Fraction
    """seconds of one unit of the timestamps"""

    def timing(self) -> "Timing | None":
        """Return when the frames are shown; None if that is unknown."""
        rate = self.rate
        if not rate and len(self.pts) > 1:
            rate = (len(self.pts) - 1) / ((self.pts[-1] - self.pts[0]) * self.time_base)
        if not rate:
            return None
        if len(self.pts) < 2 or _constant(self.pts, self.time_base * rate):
            return Timing(self.frames, rate, ())
        times = [(pts - self.pts[0]) * self.time_base for pts in self.pts]
        # Some writers give the last frame no duration. It is shown no shorter than the one before it.
        end = max(Fraction(self.end) - self.pts[0], 2 * self.pts[-1] - self.pts[-2] - self.pts[0])
        return Timing(self.frames, rate, [*times, end * self.time_base])


class Timing(NamedTuple):
    """When the frames of a video are shown."""

    frames: int
    """number of frames"""
    rate: Fraction
    """mean number of frames per second"""
    times: Sequence[Fraction]
    """seconds from the first frame to each frame and to the end of the last; empty if the rate is constant"""

    def span(self, start: Fraction, end: Fraction) -> tuple[int, int]:
        """Return the frame that is shown ``start`` seconds after the first one, and the last one before ``end``.

        A first frame that does not exist has a number of at least ``frames``.
        """
        if self.times:
            first, last = bisect_right(self.times, start) - 1, min(bisect_left(self.times, end), self.frames) - 1
        else:
            first, last = math.floor(start * self.rate), math.ceil(end * self.rate) - 1
        return first, max(last, first)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a video; raise UnreadableFileError, with FFmpeg's reason, if FFmpeg cannot open or read it."""
    import av
    from av.error import FFmpegError

    try:
        # Titles and tags are not always UTF-8, and nobody here reads them.
        with av.open(str(path), metadata_errors="replace") as container:
            name = container.format.name
            if name.endswith("_pipe"):
                raise UnreadableFileError(f"is a picture ({name.removesuffix('_pipe')}), and no video")
            if name.startswith(_LISTS):
                raise UnreadableFileError(f"is a list of other files ({name}), and no video")
            yield container
    except FFmpegError as error:
        raise UnreadableFileError(error.strerror or str(error)) from error


def scan_packets(path: Path) -> VideoSummary:
    """Read the packets of a file, without decoding them.

    Raises UnreadableFileError if the file cannot be opened, has no video, or lacks frames that it announces: a decoder
    takes the end of the file for the end of the video.
    """
    from av.error import FFmpegError

    stopped = None
    with opened(path) as container:
        streams = _moving(container)
        counts = {stream.index: _Packets() for stream in streams}
        start, end = math.inf, -math.inf  # of the other streams, such as sound, seconds
        try:
            for packet in container.demux():
                if packet.stream_index in counts:
                    counts[packet.stream_index].add(packet)
                elif packet.pts is not None:
                    start = min(start, float(packet.pts * packet.time_base))
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        except FFmpegError as error:
            stopped = error
        stream = max(streams, key=lambda stream: counts[stream.index].pixels(stream))
        packets = counts[stream.index]
        for other in streams:
            start = min(start, float(counts[other.index].start * other.time_base))
            end = max(end, float(counts[other.index].end * other.time_base))
        # An error near the end costs little, if the file says how far the end is.
        if not _is_whole(container, stream, packets, start, end) and stopped:
            raise stopped
        # AVI stores no timestamps. FFmpeg makes them up, and errs where frames are reordered.
        pts = [] if container.format.name == "avi" else packets.distinct_pts()
        frames, codec = len(packets.pts), stream.codec_context.name
        certain = 0 if codec in HIDING else packets.large if codec == "mpeg4" else frames
        return VideoSummary(
            stream.index, frames, certain, packets.leading or 0, _rate(stream), pts, packets.end, stream.time_base
        )


def timing(path: Path) -> Timing:
    """Return when the frames of a video are shown; raise UnreadableFileError if that is unknown."""
    with opened(path) as container:
        streams = _moving(container)
        stream = streams[0]
        rate = _rate(stream)
        # An MP4 file has the times in its header, which saves reading the whole file.
        entries = list(stream.index_entries) if container.format.name.startswith("mov") and len(streams) == 1 else []
        whole = len(entries) == stream.frames and not any(entry.is_discard for entry in entries)
        if entries and whole and rate and _constant([entry.timestamp for entry in entries], stream.time_base * rate):
            return Timing(len(entries), rate, ())
    known = scan_packets(path).timing()
    if known is None:
        raise UnreadableFileError("has no frame rate in its header")
    return known


def header_shape(path: Path) -> tuple[int, int, int]:
    """Return (frames, height, width) of a video, as its header says.

    The number of frames is approximate. Raises UnreadableFileError if the header cannot be read.
    """
    import av

    with opened(path) as container:
        stream = _chosen(container, path)
        frames = stream.frames or round((container.duration or 0) / av.time_base * _rate(stream))
        return frames, max(stream.height, 1), max(stream.width, 1)


def middle_picture(path: Path) -> Frame:
    """Return one frame from the middle of a video, uint8 RGB (H, W, 3), at its own size and not turned.

    Raises UnreadableFileError if there is none.
    """
    with opened(path) as container:
        stream = _chosen(container, path)
        container.seek((container.duration or 0) // 2)
        picture = next(container.decode(stream), None)
        if picture is None:
            raise UnreadableFileError("has no frame in its middle")
        return picture.to_ndarray(format="rgb24")


class _Packets:
    """The packets of one stream that are shown."""

    def __init__(self) -> None:
        self.pts: list[int | None] = []
        self.all = self.large = 0
        self.leading: int | None = None
        self.last_dts: int | None = None
        self.start, self.end = math.inf, -math.inf

    def add(self, packet: Any) -> None:
        if not packet.size:
            return
        self.all += 1
        if self.leading is None and packet.is_keyframe:
            self.leading = len(self.pts)
        pts = packet.pts
        if not packet.is_discard:
            self.pts.append(pts)
            self.large += packet.size >= REPEATING
        if pts is not None:
            self.start, self.end = min(self.start, pts), max(self.end, pts + (packet.duration or 0))
        if packet.dts is not None:
            self.start, self.last_dts = min(self.start, packet.dts), packet.dts

    def pixels(self, stream: Any) -> tuple[bool, int]:
        """Return the key by which streams are compared: a single picture comes after all that move."""
        return len(self.pts) > 1, len(self.pts) * stream.width * stream.height

    def distinct_pts(self) -> list[int]:
        """Return the sorted timestamps, or nothing if some are missing or the same."""
        known = {pts for pts in self.pts if pts is not None}
        return sorted(known) if len(known) == len(self.pts) else []


def _chosen(container: Any, path: Path) -> Any:
    """Return the stream that is read; packets are counted only where there are several."""
    streams = _moving(container)
    return streams[0] if len(streams) == 1 else container.streams[scan_packets(path).stream]


def _moving(container: Any) -> list[Any]:
    """Return the video streams that are no still pictures; raise UnreadableFileError if there are none."""
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent
    if not container.streams.video:
        raise UnreadableFileError("has no video stream")
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    if not streams:
        raise UnreadableFileError("has still pictures, but no video")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise UnreadableFileError("has a video of a codec that FFmpeg cannot decode")
    return decodable


def _is_whole(container: Any, stream: Any, packets: _Packets, start: float, end: float) -> bool:
    """Return whether all frames are there, or False if the file does not say how many there should be.

    ``start`` and ``end`` are those of all streams, seconds. Raises UnreadableFileError if the file says how many frames
    there should be, or how long it is, and something is missing.
    """
    import av

    # 0 where the format announces no number. An edit list leaves frames out.
    name, announced, found = container.format.name, stream.frames, packets.all
    if name.startswith("mov"):
        announced = min(announced, len(stream.index_entries))
    elif name == "avi" and packets.last_dts is not None:
        # Chunks without data, which repeat a frame, are announced, and FFmpeg counts them in its timestamps.
        found = max(found, packets.last_dts + 1)
    if found < WHOLE * announced:
        raise UnreadableFileError(f"is cut off: has {found} of {announced} frames")
    if name == "asf" and container.size < WHOLE * (size := _asf_bytes(Path(container.name))):
        # FFmpeg does not believe the length of such a file.
        raise UnreadableFileError(f"is cut off: has {container.size:,} of {size:,} bytes")
    length = (container.duration or 0) / av.time_base
    if announced or not length or end < start:
        return bool(announced)
    # Some formats count the length from 0, others from the first timestamp.
    if 0 < start < length and end <= length * (2 - WHOLE):
        length -= start
    if end - start < WHOLE * length:
        raise UnreadableFileError(f"is cut off: has {end - start:.1f} of {length:.1f} seconds")
    return True


def _asf_bytes(path: Path) -> int:
    """Return the size of an ASF file (WMV) as its header says; 0 if it does not.

    The file properties object has an identifier, its size (8 bytes), an identifier of the file (16) and the file's size
    (8): Microsoft, "Advanced Systems Format (ASF) Specification", 2012, section 3.2.
    """
    with path.open("rb") as file:
        _, found, properties = file.read(_ASF_HEADER).partition(_ASF_PROPERTIES)
    return int.from_bytes(properties[24:32], "little") if found else 0


def _rate(stream: Any) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(0)


def _constant(stamps: Sequence[int], frames: Fraction) -> bool:
    """Return whether timestamps are those of a constant rate of ``frames`` in one unit of them.

    In whole numbers: fractions would take a hundredth of the time of decoding.
    """
    numerator, units = frames.as_integer_ratio()
    limit = math.floor(Fraction(CONSTANT) * units)
    return all(abs((stamp - stamps[0]) * numerator - number * units) <= limit for number, stamp in enumerate(stamps))

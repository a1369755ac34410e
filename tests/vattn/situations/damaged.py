"""Damaged video files from a seed: what `decode_video` makes of them, beside what the decoder makes of their packets.

Each file is a small video of one of `SOURCES`, damaged in one of the ways of `DAMAGE`. A process that may take
`TIME_LIMIT` decodes it twice: by `vattn.data.decode.decode_video`, and by PyAV, packet by packet, written here once
more. What came out is one of `OUTCOMES`. A run that is interrupted goes on where it stopped:

    python -m tests.vattn.situations.damaged OUTCOMES.jsonl [--files 2000] [--seed 0] [--jobs 2]

The table of docs/benchmarks.md is printed at the end, then the files that need an explanation, by their numbers.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from vattn.data import workers
from vattn.data.decode import UnreadableFileError, decode_video

#: seconds
TIME_LIMIT = 60.0
FRAMES, HEIGHT, WIDTH = 40, 48, 64
#: pixels, shorter side of the frames that are compared
SIZE = 32
#: Largest difference of two levels of frames that are the same.
SAME = 2

#: Suffix, encoder and options of the videos that are damaged.
SOURCES: tuple[tuple[str, str, dict[str, str]], ...] = (
    (".mp4", "libx264", {"bf": "2", "g": "12"}),
    (".mp4", "libx264", {"bf": "0", "g": "12", "coder": "vlc", "movflags": "faststart"}),
    (".mkv", "libx264", {"bf": "2", "g": "12"}),
    (".avi", "mpeg4", {"bf": "2", "g": "12"}),
    (".webm", "libvpx-vp9", {"deadline": "realtime", "g": "12"}),
    (".webm", "libvpx", {"deadline": "realtime", "g": "12"}),
    (".mp4", "libx265", {"x265-params": "keyint=12:bframes=2:log-level=none:pools=1:frame-threads=1"}),
    (".ts", "libx264", {"bf": "2", "g": "12"}),
    (".avi", "mjpeg", {}),
    (".mov", "mpeg4", {"g": "12"}),
)

#: What a display matrix (a, b, c, d) makes of a picture: the pixel at (x, y) is shown at (a x + c y, b x + d y).
TURNS: dict[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]] = {
    (1, 0, 0, 1): lambda stored: stored,
    (-1, 0, 0, 1): lambda stored: stored[:, ::-1],
    (1, 0, 0, -1): lambda stored: stored[::-1],
    (-1, 0, 0, -1): lambda stored: stored[::-1, ::-1],
    (0, 1, 1, 0): lambda stored: stored.swapaxes(0, 1),
    (0, 1, -1, 0): lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    (0, -1, 1, 0): lambda stored: stored.swapaxes(0, 1)[::-1],
    (0, -1, -1, 0): lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
}

OUTCOMES = {
    "unreadable": "refused, with a reason",
    "concealed": "read, damage named",
    "unharmed": "read, no message, the frames are those of the undamaged file",
    "shortened": "read, no message, the frames are some of those of the undamaged file",
    "unnoticed": "read, no message, other frames, the same packet by packet",
    "undefined": "read, no message, other frames each time: the decoder left a part of a frame as it was in memory",
    "different": "read, no message, other frames than packet by packet",
    "hang": "no end within a minute",
    "crash": "the process died",
}


class Source(NamedTuple):
    """A video that is damaged."""

    name: str
    data: bytes
    frames: list[np.ndarray]


@cache
def sources() -> list[Source]:
    """Return the undamaged videos, with their frames as PyAV decodes them."""
    # A camera that moves over a random texture, so that frames are predicted from others.
    texture = np.random.default_rng(0).integers(0, 256, (HEIGHT + FRAMES, WIDTH + FRAMES, 3), np.uint8)
    texture = (texture + np.roll(texture, 1, 0) // 2 + np.roll(texture, 1, 1) // 2 + np.roll(texture, 2, 0) // 2) // 3
    video = [np.ascontiguousarray(texture[t // 2 : t // 2 + HEIGHT, t : t + WIDTH]) for t in range(FRAMES)]
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (suffix, codec, options) in enumerate(SOURCES):
            path = Path(folder) / f"{number}{suffix}"
            movflags = {"movflags": options["movflags"]} if "movflags" in options else {}
            with av.open(str(path), "w", options=movflags) as container:
                encoding = {key: value for key, value in options.items() if key != "movflags"}
                stream: Any = container.add_stream(codec, rate=12, options=encoding)
                stream.height, stream.width = HEIGHT, WIDTH
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                stream.codec_context.thread_count = 1
                for pixels in video:
                    container.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode(None))
            made.append(Source(path.name, path.read_bytes(), packet_by_packet(path)))
    return made


def changed(rng: np.random.Generator, name: str, data: bytes) -> bytes:
    """Change 1 to 30 bytes anywhere."""
    damaged = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 31))):
        damaged[place] ^= int(rng.integers(1, 256))
    return bytes(damaged)


def cut(rng: np.random.Generator, name: str, data: bytes) -> bytes:
    """Cut off the end or the beginning, or take out a part, or write zeros over it."""
    start, stop = sorted(int(place) for place in rng.integers(0, len(data), 2))
    return [data[:stop], data[start:], data[:start] + data[stop:], data[:start] + bytes(stop - start) + data[stop:]][
        int(rng.integers(4))
    ]


def joined(rng: np.random.Generator, name: str, data: bytes) -> bytes:
    """Append another file, or put a part of it in the place of a part of this one."""
    other = sources()[int(rng.integers(len(SOURCES)))].data
    if rng.integers(2):
        return data + other
    place, start = int(rng.integers(len(data))), int(rng.integers(len(other)))
    length = int(rng.integers(1, 2000))
    return data[:place] + other[start : start + length] + data[place + length :]


def dropped(rng: np.random.Generator, name: str, data: bytes) -> bytes:
    """Leave out 1 to 5 packets, in half of the cases also their times, and write one packet twice in a quarter."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / name, Path(folder) / f"after{Path(name).suffix}"
        before.write_bytes(data)
        with av.open(str(before)) as source:
            packets = [packet for packet in source.demux(video=0) if packet.size]
            lost = set(rng.integers(0, len(packets), int(rng.integers(1, 6))).tolist())
            close, twice = bool(rng.integers(2)), int(rng.integers(4 * len(packets)))
            kept = [packet for number, packet in enumerate(packets) if number not in lost]
            times = [(packet.pts, packet.dts) for packet in packets]
            with av.open(str(after), "w") as copy:
                stream = copy.add_stream_from_template(source.streams.video[0])
                for number, packet in enumerate(kept):
                    packet.stream = stream
                    if close:
                        packet.pts, packet.dts = times[number]
                    for _ in range(1 + (number == twice)):
                        try:
                            copy.mux(packet)
                        except FFmpegError:  # the format cannot hold it
                            continue
        return after.read_bytes()


def header(rng: np.random.Generator, name: str, data: bytes) -> bytes:
    """Change 1 to 8 bytes of what stands before the frames (of an MP4 file, the box ``moov``)."""
    start, stop = 0, min(700, len(data))
    if (moov := data.find(b"moov")) > 0:
        start, stop = moov + 4, moov - 4 + int.from_bytes(data[moov - 4 : moov], "big")
    damaged = bytearray(data)
    for place in rng.integers(start, stop, int(rng.integers(1, 9))):
        damaged[place] = int(rng.integers(256))
    return bytes(damaged)


DAMAGE: dict[str, Callable[[np.random.Generator, str, bytes], bytes]] = {
    "bytes changed": changed,
    "cut": cut,
    "joined": joined,
    "packets dropped": dropped,
    "header changed": header,
}


def packet_by_packet(path: Path, hold: bool = False) -> list[np.ndarray]:
    """Return all frames that PyAV decodes from the packets of a file's best video stream, upright and scaled.

    With ``hold``, the decoder cannot use the memory of earlier frames again; that makes no difference to its results.
    """
    scaler, frames, held = VideoReformatter(), [], []
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        assert stream is not None
        decoder: Any = stream.codec_context
        decoder.thread_type, decoder.thread_count = "NONE", 1
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                packet = None
            if packet is not None and not packet.size:
                continue
            try:
                pictures = decoder.decode(packet)
            except FFmpegError:
                pictures = []
            held += pictures if hold else []
            for picture in pictures:
                pixels = upright(picture)
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                height, width = (round(side * SIZE / min(pixels.shape[:2])) for side in pixels.shape[:2])
                frames.append(scaler.reformat(frame, width, height, "rgb24", interpolation="BICUBIC").to_ndarray())
            if packet is None:
                return frames


def upright(picture: VideoFrame) -> np.ndarray:
    """Return the RGB pixels of a picture, turned by the quarter turn or reflection nearest to its display matrix."""
    pixels, matrix = picture.to_ndarray(format="rgb24"), picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
    return TURNS[max(TURNS, key=lambda turn: np.dot(turn, (a, b, c, d)))](pixels)


def made(seed: int, number: int) -> tuple[Source, str, bytes]:
    """Return the source of a damaged file, the kind of its damage, and its content."""
    rng = np.random.default_rng([seed, number])
    source = sources()[int(rng.integers(len(SOURCES)))]
    kind = list(DAMAGE)[number % len(DAMAGE)]
    return source, kind, DAMAGE[kind](rng, source.name, source.data)


def outcome(seed: int, number: int) -> dict[str, Any]:
    """Decode a damaged file; return its number, source, kind of damage, outcome, and message."""
    source, kind, data = made(seed, number)
    line = {"number": number, "source": source.name, "kind": kind}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.name
        path.write_bytes(data)
        try:
            decoded = decode_video(path, SIZE, lambda t: True)
        except UnreadableFileError as error:
            return line | {"outcome": "unreadable", "message": str(error)}
        if decoded.damage:
            return line | {"outcome": "concealed", "message": decoded.damage}
        frames = [frame for frame in decoded.frames if frame is not None]
        try:
            expected, held = packet_by_packet(path), packet_by_packet(path, hold=True)
        except (FFmpegError, ValueError) as error:
            return line | {"outcome": "different", "message": f"packet by packet: {error}"}
    if not same(expected, held):
        return line | {"outcome": "undefined", "message": f"{len(frames)} frames"}
    if not same(frames, expected):
        return line | {"outcome": "different", "message": f"{len(frames)} frames, packet by packet {len(expected)}"}
    if same(frames, source.frames):
        return line | {"outcome": "unharmed", "message": ""}
    known = {frame.tobytes() for frame in source.frames}
    some = len(frames) < FRAMES and all(frame.tobytes() in known for frame in frames)
    message = f"{len(frames)} frames of {FRAMES}"
    return line | {"outcome": "shortened" if some else "unnoticed", "message": message}


def same(frames: list[np.ndarray], others: list[np.ndarray]) -> bool:
    """Return whether two videos have the same frames."""
    return len(frames) == len(others) and all(
        frame.shape == other.shape and np.abs(frame.astype(int) - other).max() <= SAME
        for frame, other in zip(frames, others, strict=True)
    )


def run(seed: int, numbers: list[int], jobs: int) -> Iterator[dict[str, Any]]:
    """Yield the outcomes of damaged files, each decoded in a process that may hang or die."""
    for number, result in workers.run(partial(outcome, seed), numbers, jobs, TIME_LIMIT):
        if not isinstance(result, workers.Failure):
            yield result
            continue
        source, kind, _ = made(seed, number)
        what = "crash" if "died" in result.reason else "hang" if "took longer" in result.reason else "unreadable"
        yield {"number": number, "source": source.name, "kind": kind, "outcome": what, "message": result.reason}


def table(lines: list[dict[str, Any]]) -> str:
    """Return the numbers of outcomes by kind of damage, as Markdown."""
    counts = {kind: Counter(line["outcome"] for line in lines if line["kind"] == kind) for kind in DAMAGE}
    rows = [["outcome", *DAMAGE, "all"], ["---", *["---:"] * (len(DAMAGE) + 1)]]
    for name, meaning in OUTCOMES.items():
        cells = [counts[kind][name] for kind in DAMAGE]
        rows.append([meaning, *map(str, cells), str(sum(cells))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Run what is not in the file of outcomes yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes", type=Path, help="JSON Lines; made, or continued")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with arguments.outcomes.open("a+", encoding="utf-8") as file:
        file.seek(0)
        lines = [json.loads(line) for line in file if line.endswith("\n")]
        done = {line["number"] for line in lines}
        for line in run(arguments.seed, [n for n in range(arguments.files) if n not in done], arguments.jobs):
            lines.append(line)
            file.write(json.dumps(line) + "\n")
            file.flush()
    print(table(lines))
    for line in sorted(lines, key=lambda line: line["number"]):
        if line["outcome"] in ("different", "hang", "crash"):
            print(line)


if __name__ == "__main__":
    from tests.vattn.situations import damaged  # workers cannot import functions of __main__

    damaged.main()

"""Ways to store the frames of a clip: size, time to write, and time to read 8 frames spread over it, on one core.

    python tests/benchmarks/bench_codec.py VIDEO... [--size 128] [--repeats 40]

Raw frames and JPEG are written and read as the clip cache does. H.264 is a stream with a key frame every ``gop`` frames
and no B frames, in memory; to read a frame, its group is decoded from the key frame on, and each group once. Times are
CPU times. Rounds of all ways alternate; a ratio is that of a way to JPEG of quality 90 in the same round.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from simplejpeg import decode_jpeg

from vattn.data.cache.format import StoredClip, Video
from vattn.data.decode import read_video

#: frames that a network sees
FRAMES = 8
#: longest part of a video that is used, frames
LONGEST = 250


class Way(NamedTuple):
    """One way to store a clip."""

    write: Callable[[Video], Any]
    size: Callable[[Any], int]
    read: Callable[[Any, list[int]], list[np.ndarray]]


def jpeg(quality: int) -> Way:
    def read(clip: StoredClip, wanted: list[int]) -> list[np.ndarray]:
        return [decode_jpeg(clip.pixels[clip.ends[t] : clip.ends[t + 1]]) for t in wanted]

    return Way(lambda video: StoredClip.jpeg(list(video), quality), lambda clip: clip.pixels.nbytes, read)


def raw() -> Way:
    def read(clip: StoredClip, wanted: list[int]) -> list[np.ndarray]:
        frames = clip.pixels.reshape(-1, clip.height, clip.width, 3)
        return [frames[t].copy() for t in wanted]

    return Way(StoredClip.raw, lambda clip: clip.pixels.nbytes, read)


def h264(gop: int, crf: int) -> Way:
    """Return H.264 in packets, a list of them for each group of pictures."""

    def write(video: Video) -> tuple[bytes, list[list[bytes]]]:
        codec = av.CodecContext.create("libx264", "w")
        codec.height, codec.width, codec.pix_fmt = video.shape[1] // 2 * 2, video.shape[2] // 2 * 2, "yuv420p"
        codec.time_base = Fraction(1, 25)
        codec.options = {
            "crf": str(crf), "preset": "fast", "tune": "fastdecode", "threads": "1",
            "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:repeat-headers=1",
        }  # fmt: skip
        packets = []
        for t, frame in enumerate(video):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[: codec.height, : codec.width]), "rgb24")
            picture.pts = t
            packets += codec.encode(picture)
        packets += codec.encode(None)
        data = [bytes(packet) for packet in packets]
        return b"", [data[first : first + gop] for first in range(0, len(data), gop)]

    def read(clip: tuple[bytes, list[list[bytes]]], wanted: list[int]) -> list[np.ndarray]:
        _, groups = clip
        codec = av.CodecContext.create("h264", "r")
        codec.thread_count = 1
        frames: dict[int, np.ndarray] = {}
        for number in sorted({t // gop for t in wanted}):
            last = max(t for t in wanted if t // gop == number) - number * gop
            decoded = []
            for packet in groups[number][: last + 1]:
                decoded += codec.decode(av.Packet(packet))
            decoded += codec.decode(None)
            codec.flush_buffers()
            for t in (t for t in wanted if t // gop == number):
                frames[t] = decoded[t - number * gop].to_ndarray(format="rgb24")
        return [frames[t] for t in wanted]

    return Way(write, lambda clip: sum(len(packet) for group in clip[1] for packet in group), read)


WAYS = {
    "jpeg 90": jpeg(90), "jpeg 75": jpeg(75), "raw": raw(),
    "h264 gop 1 crf 18": h264(1, 18), "h264 gop 4 crf 18": h264(4, 18), "h264 gop 8 crf 18": h264(8, 18),
    "h264 gop 16 crf 18": h264(16, 18), "h264 gop 8 crf 23": h264(8, 23),
}  # fmt: skip


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, over the part that both have."""
    height, width = min(one.shape[0], other.shape[0]), min(one.shape[1], other.shape[1])
    error = np.mean((one[:height, :width].astype(float) - other[:height, :width]) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    parser.add_argument("--size", type=int, default=128, help="shorter side, pixels (default: 128)")
    parser.add_argument("--repeats", type=int, default=40, help="reads of each clip and way (default: 40)")
    options = parser.parse_args()
    print(f"{'video':28} {'way':20} {'bytes':>9} {'ratio':>6} {'PSNR':>6} {'write':>9} {'read':>9} {'ratio':>6}")
    for path in options.videos:
        video = read_video(path, options.size)[:LONGEST]
        rng, stored, write = np.random.default_rng(0), {}, {}
        for name, way in WAYS.items():
            began = time.process_time()
            stored[name] = way.write(video)
            write[name] = (time.process_time() - began) / len(video)
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        quality: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(options.repeats):
            part = len(video) / FRAMES
            wanted = sorted(int(part * (i + rng.random())) for i in range(FRAMES))
            for name, way in WAYS.items():
                began = time.process_time()
                frames = way.read(stored[name], wanted)
                seconds[name].append(time.process_time() - began)
                quality[name] += [psnr(frame, video[t]) for frame, t in zip(frames[:2], wanted[:2], strict=True)]
        base = "jpeg 90"
        for name, way in WAYS.items():
            size = way.size(stored[name]) / len(video)
            ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))
            print(
                f"{path.name[:28]:28} {name:20} {size:9.0f} {size / (WAYS[base].size(stored[base]) / len(video)):6.2f} "
                f"{statistics.median(quality[name]):6.1f} {1e3 * write[name]:6.2f} ms "
                f"{1e3 * statistics.median(seconds[name]):6.2f} ms {ratio:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

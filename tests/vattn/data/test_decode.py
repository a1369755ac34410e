"""Unusual and damaged files, as users have them. The number of each frame is painted into its pixels."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.vattn.data.support import decoded, manifest
from vattn.data import open_clips
from vattn.data.cache import CONCEALED, FAILURES, read_failures
from vattn.data.config import StoreConfig
from vattn.data.decode import ImageFolder, UnreadableFileError, read_video
from vattn.data.ingest import ingest

REAL = Path(__file__).parents[4] / "shared" / "clips"
needs_footage = pytest.mark.skipif(not REAL.is_dir(), reason="real footage is not part of the project")

FRAMES = 40
#: Bits of the number that is painted into a frame.
BITS = 6
STORE = StoreConfig(size=48)


def painted(frames: int = FRAMES, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a video whose frame t has a white bar for each bit of t that is set, from left to right."""
    video = np.zeros((frames, height, width, 3), np.uint8)
    for t in range(frames):
        for bit in range(BITS):
            if t >> bit & 1:
                video[t, height // 8 : -height // 8, (bit + 1) * width // 8 : (bit + 2) * width // 8] = 255
    return video


def numbers(video: np.ndarray) -> list[int]:
    """Return the number that is painted into each frame."""
    height, width = video.shape[1:3]
    bars = [
        video[:, height // 2 - 2 : height // 2 + 2, (2 * bit + 3) * width // 16, :].mean(axis=(1, 2)) > 127
        for bit in range(BITS)
    ]
    return (np.stack(bars, axis=1) @ (1 << np.arange(BITS))).tolist()


def write(
    path: Path, video: np.ndarray, codec: str = "libx264", pixels: str = "yuv420p", times: list[int] | None = None,
    **options: str,
) -> Path:  # fmt: skip
    """Write a video file; ``times`` of its frames are in milliseconds."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=1000 if times else 12, options=options)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        for t, picture in enumerate(video):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[t], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_matrix(path: Path, *matrix: int) -> Path:
    """Set the display matrix in an MP4 file's track header, (a, b, c, d) of x' = ax + cy, y' = bx + dy."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def shifted(source: Path, out: Path, frames: int) -> Path:
    """Copy a file with its times moved back, so that an edit list leaves out its first ``frames`` frames."""
    with av.open(str(source)) as before, av.open(str(out), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        assert before.streams.video[0].time_base
        shift = int(frames / 12 / before.streams.video[0].time_base)
        for packet in before.demux(video=0):
            if packet.dts is not None and packet.pts is not None:
                packet.stream, packet.pts, packet.dts = stream, packet.pts - shift, packet.dts - shift
                after.mux(packet)
    return out


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b-frames.avi", {"codec": "mpeg4", "bf": "2", "g": "12"}),
        ("h264-b-frames.avi", {"bf": "2", "g": "12"}),
        ("open-gop.mp4", {"x264-params": "open-gop=1:keyint=8:bframes=3"}),
        ("variable-rate.mp4", {"times": [t * t + 20 * t for t in range(FRAMES)]}),
        ("av1.mp4", {"codec": "libsvtav1"}),
        ("picture.gif", {"codec": "gif", "pixels": "rgb8"}),
        ("transport.ts", {}),
        ("vp9.webm", {"codec": "libvpx-vp9"}),
    ],
)
def test_every_frame_of_unusual_files_is_decoded_once_and_in_order(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    video = read_video(write(tmp_path / name, painted(), **options), 48)

    assert video.shape == (FRAMES, 48, 64, 3)
    assert numbers(video) == list(range(FRAMES))


@pytest.mark.parametrize(
    ("height", "width", "pixels"), [(49, 65, "yuv444p"), (48, 72, "yuv420p"), (50, 34, "yuv420p"), (48, 126, "yuv420p")]
)
def test_unusual_frame_sizes_are_decoded(height: int, width: int, pixels: str, tmp_path: Path) -> None:
    video = painted(height=height, width=width)

    read = read_video(write(tmp_path / "odd.mp4", video, pixels=pixels), min(height, width))

    assert read.shape == video.shape
    assert numbers(read) == list(range(FRAMES))


def test_a_file_of_one_frame_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    assert numbers(read_video(write(tmp_path / "one.mp4", painted()[37:38]), 48)) == [37]


def test_frames_that_an_edit_list_leaves_out_are_left_out(tmp_path: Path) -> None:
    source = write(tmp_path / "whole.mp4", painted(), bf="3", g="8")

    assert numbers(read_video(shifted(source, tmp_path / "edited.mp4", 10), 48)) == list(range(10, FRAMES))


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_rotated_files_are_turned_upright(matrix: tuple[int, ...], turns: int, codec: str, tmp_path: Path) -> None:
    # A phone held sideways stores the picture turned the other way. x' = -y, y' = x turns clockwise.
    upright = painted(height=96, width=128) if turns == 2 else painted(height=128, width=96)
    stored = np.ascontiguousarray(np.rot90(upright, -turns, axes=(1, 2)))

    video = read_video(with_matrix(write(tmp_path / "phone.mp4", stored, codec=codec), *matrix), 96)

    assert video.shape == upright.shape
    assert numbers(video) == list(range(FRAMES))


def test_files_without_frames_are_unreadable(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()

    with pytest.raises(UnreadableFileError, match="has no video stream"):
        read_video(tmp_path / "sound.mp4", 48)
    with pytest.raises(UnreadableFileError, match="has no frames"):
        read_video(tmp_path / "none.avi", 48)


def rows(*paths: str, **columns: list[int | None]) -> pa.Table:
    """Return a manifest of training clips of label 0."""
    plain = {"path": paths, "label": pa.array([0] * len(paths), pa.int32()), "split": ["train"] * len(paths)}
    return pa.table(plain | {name: pa.array(values, pa.int64()) for name, values in columns.items()})


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the data truncated, with some bits flipped, with a part set to zero, or replaced by text."""
    how, at = int(rng.integers(4)), int(rng.integers(len(data)))
    if how == 0:
        return data[:at]
    if how == 1:
        flipped = bytearray(data)
        for place in rng.integers(0, len(data), int(rng.integers(1, 30))):
            flipped[place] ^= int(rng.integers(1, 256))
        return bytes(flipped)
    if how == 2:
        length = int(rng.integers(1, len(data) // 4))
        return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]
    return b"path,label\n" * int(rng.integers(1, 100))


@pytest.mark.medium
def test_damaged_files_are_listed_and_no_intact_clip_is_lost(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (FRAMES, 48, 64, 3), np.uint8)
    video = np.maximum(painted(), noise)
    sources = [
        write(tmp_path / "a.mp4", video, g="12"),
        write(tmp_path / "b.avi", video, codec="mpeg4", bf="2", g="12"),
        write(tmp_path / "c.webm", video, codec="libvpx-vp9", deadline="realtime"),
        write(tmp_path / "d.mkv", video, bf="2"),
    ]
    bad = [f"bad{number:03}{sources[number % 4].suffix}" for number in range(200)]
    for number, name in enumerate(bad):
        (tmp_path / name).write_bytes(damaged(sources[number % 4].read_bytes(), rng))
    good = [source.name for source in sources]

    cache = ingest(rows(*good, *bad), tmp_path, tmp_path / "cache", STORE, jobs=2, time_limit=60.0)

    clips = open_clips(cache, "train")
    failed, concealed = (
        {line["path"]: line["reason"] for line in read_failures(cache, name)} for name in (FAILURES, CONCEALED)
    )
    assert clips.paths[:4] == good
    assert set(clips.paths) | set(failed) == {*good, *bad}
    assert len(clips.paths) + len(failed) == 204
    assert set(concealed) <= set(clips.paths) - set(good)
    assert all(failed.values())
    assert all(concealed.values())
    assert len(failed) > 100
    assert len(concealed) > 10
    for i, name in enumerate(good):
        assert numbers(clips.clip(i)) == list(range(FRAMES)), name


def test_folders_of_images_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for t, picture in enumerate(painted(12)):
        Image.fromarray(picture).save(tmp_path / "clip" / f"img_{t + 1}.jpg", quality=95)
    clips_of_folder = rows("clip", "clip", "clip", first=[None, 3, 10], last=[None, 5, None])

    raw, jpeg = (
        open_clips(ingest(clips_of_folder, tmp_path, tmp_path / "cache", store, jobs=1), "train")
        for store in (STORE, StoreConfig(size=48, codec="jpeg"))
    )

    for clips in (raw, jpeg):
        assert [numbers(clips.clip(i)) for i in range(3)] == [list(range(12)), [2, 3, 4], [9, 10, 11]]
    # Files in the format of the cache are stored unchanged.
    ends, data, _ = jpeg._read(0)
    assert data[: ends[1]].tobytes() == (tmp_path / "clip" / "img_1.jpg").read_bytes()
    np.testing.assert_array_equal(jpeg.clip(0), raw.clip(0))


def test_an_unreadable_image_in_a_folder_is_named(tmp_path: Path) -> None:
    for name in ("cut", "text", "mixed", "good"):
        (tmp_path / name).mkdir()
        for t, picture in enumerate(painted(3)):
            Image.fromarray(picture).save(tmp_path / name / f"{t + 1:05}.jpg")
    whole = (tmp_path / "cut" / "00002.jpg").read_bytes()
    (tmp_path / "cut" / "00002.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text" / "00003.jpg").write_text("not found")
    Image.fromarray(painted(1, height=64)[0]).save(tmp_path / "mixed" / "00002.jpg")

    cache = ingest(rows("cut", "text", "mixed", "good"), tmp_path, tmp_path / "cache", STORE, jobs=1)

    reasons = {line["path"]: line["reason"] for line in read_failures(cache)}
    assert reasons["cut"].startswith("00002.jpg: ")
    assert reasons["text"].startswith("00003.jpg: ")
    assert reasons["mixed"] == "has frames of different sizes"
    assert open_clips(cache, "train").paths == ["good"]


def test_flow_is_read_from_its_two_components(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for t, picture in enumerate(painted(5), start=1):
        for name, value in (("img", picture), ("flow_x", picture), ("flow_y", 255 - picture)):
            Image.fromarray(value).convert("L").save(tmp_path / "clip" / f"{name}_{t:05}.jpg", quality=95)

    cache = ingest(rows("clip"), tmp_path, tmp_path / "cache", STORE, jobs=1, modality="flow")

    flow = open_clips(cache, "train").clip(0)
    assert numbers(flow[..., :1]) == [0, 1, 2, 3, 4]
    assert numbers(255 - flow[..., 1:2]) == [0, 1, 2, 3, 4]
    assert (flow[..., 2] == 128).all()


def test_flow_with_a_missing_image_is_unreadable(tmp_path: Path) -> None:
    for name in ("flow_x_00001", "flow_x_00002", "flow_y_00001"):
        Image.fromarray(painted(1)[0]).convert("L").save(tmp_path / f"{name}.jpg")

    with pytest.raises(UnreadableFileError, match=r"has 2 images flow_x_NUMBER and 1 .*: flow_x_2 without flow_y_"):
        ImageFolder(tmp_path, "flow")


@pytest.mark.medium
@needs_footage
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        # Numbers of frames from the README of these clips; widths: 340 x 256 -> 42.5 x 32, 320 x 240 -> 42.67 x 32,
        # 426 x 240 -> 56.8 x 32.
        ("demo.mp4", (280, 32, 42, 3)),
        ("part_0.mp4", (32, 32, 42, 3)),
        ("demo_spatiotemporal_det.mp4", (57, 32, 42, 3)),
        ("test.avi", (164, 32, 43, 3)),
        ("test_video_structuralize.mp4", (300, 32, 57, 3)),
        ("flipping_a_pancake.mkv", (310, 32, 57, 3)),
    ],
)
def test_real_videos_are_decoded_whole_with_the_shorter_side_scaled(name: str, shape: tuple[int, ...]) -> None:
    clip = read_video(REAL / name, 32)

    assert clip.shape == shape
    # The scaler averages, so each frame keeps its mean colour.
    reference = decoded(REAL / name).mean(axis=(1, 2))
    np.testing.assert_allclose(clip.mean(axis=(1, 2)), reference, atol=3)


@pytest.mark.medium
@needs_footage
@pytest.mark.parametrize(("name", "size"), [("part_0.mp4", 256), ("test.avi", 240)])
def test_real_videos_at_their_own_size_equal_a_sequential_decode(name: str, size: int) -> None:
    np.testing.assert_allclose(read_video(REAL / name, size), decoded(REAL / name), atol=2)


@needs_footage
def test_a_damaged_real_video_is_read_without_its_damaged_frame_and_listed(tmp_path: Path) -> None:
    cache = ingest(manifest("corrupted.mp4", "part_0.mp4"), REAL, tmp_path / "cache", StoreConfig(size=32), jobs=1)

    assert read_failures(cache) == []
    (line,) = read_failures(cache, CONCEALED)
    assert line["path"] == "corrupted.mp4"
    assert "Invalid NAL unit size" in line["reason"]
    assert line["reason"].endswith("1 of 50 frames are lost")
    clips = open_clips(cache, "train")
    assert clips.paths == ["corrupted.mp4", "part_0.mp4"]
    assert clips.shapes[:, 0].tolist() == [49, 32]

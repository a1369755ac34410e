"""Videos of unusual kinds: which stream is read, from which frame on, which way up, and what damage costs."""

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import FFmpegError
from av.stream import Disposition

from tests.vattn.data.support import footage
from tests.vattn.situations.damaged import TURNS
from tests.vattn.situations.support import HEIGHT, WIDTH, Case, check, frame, numbers, texts
from vattn.data.decode import UnreadableFileError, decode_video, header_shape, read_video, timing

FOLDERS = {"kind": "folders", "val_share": 0.5, "max_faults": 0}
NO_FLAG = Disposition(0)

Change = Callable[[int, Any], bool]


def encoded(
    path: Path, pictures: Iterable[np.ndarray], codec: str = "libx264", pixels: str = "yuv420p",
    times: Sequence[int] | None = None, rate: Any = 10, metadata: dict[str, str] | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Write a video; ``times`` of its frames are in milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate=1000 if times else rate, options=options)
        stream.codec_context.thread_count = 1
        for t, pixels_of in enumerate(pictures):
            if t == 0:
                stream.height, stream.width, stream.pix_fmt = *pixels_of.shape[:2], pixels
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_of), format="rgb24")
            if times:
                picture.pts, picture.time_base = times[t], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def copied(source: Path, path: Path, change: Change = lambda number, packet: True) -> Path:
    """Copy the packets of a video into another file, those for which ``change`` returns True."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for number, packet in enumerate(before.demux(video=0)):
            if packet.size and change(number, packet):
                packet.stream = stream
                after.mux(packet)
    return path


def later(seconds: float) -> Change:
    """Move the timestamps of a copy, as ``-output_ts_offset`` does."""

    def change(number: int, packet: Any) -> bool:
        ticks = int(seconds / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return True

    return change


def streams(path: Path, *each: tuple[Iterable[int], int, str, Disposition]) -> None:
    """Write a file of several video streams: numbers of the frames, height, codec, flag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        added: list[Any] = []
        for _, height, codec, flag in each:
            stream: Any = container.add_stream(codec, rate=10)
            stream.height, stream.width = height, height * WIDTH // HEIGHT
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = flag
            added.append(stream)
        for stream, (shown, height, _, _) in zip(added, each, strict=True):
            for number in shown:
                pixels = np.full((height, stream.width, 3), frame(number)[0, 0, 0], np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))


def intact(root: Path, suffix: str) -> Path:
    """Write a video of 12 frames with B-frames beside the data set, to make others of."""
    codec = {".webm": "libvpx-vp9", ".mpg": "mpeg2video"}.get(suffix, "libx264")
    options: dict[str, Any] = {} if suffix == ".webm" else {"bf": "2", "g": "6", "sc_threshold": "0"}
    rate = 25 if suffix == ".mpg" else 10  # MPEG-2 knows few rates
    return encoded(root.parent / f"source{suffix}", map(frame, range(12)), codec, rate=rate, **options)


ORIGINS = [
    *(
        Case(
            name=f"timestamps from {seconds} seconds on in {suffix}",
            make=lambda root, suffix=suffix, seconds=seconds: copied(
                intact(root, suffix if suffix in (".webm", ".mpg") else ".mp4"), root / f"run/a{suffix}", later(seconds)
            ),
            data=FOLDERS,
            frames={f"run/a{suffix}": range(12)},
        )
        for suffix in (".webm", ".mkv", ".mp4", ".mov", ".ts", ".flv", ".mpg")
        for seconds in (1, 100, 30000)
        if (suffix, seconds) != (".mpg", 30000)  # its timestamps start again after 26 hours
    ),
    *(
        Case(
            name=f"cut at a keyframe, with the timestamps of the whole, in {suffix}",
            make=lambda root, suffix=suffix: copied(
                intact(root, ".mp4"), root / f"run/a{suffix}", lambda number, _: number >= 6
            ),
            data=FOLDERS,
            frames={f"run/a{suffix}": range(6, 12)},
        )
        for suffix in (".mkv", ".mp4", ".ts")
    ),
    *(
        Case(
            name=f"cut between keyframes in {suffix}",
            make=lambda root, suffix=suffix: copied(
                intact(root, ".mp4"), root / f"run/a{suffix}", lambda number, _: number != 0
            ),
            data=FOLDERS,
            says=["1 of 1 files are damaged or incomplete, and used as they are"],
        )
        for suffix in (".mkv", ".mp4")
    ),
    Case(
        name="a variable frame rate",
        make=lambda root: encoded(
            root / "run/a.mkv", map(frame, range(12)), times=[t * t + 20 * t for t in range(12)], bf="2"
        ),
        data=FOLDERS,
        frames={"run/a.mkv": range(12)},
    ),
]

STREAMS = [
    *(
        Case(
            name=f"{name} in {suffix}",
            make=lambda root, suffix=suffix, each=each: streams(root / f"run/a{suffix}", *each),
            data=FOLDERS,
            frames={f"run/a{suffix}": range(12)},
        )
        for suffix in (".mp4", ".mkv", ".mov")
        for name, each in {
            "a smaller picture before it": [
                (range(12, 24), 32, "libx264", NO_FLAG), (range(12), 64, "libx264", NO_FLAG),
            ],
            "a smaller picture before it, marked as default": [
                (range(12, 24), 32, "libx264", Disposition.default), (range(12), 64, "libx264", NO_FLAG),
            ],
            "a smaller picture after it": [
                (range(12), 64, "libx264", NO_FLAG), (range(12, 24), 32, "libx264", Disposition.default),
            ],
            "a shorter one before it": [
                (range(12, 16), 32, "libx264", NO_FLAG), (range(12), 32, "libx264", NO_FLAG),
            ],
            "another of the same size after it": [
                (range(12), 32, "libx264", NO_FLAG), (range(12, 24), 32, "mpeg4", Disposition.default),
            ],
            "a large still picture before it, marked as nothing": [
                ([20], 640, "mjpeg", NO_FLAG), (range(12), 32, "libx264", NO_FLAG),
            ],
            "a cover before it": [
                ([20], 640, "mjpeg", Disposition.attached_pic), (range(12), 32, "libx264", NO_FLAG),
            ],
            "a cover after it": [
                (range(12), 32, "libx264", NO_FLAG), ([20], 640, "mjpeg", Disposition.attached_pic),
            ],
        }.items()
        if (suffix, "cover" in name) != (".mov", True)  # a cover in .mov is not written
    ),
]  # fmt: skip


def sounding(path: Path) -> Path:
    """Write a video of 2 seconds with sound."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=10, options={"g": "5"})
        video.height, video.width, video.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        sound: Any = container.add_stream("aac", rate=44100)
        for number in range(20):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame(number), format="rgb24")))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 44100, 4410 * number
            container.mux(sound.encode(samples))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
def test_a_video_with_sound_that_ends_early_is_cut_off(suffix: str, tmp_path: Path) -> None:
    path = sounding(tmp_path / f"a{suffix}")
    whole = path.read_bytes()
    assert numbers(read_video(path, HEIGHT)) == list(range(20))

    for share in (0.5, 0.75):
        path.write_bytes(whole[: round(share * len(whole))])
        with pytest.raises(UnreadableFileError, match="is cut off: has"):
            read_video(path, HEIGHT)


def test_a_wmv_file_that_ends_early_is_cut_off(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.wmv", map(frame, range(12)), "wmv2")
    whole = path.read_bytes()
    assert numbers(read_video(path, HEIGHT)) == list(range(12))

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFileError, match=rf"is cut off: has {len(whole) // 2:,} of {len(whole):,} bytes"):
        read_video(path, HEIGHT)


def test_data_beside_a_frame_of_a_kind_that_pyav_cannot_name_is_ignored(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mov", map(frame, range(4)), "tiff", "rgb24")  # its decoder passes on EXIF
    with av.open(str(path)) as container, pytest.raises(ValueError, match="is not a valid Type"):
        assert next(container.decode(video=0)).side_data is not None

    assert numbers(read_video(path, HEIGHT)) == list(range(4))


def garbled(root: Path, at: float = 0.3) -> None:
    """Write a video of 200 frames, and change one byte of it, the length of a packet's data."""
    path = encoded(root / "run/a.mp4", footage(200, height=HEIGHT, width=WIDTH), g="20", bf="0")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        packet = next(packet for packet in packets[round(at * 200) :] if not packet.is_keyframe)
        place = packet.pos
    assert place is not None
    data = bytearray(path.read_bytes())
    data[place] ^= 0x80
    path.write_bytes(data)


def zero_chunk(root: Path) -> None:
    """Write an AVI file in which a chunk is empty, which means that the last frame is shown again."""
    path = encoded(root / "run/a.avi", map(frame, range(12)), "mjpeg", "yuvj420p")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert packets[4].pos is not None
        start, size = packets[4].pos - 8, packets[4].size
    data = bytearray(path.read_bytes())
    assert data[start : start + 4] == b"00dc"
    data[start : start + 8 + size] = b"00dc" + bytes(4) + b"JUNK" + struct.pack("<I", size - 8) + bytes(size - 8)
    index = data.rindex(b"idx1") + 8 + 4 * 16 + 12
    data[index : index + 4] = bytes(4)
    path.write_bytes(data)


def resized(root: Path) -> None:
    """Write a video whose frames change their size, as a video call does."""
    parts = [
        encoded(root.parent / f"{height}.webm", footage(6, height=height, width=48), "libvpx", deadline="realtime")
        for height in (32, 64)
    ]
    (root / "run").mkdir()
    with av.open(str(root / "run/a.webm"), "w") as out, av.open(str(parts[0])) as first, av.open(str(parts[1])) as last:
        stream = out.add_stream_from_template(first.streams.video[0])
        for part, container in enumerate((first, last)):
            for packet in container.demux(video=0):
                if packet.size and packet.pts is not None:
                    packet.stream = stream
                    packet.pts += 600 * part
                    packet.dts = packet.pts
                    out.mux(packet)


DAMAGE = [
    Case(
        name="one damaged packet of 200",
        make=garbled,
        data=FOLDERS,
        says=["1 of 1 files are damaged or incomplete, and used as they are"],
    ),
    Case(
        name="titles that are not UTF-8",
        make=lambda root: (
            encoded(root / "run/a.mp4", map(frame, range(12)), metadata={"title": "caf\u00e9"}),
            (root / "run/a.mp4").write_bytes((root / "run/a.mp4").read_bytes().replace(b"caf\xc3\xa9", b"caf\xe9\xff")),
        ),
        data=FOLDERS,
        frames={"run/a.mp4": range(12)},
    ),
    Case(
        name="an empty chunk in an AVI file",
        make=zero_chunk,
        data=FOLDERS,
        frames={"run/a.avi": [0, 1, 2, 3, *range(5, 12)]},
    ),
    Case(
        name="frames that change their size",
        make=resized,
        data=FOLDERS,
        says=["changes its size from (48, 32) to (32, 43) pixels"],
        status=2,
    ),
    Case(
        name="a picture of sound",
        make=lambda root: streams(root / "run/a.mp4", ([3], 32, "mjpeg", Disposition.attached_pic)),
        data=FOLDERS,
        says=["has still pictures, but no video"],
        status=2,
    ),
]


@pytest.mark.parametrize("case", [*ORIGINS, *STREAMS, *DAMAGE], ids=lambda case: case.name)
def test_situation(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(case, tmp_path, caplog)


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Set the display matrix of an MP4 file: x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("matrix", [*TURNS, (0, 0, 0, 0)], ids=str)
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_turned_and_mirrored_videos_are_shown_as_a_player_shows_them(
    matrix: tuple[int, int, int, int], codec: str, tmp_path: Path
) -> None:
    path = encoded(tmp_path / "a.mp4", footage(3, height=32, width=48), codec)
    with av.open(str(path)) as container:
        stored = np.stack([picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)])
    with_matrix(path, *matrix)

    shown = read_video(path, 32)

    turn = TURNS.get(matrix, lambda pixels: pixels)
    np.testing.assert_array_equal(shown, np.stack([turn(pixels) for pixels in stored]))


def test_the_colours_of_interlaced_frames_are_converted_as_those_of_others(tmp_path: Path) -> None:
    interlaced: dict[str, Any] = {"x264-params": "tff=1"}
    path = encoded(tmp_path / "a.mp4", footage(4, height=32, width=48), **interlaced)
    expected = []
    with av.open(str(path)) as container:
        for picture in container.decode(video=0):
            assert picture.interlaced_frame
            plain = av.VideoFrame.from_ndarray(picture.to_ndarray(), format="yuv420p")  # without the flag
            expected.append(plain.to_ndarray(format="rgb24"))

    np.testing.assert_array_equal(read_video(path, 32), np.stack(expected))


def test_the_frames_before_and_after_a_damaged_packet_are_the_right_ones(tmp_path: Path) -> None:
    garbled(tmp_path)
    path = tmp_path / "run/a.mp4"
    expected = footage(200, height=HEIGHT, width=WIDTH)

    decoded = decode_video(path, HEIGHT, lambda t: True)

    assert len(decoded.frames) == 200
    (lost,) = [t for t, pixels in enumerate(decoded.frames) if pixels is None]
    assert 60 <= lost <= 62
    assert decoded.damage.endswith("1 of 200 frames are lost")
    # Frames up to the next keyframe are predicted from the lost one, and cannot be right.
    for t in (*range(lost), *range(80, 200)):
        pixels = decoded.frames[t]
        assert pixels is not None
        error = (pixels.astype(float) - expected[t]).reshape(2, 16, 3, 16, 3).mean(axis=(1, 3))
        assert np.abs(error).max() < 12, t


def test_segments_of_a_damaged_file_have_the_frames_that_they_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make(root: Path) -> None:
        path = encoded(root / "a.mp4", map(frame, range(30)), g="10", bf="0")
        with av.open(str(path)) as container:
            place = [packet.pos for packet in container.demux(video=0) if packet.size][13]
        assert place is not None
        data = bytearray(path.read_bytes())
        data[place] ^= 0x80
        path.write_bytes(data)
        segments = "".join(f"a.mp4,0,{first},{last}\n" for first, last in ((0, 9), (11, 12), (13, 13), (20, 29)))
        texts(root, {"clips.csv": "path,label,first,last\n" + segments})

    data = {"kind": "table", "file": "clips.csv", "splits": "none", "max_faults": 1, "val_share": 0.4}
    lost = "a.mp4: unreadable file: all frames from 13 on to 13 are lost: 4 decode errors"

    outcome = check(Case(name="", make=make, data=data, says=[lost]), tmp_path, caplog)

    assert sorted(outcome.frames["a.mp4"]) == [*range(10), 11, 12, *range(20, 30)]


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("dropped", [[0], [0, 1, 2], [8], [11, 12]], ids=str)
def test_no_frame_is_repeated_for_one_that_is_missing(suffix: str, dropped: list[int], tmp_path: Path) -> None:
    # decord goes back and repeats frames until there are as many as packets.
    codec = {".avi": "mpeg4", ".mp4": "mpeg4", ".mkv": "libx264", ".webm": "libvpx"}[suffix]
    options: dict[str, Any] = {"deadline": "realtime", "g": "8"} if suffix == ".webm" else {"g": "8", "bf": "2"}
    source = encoded(
        tmp_path / f"source{suffix if suffix == '.webm' else '.mp4'}", map(frame, range(32)), codec, **options
    )
    path = copied(source, tmp_path / f"a{suffix}", lambda number, packet: number not in dropped)

    shown = numbers(read_video(path, HEIGHT))

    by_packet = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                by_packet += packet.decode()
            except FFmpegError:
                continue
    assert shown == numbers(np.stack([picture.to_ndarray(format="rgb24") for picture in by_packet]))
    assert len(set(shown)) == len(shown) or suffix in (".avi", ".mp4")


def test_the_size_of_a_cache_is_predicted_from_the_stream_that_is_read(tmp_path: Path) -> None:
    streams(
        tmp_path / "a.mp4", (range(12), 32, "libx264", Disposition.default), (range(10), 64, "libx264", NO_FLAG),
    )  # fmt: skip

    assert header_shape(tmp_path / "a.mp4") == (10, 64, 96)
    assert read_video(tmp_path / "a.mp4", 64).shape == (10, 64, 96, 3)


SWITCHED = [100 * t for t in range(40)] + [4000 + round(t * 1000 / 30) for t in range(60)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_seconds_become_frames_by_the_times_at_which_they_are_shown(suffix: str, tmp_path: Path) -> None:
    # 10 frames per second for 4 seconds, then 30.
    path = encoded(tmp_path / f"a{suffix}", (frame(t % 30) for t in range(100)), times=SWITCHED, bf="2")
    moved = copied(path, tmp_path / f"b{suffix}", later(7)) if suffix == ".mp4" else path

    for each in (path, moved):
        shown = timing(each)
        assert (shown.frames, len(shown.times)) == (100, 101)
        assert shown.span(Fraction(5), Fraction(6)) == (70, 99)
        assert shown.span(Fraction(0), Fraction(1)) == (0, 9)
        assert shown.span(Fraction("0.25"), Fraction("0.26")) == (2, 2)
        assert shown.span(Fraction("5.99"), Fraction(50)) == (99, 99)
        assert shown.span(Fraction("6.1"), Fraction(7))[0] == 100  # after the end


@pytest.mark.parametrize("rate", [10, 25, 30, 100, Fraction(30000, 1001)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_seconds_of_a_constant_rate_are_exact(rate: Fraction, suffix: str, tmp_path: Path) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    path = encoded(tmp_path / f"a{suffix}", (frame(t % 30) for t in range(60)), codec, rate=rate, bf="0")  # type: ignore[arg-type]

    shown = timing(path)

    assert (shown.frames, shown.times) == (60, ())
    # Each frame is shown from the time t / rate on. 0.57 s x 100 is 56.99... as a float.
    for t in range(60):
        assert shown.span(t / shown.rate, (t + 1) / shown.rate) == (t, t)


def test_a_file_that_ends_early_is_cut_off_whatever_its_timestamps(tmp_path: Path) -> None:
    source = encoded(tmp_path / "a.mp4", footage(100, height=HEIGHT, width=WIDTH), g="10", bf="0")
    for seconds in (0, 1, 3):
        path = copied(source, tmp_path / f"{seconds}.mkv", later(seconds))
        assert len(read_video(path, HEIGHT)) == 100
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

        with pytest.raises(UnreadableFileError, match="is cut off: has "):
            read_video(path, HEIGHT)

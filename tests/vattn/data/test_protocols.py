"""Each protocol gives the frames and crops that the authors' code gives; its formulas are written out here again."""

from fractions import Fraction
from math import ceil, floor
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vattn.data.augment import Region
from vattn.data.config import PROTOCOLS
from vattn.data.layouts.motion import MotionDataConfig
from vattn.data.protocols import Protocol, averages_logits, protocol_crops, protocol_indices
from vattn.data.sampling import Kind, evaluation_indices, surrounding

#: Lengths of videos: one frame, fewer than a clip has places, fewer than TDN's five, around 64, and long ones.
LENGTHS = st.integers(1, 400)
PLACES = st.sampled_from([1, 3, 4, 5, 8, 16, 25, 32])


def indices(protocol: Protocol, kind: Kind, n: int, t: int, clips: int = 1, length: int = 1) -> list[list[int]]:
    return [protocol_indices(protocol, kind, n, t, clip, clips, length).tolist() for clip in range(clips)]


def linspace(last: float, num: int) -> list[int]:
    """Return numpy's ``linspace(0, last, num)`` in plain Python, each rounded towards 0."""
    return [int(last if k == num - 1 > 0 else k * (last / max(num - 1, 1))) for k in range(num)]


@pytest.mark.parametrize("protocol", ["tsn", "tsm", "tanet"])
@pytest.mark.parametrize(
    ("n", "t", "expected"),
    [
        # Segments of 30 / 8 = 3.75: 1.875, 5.625, 9.375, ...
        (30, 8, [1, 5, 9, 13, 16, 20, 24, 28]),
        # Segments of 2: their second frame, so the last frame of the video is read and the first is not.
        (16, 8, [1, 3, 5, 7, 9, 11, 13, 15]),
        # Segments of 0.625: 0.3125, 0.9375, 1.5625, ...
        (5, 8, [0, 0, 1, 2, 2, 3, 4, 4]),
        (1, 8, [0] * 8),
    ],
)
def test_a_single_clip_has_the_centre_of_each_segment(protocol: Protocol, n: int, t: int, expected: list[int]) -> None:
    assert indices(protocol, "segments", n, t) == [expected]


def test_our_own_centres_are_symmetric_in_time_and_the_published_ones_are_not() -> None:
    assert evaluation_indices("segments", 16, 8).tolist() == [1, 3, 5, 7, 8, 10, 12, 14]


def test_the_second_clip_of_tsm_has_the_start_of_each_segment() -> None:
    assert indices("tsm", "segments", 30, 8, clips=2)[1] == [0, 3, 7, 11, 15, 18, 22, 26]


def test_the_two_clips_of_tanet_start_at_both_ends_of_the_first_segment() -> None:
    # Segments of 3.75: the second start is int(3.75 - 1) = 2; then 2 + 3.75, 2 + 7.5, ...
    assert indices("tanet", "segments", 30, 8, clips=2) == [
        [0, 3, 7, 11, 15, 18, 22, 26],
        [2, 5, 9, 13, 17, 20, 24, 28],
    ]


@given(n=LENGTHS, t=PLACES, length=st.integers(1, 6))
def test_segments_are_those_of_the_formula(n: int, t: int, length: int) -> None:
    tick = (n - length + 1) / float(t)
    centres = [max(int(tick / 2.0 + tick * x), 0) for x in range(t)]
    starts = [max(int(tick * x), 0) for x in range(t)]

    assert indices("tsn", "segments", n, t, length=length) == [centres]
    assert indices("tanet", "segments", n, t, length=length) == [centres]
    assert indices("tsm", "segments", n, t, clips=2, length=length) == [centres, starts]


@given(n=LENGTHS, t=PLACES, clips=st.integers(2, 10))
def test_the_clips_of_tanet_start_at_equal_distances_within_the_first_segment(n: int, t: int, clips: int) -> None:
    tick = n / float(t)

    expected = [[int(start + tick * x) % n for x in range(t)] for start in linspace(tick - 1, clips)]

    assert indices("tanet", "segments", n, t, clips) == expected


@given(n=LENGTHS, t=st.sampled_from([1, 4, 5, 8, 16, 32, 64]), clips=st.integers(2, 10))
def test_dense_clips_start_at_equal_distances_and_continue_from_the_first_frame(n: int, t: int, clips: int) -> None:
    step = 64 // t
    spans: dict[Protocol, int] = {"tsm": 64, "tanet": step * t}
    for protocol, span in spans.items():
        starts = linspace(max(1, 1 + n - span) - 1, clips)

        assert indices(protocol, "dense", n, t, clips) == [[(x * step + s) % n for x in range(t)] for s in starts]
    middle = max(1, 1 + n - step * t) // 2
    assert indices("tanet", "dense", n, t) == [[(x * step + middle) % n for x in range(t)]]


def test_ten_dense_clips_of_five_frames_use_the_span_of_each_code() -> None:
    # 64 // 5 = 12: TSM leaves 300 - 64 = 236 places for the first frame, TANet 300 - 60 = 240.
    assert indices("tsm", "dense", 300, 5, 10)[9] == [236, 248, 260, 272, 284]
    assert indices("tanet", "dense", 300, 5, 10)[9] == [240, 252, 264, 276, 288]


def read(offsets: list[int], length: int, n: int) -> list[int]:
    """Return the frames that are read: ``length`` from each offset on, and the last one again at the end."""
    frames = []
    for p in offsets:
        for _ in range(length):
            frames.append(p)
            p = min(p + 1, n - 1)
    return frames


@given(n=LENGTHS, t=PLACES)
def test_tdn_reads_five_frames_of_segments_over_all_but_four_frames(n: int, t: int) -> None:
    if n > t + 4:
        tick = (n - 4) / float(t)
        offsets = [int(tick / 2.0 + tick * x) for x in range(t)]
    else:
        offsets = [0] * t

    (found,) = indices("tdn", "segments", n, t, length=5)

    assert found == offsets
    # The library reads five frames around a middle one.
    assert surrounding(np.array(found) + 2, 5, n).tolist() == read(offsets, 5, n)


def test_tdn_by_hand() -> None:
    # Segments of (20 - 4) / 8 = 2.
    assert indices("tdn", "segments", 20, 8, length=5) == [[1, 3, 5, 7, 9, 11, 13, 15]]
    # 12 frames are 8 + 4: too short. Three frames: each place has 0, 1, 2, 2, 2.
    assert indices("tdn", "segments", 12, 8, length=5) == [[0] * 8]
    assert surrounding(np.array([2]), 5, 3).tolist() == [0, 1, 2, 2, 2]
    assert surrounding(np.array([2]), 5, 1).tolist() == [0] * 5


@given(n=LENGTHS, t=PLACES)
def test_several_clips_of_tdn_are_random_but_repeatable(n: int, t: int) -> None:
    first, again = (indices("tdn", "segments", n, t, 10, length=5) for _ in range(2))

    assert first == again
    duration = max(n - 4, 0) // t
    for offsets in first:
        if duration:
            assert [offset // duration for offset in offsets] == list(range(t))
        else:
            assert offsets == sorted(offsets)
            assert 0 <= offsets[0] <= offsets[-1] < max(n - 4, 1)
    if duration >= 10:
        assert len({tuple(offsets) for offsets in first}) > 1


def test_ten_clips_of_slowfast_by_hand() -> None:
    clips = indices("slowfast", "dense", 300, 8, 10)

    # 300 - 64 = 236 free places: starts 0, 23.6, ... 212.4, so the last 23 frames are never read; steps of 63 / 7 = 9.
    assert [clip[0] for clip in clips] == [0, 23, 47, 70, 94, 118, 141, 165, 188, 212]
    assert clips[3] == [70, 79, 88, 97, 106, 115, 124, 133]
    # 32 frames over 64: steps of 63 / 31 = 2.03.
    assert indices("slowfast", "dense", 64, 32)[0] == [63 * i // 31 for i in range(32)]
    # A short video ends with its last frame again and again.
    assert indices("slowfast", "dense", 40, 8, 2) == [[0, 9, 18, 27, 36, 39, 39, 39]] * 2
    assert indices("slowfast", "window", 10, 4, 2) == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert indices("slowfast", "window", 1, 4) == [[0] * 4]


@given(
    kind=st.sampled_from(["dense", "window"]), n=LENGTHS, t=st.sampled_from([1, 4, 8, 16, 32]), clips=st.integers(1, 10)
)
def test_clips_of_slowfast_are_those_of_the_formula(kind: Kind, n: int, t: int, clips: int) -> None:
    size = 64 // t * t if kind == "dense" else t
    for clip, found in enumerate(indices("slowfast", kind, n, t, clips)):
        start = Fraction(max(n - size, 0) * clip, clips)
        points = [start + Fraction((size - 1) * i, max(t - 1, 1)) for i in range(t)]
        for frame, point in zip(found, points, strict=True):
            # float32 decides on which side of an integer a point lies that is as close to it as its rounding error.
            error = Fraction(1, 10_000)
            lowest, highest = (min(floor(point + e), n - 1) for e in (-error if point else 0, error))
            assert lowest <= frame <= highest


def test_segments_of_slowfast_are_those_of_its_code_for_something_something() -> None:
    # (17 - 1) / 8 = 2 frames: the middle of 0 and 2, 2 and 4, ...
    assert indices("slowfast", "segments", 17, 8) == [[1, 3, 5, 7, 9, 11, 13, 15]]
    # (31 - 1) / 8 = 3.75: edges 0, 4, 8, 11, 15, 19, 22, 26, 30 (7.5 to 8, 22.5 to 22: to even numbers).
    assert indices("slowfast", "segments", 31, 8) == [[2, 6, 9, 13, 17, 20, 24, 28]]
    assert indices("slowfast", "segments", 1, 8) == [[0] * 8]


@given(protocol=st.sampled_from(get_args(Protocol)), n=LENGTHS, t=st.integers(1, 64), data=st.data())
def test_all_protocols_read_frames_of_the_video(protocol: Protocol, n: int, t: int, data: st.DataObject) -> None:
    kinds = PROTOCOLS[protocol]
    kind = data.draw(st.sampled_from([kind for kind in get_args(Kind) if kind in kinds]))
    clips = data.draw(st.integers(1, min(kinds[kind], 10)))

    for clip in indices(protocol, kind, n, t, clips):
        assert len(clip) == t
        assert 0 <= min(clip) <= max(clip) < n


@pytest.mark.parametrize("protocol", ["tsn", "tsm", "tanet", "tdn"])
def test_the_crops_of_tsns_followers(protocol: Protocol) -> None:
    # 342 - 256 = 86 free pixels: quarters of 21, so the right crop ends 2 pixels before the edge.
    assert protocol_crops(protocol, 256, 342, 256, 3) == [
        Region(0, 0, 256, 256), Region(0, 84, 256, 256), Region(0, 42, 256, 256),
    ]  # fmt: skip
    # 224 of 256 x 340: quarters of 29 across and 8 down.
    assert protocol_crops(protocol, 256, 340, 224, 3) == [
        Region(16, 0, 224, 224), Region(16, 116, 224, 224), Region(16, 58, 224, 224),
    ]  # fmt: skip
    # The crops of an upright video are three times the same.
    assert protocol_crops(protocol, 340, 256, 256, 3) == [Region(42, 0, 256, 256)] * 3
    # Half a pixel goes to the even place: (255 - 224) / 2 = 15.5 and (253 - 224) / 2 = 14.5.
    assert protocol_crops(protocol, 255, 253, 224, 1) == [Region(16, 14, 224, 224)]


def test_the_crops_of_slowfast() -> None:
    assert protocol_crops("slowfast", 256, 342, 256, 3) == [
        Region(0, 0, 256, 256), Region(0, 43, 256, 256), Region(0, 86, 256, 256),
    ]  # fmt: skip
    assert protocol_crops("slowfast", 341, 256, 256, 3) == [
        Region(0, 0, 256, 256), Region(43, 0, 256, 256), Region(85, 0, 256, 256),
    ]  # fmt: skip
    assert protocol_crops("slowfast", 255, 253, 224, 1) == [Region(ceil(31 / 2), ceil(29 / 2), 224, 224)]


def test_scores_are_averaged_as_in_the_code_of_each_protocol() -> None:
    names = ("auto", *get_args(Protocol))

    assert {name for name in names if averages_logits(name)} == {"tsn", "tsm", "tanet", "tdn"}


def test_a_protocol_that_does_not_define_the_views_is_refused() -> None:
    def views(protocol: str, kind: str, clips: int) -> MotionDataConfig:
        return MotionDataConfig.parse({"sampling": {"kind": kind, "protocol": protocol}, "views": {"clips": clips}})

    assert views("tsm", "segments", 2).views.clips == 2
    with pytest.raises(ValueError, match=r"views\.clips: protocol tsm has at most 2 of sampling\.kind segments"):
        views("tsm", "segments", 10)
    with pytest.raises(ValueError, match=r"sampling\.protocol: tdn has rules for sampling\.kind segments; take it"):
        views("tdn", "dense", 10)

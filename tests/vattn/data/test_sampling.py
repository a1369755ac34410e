from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vattn.data.sampling import (
    Kind,
    centre_indices,
    evaluation_indices,
    random_indices,
    reordered,
    surrounding,
    training_indices,
)


class Constant(np.random.Generator):
    """A generator that returns ``u`` for every uniform number in [0, 1)."""

    def __init__(self, u: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.u = u

    def random(self, *args: Any, **options: Any) -> Any:
        return np.full(args[0], self.u) if args else self.u

    def integers(self, high: Any, *args: Any, endpoint: bool = False, **options: Any) -> Any:
        return int(self.u * (high + endpoint))


@pytest.mark.parametrize(
    ("num_frames", "frames", "expected"),
    [
        # Segments of 3 frames; the centre of each is a frame: 1, 1 + 3, ...
        (24, 8, [1, 4, 7, 10, 13, 16, 19, 22]),
        # Segments of 6: centres lie between 2 and 3, 8 and 9, 14 and 15, 20 and 21; the halves mirror each other.
        (24, 4, [3, 9, 14, 20]),
        # Segments of 10 / 3: [0, 3.33), [3.33, 6.67), [6.67, 10); centres 1.67, 5 (between 4 and 5), 8.33.
        (10, 3, [1, 4, 8]),
        (9, 3, [1, 4, 7]),
        (5, 1, [2]),
        # Fewer frames than segments: each is repeated evenly.
        (2, 4, [0, 0, 1, 1]),
        (1, 3, [0, 0, 0]),
    ],
)
def test_evaluation_uses_the_centre_of_each_segment(num_frames: int, frames: int, expected: list[int]) -> None:
    assert centre_indices(num_frames, frames).tolist() == expected


@given(num_frames=st.integers(1, 400), frames=st.integers(1, 70))
def test_evaluation_uses_the_same_frames_of_a_clip_and_its_reverse(num_frames: int, frames: int) -> None:
    early, late = centre_indices(num_frames, frames), centre_indices(num_frames, frames, late=True)

    # Reversed in time, `early` is `late`; they differ in one segment, for which no choice is symmetric.
    np.testing.assert_array_equal(early, num_frames - 1 - late[::-1])
    middle = [frames // 2] if frames % 2 == 1 and num_frames % 2 == 0 else []
    assert np.flatnonzero(early != late).tolist() == middle
    assert early.min() >= 0
    assert (np.diff(early) >= 0).all()


def test_the_middle_of_an_odd_number_of_segments_can_be_early_or_late() -> None:
    assert centre_indices(10, 3).tolist() == [1, 4, 8]
    assert centre_indices(10, 3, late=True).tolist() == [1, 5, 8]


@pytest.mark.parametrize(
    ("num_frames", "frames", "u", "expected"),
    [
        (24, 8, 0.0, [0, 3, 6, 9, 12, 15, 18, 21]),
        (24, 8, 0.99, [2, 5, 8, 11, 14, 17, 20, 23]),
        # Segments of 1.5 frames reach the end; TSN's rule would stop at frame 15.
        (24, 16, 0.99, [1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23]),
        # A short video is stretched.
        (3, 6, 0.0, [0, 0, 1, 1, 2, 2]),
        (1, 4, 0.99, [0, 0, 0, 0]),
    ],
)
def test_training_samples_one_frame_of_each_segment(
    num_frames: int, frames: int, u: float, expected: list[int]
) -> None:
    assert random_indices(num_frames, frames, Constant(u)).tolist() == expected


@given(frames=st.integers(1, 16), length=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_each_sampled_frame_lies_in_its_segment(frames: int, length: int, seed: int) -> None:
    drawn = random_indices(frames * length, frames, np.random.default_rng(seed))

    assert (drawn // length).tolist() == list(range(frames))


def test_training_samples_every_frame_equally_often() -> None:
    rng = np.random.default_rng(0)

    counts = np.bincount(np.concatenate([random_indices(10, 4, rng) for _ in range(5000)]), minlength=10)

    # Each of the 10 frames is 4 / 10 of a segment: 2000 of 20000 samples, with a standard deviation below 45.
    assert np.abs(counts - 2000).max() < 5 * 45


def test_neighbours_surround_each_frame_and_frames_repeat_at_the_ends() -> None:
    assert surrounding(np.array([1, 6]), 5, 8).tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 7]
    assert surrounding(np.array([1, 6]), 1, 8).tolist() == [1, 6]


@pytest.mark.parametrize(
    ("kind", "num_frames", "frames", "u", "expected"),
    [
        # Steps of 24 / 8 = 3, from a start within the first step.
        ("uniform", 24, 8, 0.0, [0, 3, 6, 9, 12, 15, 18, 21]),
        ("uniform", 24, 8, 0.99, [2, 5, 8, 11, 14, 17, 20, 23]),
        # A window of 64 of 80 frames, of which every 64 / 8 = 8th; it starts at 0 to 80 - 64 = 16.
        ("dense", 80, 8, 0.0, [0, 8, 16, 24, 32, 40, 48, 56]),
        ("dense", 80, 8, 0.99, [16, 24, 32, 40, 48, 56, 64, 72]),
        # Every 64 // 5 = 12th.
        ("dense", 64, 5, 0.99, [0, 12, 24, 36, 48]),
        # Shorter than 64: continued from the first frame: 0, 8, 16, 24, 32 - 30, ...
        ("dense", 30, 8, 0.99, [0, 8, 16, 24, 2, 10, 18, 26]),
        ("dense", 1, 4, 0.5, [0, 0, 0, 0]),
        # Successive frames, from a start at 0 to 20 - 16 = 4.
        ("window", 20, 16, 0.0, list(range(16))),
        ("window", 20, 16, 0.99, list(range(4, 20))),
        ("window", 5, 16, 0.99, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]),
    ],
)
def test_training_samples_frames_by_the_rule_of_its_kind(
    kind: Kind, num_frames: int, frames: int, u: float, expected: list[int]
) -> None:
    assert training_indices(kind, num_frames, frames, Constant(u)).tolist() == expected


@pytest.mark.parametrize(
    ("kind", "num_frames", "frames", "clips", "expected"),
    [
        ("segments", 24, 4, 1, [[3, 9, 14, 20]]),
        # Segments of 6; as in TSM, two clips have the first and the middle frames of them.
        ("segments", 24, 4, 2, [[0, 6, 12, 18], [3, 9, 15, 21]]),
        # Segments of 10 / 4 = 2.5: 0, 2.5, 5, 7.5 and 1.25, 3.75, 6.25, 8.75.
        ("uniform", 10, 4, 2, [[0, 2, 5, 7], [1, 3, 6, 8]]),
        ("uniform", 24, 4, 1, [[3, 9, 14, 20]]),
        # Starts from 0 to 81 - 64 = 17; one clip starts at 17 // 2 = 8.
        ("dense", 81, 4, 1, [[8, 24, 40, 56]]),
        ("dense", 81, 4, 3, [[0, 16, 32, 48], [8, 24, 40, 56], [17, 33, 49, 65]]),
        ("dense", 40, 4, 2, [[0, 16, 32, 8], [0, 16, 32, 8]]),
        # Starts from 0 to 10 - 4 = 6.
        ("window", 10, 4, 1, [[3, 4, 5, 6]]),
        ("window", 10, 4, 4, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]),
        ("window", 3, 4, 1, [[0, 1, 2, 0]]),
    ],
)
def test_evaluation_clips_are_evenly_spaced_over_a_video(
    kind: Kind, num_frames: int, frames: int, clips: int, expected: list[list[int]]
) -> None:
    indices = [evaluation_indices(kind, num_frames, frames, clip, clips).tolist() for clip in range(clips)]

    assert indices == expected


def test_ten_dense_clips_start_as_in_tsm() -> None:
    starts = [int(evaluation_indices("dense", 300, 8, clip, 10)[0]) for clip in range(10)]

    # The last start is 300 - 64 = 236: 9 steps of 26.22, rounded down.
    assert starts == [0, 26, 52, 78, 104, 131, 157, 183, 209, 236]


@given(
    kind=st.sampled_from(["segments", "dense", "uniform", "window"]),
    num_frames=st.integers(1, 200),
    frames=st.integers(1, 70),
    seed=st.integers(0, 2**32),
    clips=st.integers(1, 10),
)
def test_all_rules_choose_frames_within_the_video(
    kind: Kind, num_frames: int, frames: int, seed: int, clips: int
) -> None:
    drawn = [training_indices(kind, num_frames, frames, np.random.default_rng(seed))]
    drawn += [evaluation_indices(kind, num_frames, frames, clip, clips) for clip in range(clips)]

    for indices in drawn:
        assert indices.shape == (frames,)
        assert 0 <= indices.min() <= indices.max() < num_frames


@pytest.mark.parametrize(("kind", "span"), [("dense", 64), ("window", 8)])
def test_windows_start_at_every_frame_equally_often(kind: Kind, span: int) -> None:
    rng = np.random.default_rng(0)

    starts = np.bincount([training_indices(kind, span + 9, 8, rng)[0] for _ in range(5000)], minlength=10)

    # Ten starts: 500 of 5000 samples each, with a standard deviation of 21.
    assert len(starts) == 10
    assert np.abs(starts - 500).max() < 5 * 21.2


def test_a_uniform_clip_has_equal_steps_and_a_random_start() -> None:
    rng = np.random.default_rng(0)

    drawn = np.stack([training_indices("uniform", 40, 8, rng) for _ in range(500)])

    assert (np.diff(drawn) == 5).all()
    assert set(drawn[:, 0]) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("read", [[3, 7, 11, 15], [2, 3, 4, 8, 9, 10], [0, 1, 1, 2, 2, 3], [5]])
def test_shuffled_frames_are_the_same_frames_at_other_places(read: list[int]) -> None:
    order = reordered(np.array(read), "shuffled", 3)

    assert sorted(set(order.tolist())) == sorted(set(read))
    # A frame that is read twice is the same frame at both places.
    assert len(set(zip(read, order.tolist(), strict=True))) == len(set(read))
    assert order.tolist() == reordered(np.array(read), "shuffled", 3).tolist()


def test_frozen_frames_are_all_the_middle_one() -> None:
    assert reordered(np.array([3, 7, 11, 15]), "frozen", 0).tolist() == [11] * 4
    assert reordered(np.array([3, 7, 11]), "normal", 0).tolist() == [3, 7, 11]


def test_a_shuffle_differs_from_clip_to_clip() -> None:
    orders = {tuple(reordered(np.arange(8), "shuffled", clip).tolist()) for clip in range(20)}

    assert len(orders) == 20

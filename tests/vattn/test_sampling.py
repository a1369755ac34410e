from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vattn.data.sampling import centre_indices, random_indices, surrounding


class Draws(np.random.Generator):
    """A generator whose uniform numbers are all ``u``."""

    def __init__(self, u: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.u = u

    def random(self, *args: Any, **options: Any) -> Any:
        return np.full(args[0], self.u)


@pytest.mark.parametrize(
    ("num_frames", "frames", "expected"),
    [
        # Segments of 3 frames, whose centres are frames of their own: 1, 1 + 3, ...
        (24, 8, [1, 4, 7, 10, 13, 16, 19, 22]),
        # Segments of 6: centres fall between 2 and 3, 8 and 9, 14 and 15, 20 and 21; the halves mirror each other.
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
def test_evaluation_takes_the_centre_of_each_segment(num_frames: int, frames: int, expected: list[int]) -> None:
    assert centre_indices(num_frames, frames).tolist() == expected


@given(num_frames=st.integers(1, 400), frames=st.integers(1, 70))
def test_evaluation_shows_a_clip_and_its_reverse_the_same_frames(num_frames: int, frames: int) -> None:
    early, late = centre_indices(num_frames, frames), centre_indices(num_frames, frames, late=True)

    # Seen from the other end, `early` is `late`; they differ at one place, where no choice would be symmetric.
    np.testing.assert_array_equal(early, num_frames - 1 - late[::-1])
    middle = [frames // 2] if frames % 2 == 1 and num_frames % 2 == 0 else []
    assert np.flatnonzero(early != late).tolist() == middle
    assert early.min() >= 0
    assert (np.diff(early) >= 0).all()


def test_the_middle_of_an_odd_number_of_segments_goes_either_way() -> None:
    assert centre_indices(10, 3).tolist() == [1, 4, 8]
    assert centre_indices(10, 3, late=True).tolist() == [1, 5, 8]


@pytest.mark.parametrize(
    ("num_frames", "frames", "u", "expected"),
    [
        (24, 8, 0.0, [0, 3, 6, 9, 12, 15, 18, 21]),
        (24, 8, 0.99, [2, 5, 8, 11, 14, 17, 20, 23]),
        # Segments of 1.5 frames reach the end: TSN's own rule would stop at frame 15.
        (24, 16, 0.99, [1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23]),
        # A short clip is stretched.
        (3, 6, 0.0, [0, 0, 1, 1, 2, 2]),
        (1, 4, 0.99, [0, 0, 0, 0]),
    ],
)
def test_training_takes_one_frame_of_each_segment(num_frames: int, frames: int, u: float, expected: list[int]) -> None:
    assert random_indices(num_frames, frames, Draws(u)).tolist() == expected


@given(frames=st.integers(1, 16), length=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_training_never_leaves_a_segment(frames: int, length: int, seed: int) -> None:
    drawn = random_indices(frames * length, frames, np.random.default_rng(seed))

    assert (drawn // length).tolist() == list(range(frames))


def test_training_comes_to_see_every_frame_equally_often() -> None:
    rng = np.random.default_rng(0)

    seen = np.bincount(np.concatenate([random_indices(10, 4, rng) for _ in range(5000)]), minlength=10)

    # Each of the 10 frames has 4 / 10 of a segment: 2000 of 20000 draws, with a standard deviation below 45.
    assert np.abs(seen - 2000).max() < 5 * 45


def test_neighbours_stand_around_each_frame_and_repeat_at_the_ends() -> None:
    assert surrounding(np.array([1, 6]), 5, 8).tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 7]
    assert surrounding(np.array([1, 6]), 1, 8).tolist() == [1, 6]

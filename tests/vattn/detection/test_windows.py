import numpy as np
import pytest

from vattn.detection.windows import (
    Buffer,
    BufferRule,
    buffers,
    seconds_of,
    training_buffers,
    window_counts,
    window_prior,
    windows,
)


def test_buffers_are_cut_from_both_ends() -> None:
    assert buffers(1000, 768, 192) == [Buffer(0, 768), Buffer(192, 960), Buffer(232, 1000), Buffer(40, 808)]
    assert buffers(1000, 768, 192, backward=False) == [Buffer(0, 768), Buffer(192, 960)]
    assert buffers(500, 768, 192) == [Buffer(0, 500)]


def test_the_authors_first_code_cuts_512_frames_without_mirrors() -> None:
    rows = [np.array([[10.0, 60.0, 1], [500.0, 560.0, 2]])]

    cut = list(training_buffers([700], rows, 512, 128, BufferRule(1.0, 0), mirror=False, backward=False))

    # The first buffer has the first instance only, and the second one the second.
    assert [(each.buffer, each.instances.tolist()) for each in cut] == [
        (Buffer(0, 512), [[10, 60, 1]]), (Buffer(128, 640), [[372, 432, 2]]),
    ]  # fmt: skip


def test_a_limit_is_too_small_only_for_buffers_from_the_end() -> None:
    # 7 of 10 frames are inside of each: just enough from the front, and not from the end.
    rows = [np.array([[93.0, 103.0, 1]])]

    cut = list(training_buffers([200], rows, 100, 200, BufferRule(), mirror=False))

    assert [each.buffer for each in cut] == [Buffer(0, 100)]


def test_windows_overlap_by_three_quarters_and_are_never_partial() -> None:
    cut = windows(24, (16, 32))

    assert cut.rows.tolist() == [[16, 1, 16], [16, 5, 20], [16, 9, 24]]
    assert cut.frames(8)[1].tolist() == [5, 7, 9, 11, 13, 15, 17, 19]
    assert cut.times(25.0)[0].tolist() == [0.04, 0.64]


def test_the_prior_counts_lengths_within_a_factor_of_two() -> None:
    # 1 s is within a factor of 2 of 0.6 s and of 1.24 s.
    counts = window_counts(np.array([1.0, 1.0]), np.array([0, 1]), 3)

    assert counts.tolist() == [[1, 1, 0], [1, 1, 0], *[[0, 0, 0]] * 4]
    assert window_prior(counts)[:2].tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0]]


@pytest.mark.parametrize(("fps", "last"), [(25.0, 22.44), (30.0, 511 / 30)])
def test_the_slip_of_the_authors_is_in_their_lengths_only(fps: float, last: float) -> None:
    assert seconds_of((16, 32, 64, 128, 256, 512), fps)[-1] == pytest.approx(last)

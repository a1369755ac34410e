"""Paired comparisons, against counts and formulas by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.analysis.intervals import by_clips
from search.report.clips import tested
from search.report.clips.paired import compared, holm, paired

CLASSES = ("push", "pull", "turn")


def result(right: list[int], predicted: list[int], name: str = "a", **changes: object) -> tested.Tested:
    scores = np.array([[float(label == k) for label in range(len(CLASSES))] for k in predicted])
    values = {
        "paths": [f"{n}.mp4" for n in range(len(right))], "labels": np.array(right), "scores": scores,
        "classes": CLASSES, "lengths": np.arange(len(right), dtype=float),
    }  # fmt: skip
    return tested.Tested(name=name, **(values | changes))  # pyright: ignore[reportArgumentType]


def test_only_clips_that_one_model_got_right_count() -> None:
    a = np.array([True] * 4 + [True] + [False] * 7 + [False] * 3)
    b = np.array([True] * 4 + [False] + [True] * 7 + [False] * 3)

    pair = paired(a, b)

    # 7 gained, 1 lost: twice the probability of 0 or 1 heads in 8 throws, 2 (1 + 8) / 256.
    assert (pair.gained, pair.lost, pair.clips) == (7, 1, 15)
    assert pair.p == pytest.approx(18 / 256)
    assert pair.gain.value == pytest.approx(6 / 15)
    # Newcombe's method 10: e = 4, f = 1, g = 7, h = 3; e h - f g = 5 is less than n / 2, so that phi is 0.
    first, second = by_clips("top1", 5 / 15, 15), by_clips("top1", 11 / 15, 15)
    assert pair.gain.low == pytest.approx(0.4 - math.hypot(11 / 15 - second.low, first.high - 5 / 15))
    assert pair.gain.high == pytest.approx(0.4 + math.hypot(second.high - 11 / 15, 5 / 15 - first.low))


def test_models_that_fail_on_the_same_clips_have_a_narrower_interval() -> None:
    right = np.array([True] * 30 + [False] * 10)
    better = np.array([True] * 34 + [False] * 6)
    shuffled = np.roll(better, 17)

    same, other = paired(right, better), paired(right, shuffled)

    assert same.gain.value == other.gain.value
    assert same.gain.high - same.gain.low < other.gain.high - other.gain.low


def test_equal_models_do_not_differ() -> None:
    right = np.array([True, False, True])

    pair = paired(right, right)

    assert (pair.p, pair.gained, pair.lost, pair.gain.value) == (1.0, 0, 0, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_comparison_turned_round_has_the_other_sign(rights: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(column) for column in zip(*rights, strict=True))

    there, back = paired(a, b), paired(b, a)

    assert there.p == back.p
    assert there.gain.low == pytest.approx(-back.gain.high, abs=1e-12)
    assert there.gain.low <= there.gain.value <= there.gain.high


def test_p_values_of_several_classes_are_adjusted() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2 (not below the one before), 0.9.
    assert holm([0.02, 0.9, 0.01, 0.03]) == pytest.approx([0.06, 0.9, 0.04, 0.06])


def test_classes_and_lengths_are_compared_on_the_same_clips() -> None:
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    a = result(labels, [0, 1, 1, 1, 1, 1, 2, 2, 0, 0])
    b = result(labels, [0, 0, 0, 1, 1, 0, 2, 2, 2, 0], "b")

    comparison = compared(a, b)

    assert [(each.name, each.pair.gained, each.pair.lost) for each in comparison.classes] == [
        ("push", 2, 0), ("turn", 1, 0), ("pull", 0, 1),
    ]  # fmt: skip
    # Of 3, 1 and 1 differing clips: p 0.5, 1 and 1.
    assert [each.adjusted for each in comparison.classes] == [1.0, 1.0, 1.0]
    assert [(low, high, pair.clips) for low, high, pair in comparison.lengths] == [
        (0, 1, 2), (2, 3, 2), (4, 5, 2), (6, 7, 2), (8, 9, 2),
    ]  # fmt: skip
    assert comparison.whole.gain.value == pytest.approx(0.2)


def test_clips_are_matched_by_name_and_classes_by_theirs() -> None:
    a = result([0, 1, 2], [0, 1, 0])
    order = [2, 0, 1]  # the other test has other numbers for the same classes
    b = result(
        [order.index(label) for label in (2, 0, 1)], [order.index(2), order.index(0), order.index(0)], "flow",
        paths=["2", "0", "1"], classes=tuple(CLASSES[n] for n in order),
    )  # fmt: skip

    comparison = compared(a, b)

    assert comparison.b.paths == ["0", "1", "2"]
    assert comparison.b.right.tolist() == [True, False, True]


def test_several_clips_of_one_file_are_different_clips() -> None:
    spans = np.array([[0, 9], [10, 19]])
    a = result([0, 0], [0, 1], paths=["a.mp4", "a.mp4"], spans=spans)
    b = result([0, 0], [1, 0], "b", paths=["a.mp4", "a.mp4"], spans=spans[::-1])

    assert compared(a, b).b.right.tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paths": ["x", "y", "z"]}, "a and b have no clip in common"),
        ({"classes": ("push", "pull", "other")}, "a and b have other classes"),
        ({"labels": np.array([0, 1, 1])}, r"a and b give a clip other classes \(2.mp4\)"),
    ],
)
def test_tests_that_cannot_be_compared_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compared(result([0, 1, 2], [0, 1, 2]), result([0, 1, 2], [0, 1, 2], "b", **changes))

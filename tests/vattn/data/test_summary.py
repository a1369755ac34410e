"""The summary of classes and splits."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from tests.vattn.data.layouts.support import config, write
from vattn.data.config import DataConfig
from vattn.data.summary import LEAST_DIFFERENCE, Summary, summarize
from vattn.errors import UserError


def manifest(*clips: tuple[int, str, int]) -> pa.Table:
    """Return a manifest with (label, split, number of clips)."""
    rows = [(f"{label}{split}{i}.mp4", label, split) for label, split, count in clips for i in range(count)]
    paths, labels, splits = zip(*rows, strict=True) if rows else ((), (), ())
    strings, numbers = pa.string(), pa.int32()
    return pa.table(
        {"path": pa.array(paths, strings), "label": pa.array(labels, numbers), "split": pa.array(splits, strings)}
    )


class Named(DataConfig):
    kind: str = "named"
    names: tuple[str, ...]

    def labels(self) -> tuple[str, ...]:
        return self.names


def summary(names: tuple[str, ...], *clips: tuple[int, str, int], flip: bool = False) -> Summary:
    return summarize(Named(names=names), manifest(*clips), flip)


BALANCED = tuple((label, split, 60) for label in (0, 1) for split in ("train", "val"))


def test_a_balanced_set_has_counts_and_no_warnings() -> None:
    result = summary(("jump", "run"), *BALANCED, (1, "test", 3))

    assert result.totals == {"train": 120, "val": 120, "test": 3}
    assert (result.problems, result.warnings, result.flips) == ((), (), None)
    # 100 points of 120 clips; half of the clips are of each class.
    assert (result.points_per_clip, result.constant_guess) == (100 / 120, 0.5)
    assert result.tree()["clips_by_class"] == {
        "jump": {"train": 60, "val": 60, "test": 0}, "run": {"train": 60, "val": 60, "test": 3},
    }  # fmt: skip
    result.refuse()


@pytest.mark.parametrize(
    "names",
    [
        ("walk", "Walk"), ("walk", "walk "), ("walk dog", "walk  dog"), ("caf\u00e9", "cafe\u0301"),
        ("stra\u00dfe", "STRASSE"), ("walk", "\uff57alk"), ("walk", "wa\u200blk"), ("a b", "a\u00a0b"),
    ],
)  # fmt: skip
def test_names_that_look_the_same_are_refused(names: tuple[str, str]) -> None:
    result = summary(names, *BALANCED)

    with pytest.raises(UserError, match="classes differ only in capitals, blanks or the form of their characters"):
        result.refuse()
    assert repr(names[0]) in result.problems[0]


@pytest.mark.parametrize("names", [("walk", "walks"), ("e", "\u00e9"), ("\u0915\u093f", "\u0915\u0940"), ("1", "11")])
def test_names_that_differ_visibly_are_accepted(names: tuple[str, str]) -> None:
    assert summary(names, *BALANCED).problems == ()


@pytest.mark.parametrize(
    ("clips", "problem"),
    [
        (((0, "val", 200),), "has no training clips"),
        (((0, "test", 200),), "has no training clips"),
        (((0, "train", 200),), "has no validation clips, and none can be held out"),
        ((), "has no training clips"),
    ],
)
def test_a_set_without_clips_to_train_on_or_to_validate_with_is_refused(
    clips: tuple[tuple[int, str, int], ...], problem: str
) -> None:
    with pytest.raises(UserError, match=rf"^data\.root: {problem}"):
        summary(("jump", "run"), *clips).refuse()


@pytest.mark.parametrize(
    ("names", "clips", "warning"),
    [
        (("a", "b"), ((0, "train", 9), (0, "val", 200)), "1 of 2 classes has no clips at all; add clips, or"),
        (("a", "b"), ((0, "train", 9), (0, "val", 99), (1, "val", 99)), "1 of 2 classes has no training clips"),
        (("a", "b"), ((0, "train", 9), (1, "train", 9), (0, "val", 200)), "1 of 2 classes has no validation clips"),
        (("0", "1"), ((1, "train", 9), (1, "val", 200)), "no clip has the label 0, .* subtract 1 from each"),
        (
            ("0", "1", "2", "3"), ((0, "train", 9), (3, "train", 9), (0, "val", 99), (3, "val", 99)),
            r"2 of 4 classes have no clips at all; number the classes without gaps \('1', '2'\)",
        ),
        (("a",), ((0, "train", 9), (0, "val", 200)), "there is only one class"),
    ],
)  # fmt: skip
def test_classes_without_clips_are_named(
    names: tuple[str, ...], clips: tuple[tuple[int, str, int], ...], warning: str
) -> None:
    (text,) = summary(names, *clips).warnings

    assert re.match(warning, text)


def test_few_validation_clips_give_the_smallest_difference_that_means_anything() -> None:
    def warning(count: int) -> str:
        texts = summary(("a", "b"), (0, "train", 9), (1, "train", 9), (0, "val", count), (1, "val", count)).warnings
        return texts[0] if texts else ""

    # All clips on which two models differ favour one of them: a two-sided sign test is below 5 % from 6 clips on.
    assert 2 * 0.5**LEAST_DIFFERENCE <= 0.05 < 2 * 0.5 ** (LEAST_DIFFERENCE - 1)
    assert warning(50) == ""
    # 40 clips: 1 is 2.5 points, 6 are 15.
    assert "only 40 validation clips: one is 2.5 points of accuracy" in warning(20)
    assert "two models that differ by less than 6 clips (15 points) may be equal" in warning(20)
    assert "no difference between two models is significant" in warning(2)


def test_flips_are_told_by_name() -> None:
    result = summary(("left", "right", "kick left", "clap"), *BALANCED, flip=True)

    assert result.flips is not None
    assert (result.flips.pairs, result.flips.never) == ((("left", "right"),), ("kick left",))


def test_a_list_without_names_is_told_that_no_class_is_exchanged(tmp_path: Path) -> None:
    clips = {f"{i}.mp4": "" for i in range(4)}
    write(tmp_path, clips | {"train.txt": "0.mp4 0\n1.mp4 1", "val.txt": "2.mp4 0\n3.mp4 1"})
    data = config("list", tmp_path, augment={"flip": True})

    texts = summarize(data, data.manifest(tmp_path), flip=True).warnings

    assert any("classes have numbers instead of names, so that a flip exchanges no classes" in text for text in texts)

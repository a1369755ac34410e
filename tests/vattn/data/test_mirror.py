"""Which classes a flip exchanges."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vattn.data.layouts.support import config, write
from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.data.mirror import mirror_labels, read_pairs
from vattn.errors import UserError


def opposites(*names: str) -> dict[str, str | None]:
    """Return the opposite of each class that is not its own; None for a class that is never flipped."""
    found = {
        name: names[label] if label >= 0 else None for name, label in zip(names, mirror_labels(names), strict=True)
    }
    return {name: opposite for name, opposite in found.items() if opposite != name}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left", "Right"),
        ("Turning left", "turning right"),
        ("from left to right", "from right to left"),
        ("swipe_left_2", "swipe_right_2"),
        ("SwipeLeft", "SwipeRight"),
        ("LeftTurn", "RightTurn"),
        ("LEFTHand", "RIGHTHand"),
        ("swipeleft", "swiperight"),
        ("move leftward", "move rightwards"),
        ("leftmost", "rightmost"),
        ("toward left", "toward right"),
        ("left-handed throw", "right-handed throw"),
        ("clockwise", "counter-clockwise"),
        ("Rolling Clockwise", "rolling anticlockwise"),
        ("TurnClockwise", "TurnCounterClockwise"),
        ("rotateclockwise", "rotateanticlockwise"),
        ("turn CW", "turn CCW"),
        ("HandCW", "HandCCW"),
        ("turn clockwise", "turn ACW"),
        ("bright left", "bright right"),
        ("arm L", "arm R"),
        ("KickL", "KickR"),
        ("wave_lh", "wave_rh"),
        ("Linksabbieger left überholt", "Linksabbieger right überholt"),
    ],
)
def test_opposites_are_exchanged_in_any_spelling(one: str, other: str) -> None:
    assert opposites(one, "clap", other) == {one: other, other: one}


@pytest.mark.parametrize(
    "names",
    [
        ("forward", "backward"), ("zoom in", "zoom out"), ("up", "down"), ("approach", "recede"),
        ("bright", "cleft palate"), ("copyright", "leftover food"), ("0", "1"), ("Run", "run"), ("plan l", "plan b"),
    ],
)  # fmt: skip
def test_other_words_do_not_change(names: tuple[str, ...]) -> None:
    assert opposites(*names) == {}


def test_a_class_without_an_opposite_or_with_two_is_never_flipped() -> None:
    assert opposites("kick left", "clap") == {"kick left": None}
    assert opposites("turn cw", "turn ccw", "turn anticlockwise") == dict.fromkeys(
        ("turn cw", "turn ccw", "turn anticlockwise")
    )
    # The spelling decides where it can.
    assert opposites("go left", "go right", "go-left", "go-right")["go-left"] == "go-right"


@given(
    names=st.lists(
        st.lists(st.sampled_from(["left", "Right", "cw", "CCW", "clockwise", "counter", "x", "leftward"]), max_size=4)
        .map("_".join),
        unique=True, max_size=12,
    )
)  # fmt: skip
def test_exchanges_are_mutual(names: list[str]) -> None:
    mirrored = mirror_labels(names)

    assert all(mirrored[other] == label for label, other in enumerate(mirrored) if other >= 0)


def classes(root: Path, pairs: str) -> list[int]:
    """Return the mirror images of the classes kick A, kick B, clap, wave left, 7 with a file of pairs."""
    names = ["kick A", "kick B", "clap", "wave left", "7"]
    write(root, {"names.txt": "\n".join(names), "pairs.txt": pairs})
    data = config("list", root, names="names.txt", augment={"flip": True, "mirror": "pairs.txt"})
    return list(data.mirrored())


def test_a_file_names_pairs_and_classes_that_do_not_change_or_are_never_flipped(tmp_path: Path) -> None:
    assert classes(tmp_path, "") == [0, 1, 2, -1, 4]
    assert classes(tmp_path, "kick A, kick B\n\nwave left\twave left\n7,none\n") == [1, 0, 2, 3, -1]
    assert classes(tmp_path, '"0",1\n') == [1, 0, 2, -1, 4]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("kick A", r"pairs\.txt:1: must be two classes, separated by a tab or a comma \(got kick A\)"),
        ("clap,kick X", r"pairs\.txt:1: names no class; did you mean kick [AB]\? \(got kick X\)"),
        ("kick A,kick B\nkick B,clap", r"pairs\.txt:2: kick B has another opposite above; name each class once"),
        ("9,1", r"pairs\.txt:1: names no class"),
        pytest.param("9" * 5000 + ",1", r"pairs\.txt:1: names no class", id="5,000 digits"),
        pytest.param("a" * 200_000 + ",1", r"pairs\.txt:1: must be two classes, .* \(field larger", id="200 kB"),
    ],
)
def test_a_wrong_file_of_pairs_is_named_with_the_line(pairs: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.augment\.mirror: " + message):
        classes(tmp_path, pairs)


@given(data=st.binary(max_size=60) | st.text('ab,\t\n\r"0 none', max_size=60).map(str.encode))
def test_a_file_of_pairs_of_any_bytes_gives_pairs_or_is_named(data: bytes, tmp_path_factory: Any) -> None:
    file = tmp_path_factory.mktemp("pairs") / "pairs.txt"
    file.write_bytes(data)
    names = ["a", "b", "ab", "no", "none"]

    pairs: dict[int, int] = {}
    with suppress(UserError):
        pairs = read_pairs(file, names)

    assert all(other < 0 or pairs[other] == label for label, other in pairs.items())


def test_the_file_of_pairs_must_exist_and_be_text(tmp_path: Path) -> None:
    classes(tmp_path, "")
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\x00")
    data = config("list", tmp_path, names="names.txt", augment={"flip": True, "mirror": "pairs.txt"})
    with pytest.raises(UserError, match=r"pairs\.txt: cannot be read as text"):
        data.mirrored()
    (tmp_path / "pairs.txt").unlink()
    with pytest.raises(UserError, match=r"pairs\.txt: cannot be read as text \(.*No such file"):
        data.mirrored()


def test_the_identity_has_the_name_of_the_file_only_where_clips_are_flipped() -> None:
    def identity(**augment: object) -> str:
        model = {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10}}
        tree = {"data": {"kind": "folders", "root": "/a", "augment": augment}, "model": model}
        return trial_id(TrialConfig.parse(tree | {"train": {"epochs": 1, "batch": 4, "lr": 0.1}}))

    assert identity() == identity(mirror="/a/pairs.txt")
    assert identity(flip=True) != identity(flip=True, mirror="pairs.txt")
    assert identity(flip=True, mirror="/a/pairs.txt") == identity(flip=True, mirror="/b/pairs.txt")

"""Lists of clips: what they state, and what is on the disk."""

from pathlib import Path

import pytest

from tests.vattn.situations.support import Case, check, images, texts, videos

CASES = [
    Case(
        name="a list of videos",
        make=lambda root: (
            videos(root, "a.mp4", "b.mp4"),
            texts(root, {"train.txt": "a.mp4 0\n", "val.txt": "b.mp4 1"}),
        ),
        data={"kind": "list"},
        labels=["0", "1"],
        rows=[("a.mp4", "0", "train"), ("b.mp4", "1", "val")],
        frames={"a.mp4": range(12), "b.mp4": range(12)},
    ),
    Case(
        name="images numbered from 1",
        make=lambda root: (images(root / "a", "img_%05d.png", range(1, 11)), texts(root, {"train.txt": "a 10 0\n"})),
        data={"kind": "list", "val": "none"},
        frames={"a": range(1, 11)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_situation(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(case, tmp_path, caplog)

from pathlib import Path

import pytest

from tests.vattn.data.layouts.support import config, table, write
from vattn.errors import UserError


def test_a_list_may_have_any_of_three_forms(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train.txt": "a.mp4 0\nb.mp4 250 1\nframes 30 2\nframes 31 20 0\nmy film.mp4\t1\n",
            "val.txt": "a2.mp4 2\n",
            "frames/img_00001.jpg": "",
        }
        | dict.fromkeys(("a.mp4", "b.mp4", "my film.mp4", "a2.mp4"), ""),
    )
    data = config("list", tmp_path)

    clips = [tuple(row.values())[:5] for row in table(data)]

    assert data.labels() == ("0", "1", "2")
    assert clips == [
        ("a.mp4", 0, "train", None, None),
        ("b.mp4", 1, "train", None, None),  # the number of frames of a video is not used
        ("frames", 2, "train", 1, 30),
        ("frames", 0, "train", 31, 50),
        ("my film.mp4", 1, "train", None, None),
        ("a2.mp4", 2, "val", None, None),
    ]


def test_all_problems_of_a_list_are_counted_and_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train.txt": "a.mp4 0\na.mp4 1\nb.mp4 2\nb.mp4\ngone.mp4 1\nc.mp4 0\nd.mp4 1\nframes 1 9 0\n",
            "val.txt": "c.mp4 0\nframes 5 9 0\n",
            "classes.txt": "zero\none\n",
            "frames/1.jpg": "",
        }
        | {f"{name}.mp4": "" for name in "abcd"},
    )

    with pytest.raises(UserError, match="have problems") as error:
        table(config("list", tmp_path, names="classes.txt"))

    first, *lines = str(error.value).splitlines()
    assert "6 of 10 rows have problems (2 in train and val, 1 listed twice, 1 label out of range" in first
    assert lines == [
        "  train.txt:2: a.mp4: listed twice: also train.txt:1, as zero",
        "  train.txt:3: b.mp4: label out of range: 2, of classes 0 to 1",
        "  train.txt:4: b.mp4: is not path label, path frames label, or folder first frames label",
        "  train.txt:5: gone.mp4: missing file",
        "  train.txt:6: c.mp4: in train and val: also val.txt:1",
        "  train.txt:8: frames: in train and val: also val.txt:2",
    ]

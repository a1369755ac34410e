"""Lists of clips: what they state, and what is on the disk."""

import os
from pathlib import Path

import pytest

from tests.vattn.situations.support import Case, check, images, texts, video, videos

LIST = {"kind": "list", "val": "none"}
TOLERANT = LIST | {"max_faults": 10}


def folder(root: Path, numbers: list[int], line: str, pattern: str = "img_%05d.png") -> None:
    """Write a list with a row for the folder ``a`` of images of some numbers, and one for a video."""
    images(root / "a", pattern, numbers)
    videos(root, "v.mp4")
    texts(root, {"train.txt": f"{line}\nv.mp4 1\n"})


def listed(root: Path, text: str | bytes, *names: str) -> None:
    """Write a list of training clips, and videos of 12 frames."""
    videos(root, *names)
    texts(root, {"train.txt": text})


CASES = [
    Case(
        name="videos in two lists",
        make=lambda root: (listed(root, "a.mp4 0\n", "a.mp4", "b.mp4"), texts(root, {"val.txt": "b.mp4 1"})),
        data={"kind": "list"},
        labels=["0", "1"],
        rows=[("a.mp4", "0", "train"), ("b.mp4", "1", "val")],
        frames={"a.mp4": range(12), "b.mp4": range(12)},
    ),
    # Numbers of images
    *(
        Case(
            name=f"a file that is {file} on the disk",
            make=lambda root, row=row, file=file: listed(root, f"{row} 0\nb.mp4 1\n", file, "b.mp4"),
            data=LIST,
            says=["train.txt:1: ", f": missing file: there is {file}"],
            status=2,
        )
        for row, file in {
            "a.mp4": "a.mkv",
            "c.mp4": "C.MP4",
            "d": "d.mp4",
            "x\\e.mp4": "x/e.mp4",
            '"f.mp4"': "f.mp4",
            "caf\u00e9.mp4": "cafe\u0301.mp4",
        }.items()
    ),
    Case(
        name="a folder that does not exist",
        make=lambda root: listed(root, "no/a.mp4 0\nb.mp4 1\n", "b.mp4"),
        data=LIST,
        says=["train.txt:1: no/a.mp4: missing file: there is no folder no"],
        status=2,
    ),
    Case(
        name="a link to nothing, and a pipe",
        make=lambda root: (
            listed(root, "a.mp4 0\nb.mp4 1\np.mp4 1\n", "b.mp4"),
            (root / "a.mp4").symlink_to("nowhere.mp4"),
            os.mkfifo(root / "p.mp4"),
        ),
        data=LIST,
        says=[f"{name}.mp4: missing file: is a link to nothing, or neither a file nor a folder" for name in "ap"],
        status=2,
    ),
    Case(
        name="an empty validation list",
        make=lambda root: (listed(root, "a.mp4 0\nb.mp4 1\n", "a.mp4", "b.mp4"), texts(root, {"val.txt": "\n"})),
        data={"kind": "list"},
        says=["data.val: ", "val.txt: is empty; list its clips, or write val: none"],
        status=2,
    ),
    Case(
        name="semicolons",
        make=lambda root: listed(root, "a.mp4;0\nb.mp4;1\n", "a.mp4", "b.mp4"),
        data=LIST,
        says=["lists no clip with a label", "separate columns by tabs (got a.mp4;0)"],
        status=2,
    ),
    Case(
        name="names that are numbered in another order",
        make=lambda root: (
            listed(root, "a.mp4 0\nb.mp4 1\n", "a.mp4", "b.mp4"),
            texts(root, {"names.txt": "2 run\n1 walk\n"}),
        ),
        data=LIST | {"names": "names.txt"},
        says=["data.names: ", "must have the names in the order of their labels; sort its lines by their numbers"],
        status=2,
    ),
    Case(
        name="names that are numbered in their order",
        make=lambda root: (
            listed(root, "a.mp4 0\nb.mp4 1\n", "a.mp4", "b.mp4"),
            texts(root, {"names.txt": "1 run\n2 walk\n"}),
        ),
        data=LIST | {"names": "names.txt"},
        labels=["1 run", "2 walk"],
    ),
    Case(
        name="a picture in the place of a video",
        make=lambda root: (
            listed(root, "a.mp4 0\nb.mp4 1\nc.mp4 1\n", "b.mp4"),
            images(root, "%d.jpg", [1]),
            (root / "1.jpg").rename(root / "a.mp4"),
            texts(root, {"c.mp4": "ffconcat version 1.0\nfile b.mp4\n"}),
        ),
        data=LIST,
        says=[
            "a.mp4: unreadable file: is a picture (jpeg), and no video",
            "c.mp4: unreadable file: is a list of other files (concat), and no video",
        ],
        status=2,
    ),
    Case(
        name="images from 1",
        make=lambda root: folder(root, [*range(1, 11)], "a 10 0"),
        data=LIST,
        frames={"a": range(1, 11), "v.mp4": range(12)},
    ),
    Case(
        name="images from 0",
        make=lambda root: folder(root, [*range(10)], "a 10 0"),
        data=LIST,
        frames={"a": range(10), "v.mp4": range(12)},
    ),
    Case(
        name="images from 16",
        make=lambda root: folder(root, [*range(16, 26)], "a 10 0"),
        data=LIST,
        frames={"a": range(16, 26), "v.mp4": range(12)},
    ),
    Case(
        name="every third image",
        make=lambda root: folder(root, [*range(3, 31, 3)], "a 10 0"),
        data=LIST,
        frames={"a": range(3, 31, 3), "v.mp4": range(12)},
    ),
    Case(
        name="only 4 of 10 images",
        make=lambda root: folder(root, [1, 2, 3, 4], "a 10 0"),
        data=LIST,
        says=["1 of 2 rows have problems (1 fewer frames than stated)", "a: fewer frames than stated: 4 of 10"],
        status=2,
    ),
    Case(
        name="only 4 of 10 images, accepted",
        make=lambda root: folder(root, [1, 2, 3, 4], "a 10 0"),
        data=TOLERANT,
        frames={"a": [1, 2, 3, 4], "v.mp4": range(12)},
        says=["a: fewer frames than stated: 4 of 10"],
    ),
    Case(
        name="3 images missing in the middle",
        make=lambda root: folder(root, [1, 2, 3, 7, 8, 9, 10], "a 10 0"),
        data=TOLERANT,
        frames={"a": [1, 2, 3, 7, 8, 9, 10], "v.mp4": range(12)},
        says=["a: fewer frames than stated: 7 of 10"],
    ),
    Case(
        name="3 images missing in the middle, and more at the end",
        make=lambda root: folder(root, [1, 2, 3, *range(7, 14)], "a 10 0"),
        data=TOLERANT,
        frames={"a": [1, 2, 3, 7, 8, 9, 10], "v.mp4": range(12)},
        says=["a: fewer frames than stated: 7 of 10"],
    ),
    Case(
        name="one image missing at the end",
        make=lambda root: folder(root, [*range(1, 10)], "a 10 0"),
        data=LIST,
        frames={"a": range(1, 10), "v.mp4": range(12)},
        says=["1 clips have a few frames more or less", "a: fewer frames than stated: 9 of 10"],
    ),
    Case(
        name="more images than stated",
        make=lambda root: folder(root, [*range(1, 21)], "a 10 0"),
        data=TOLERANT,
        frames={"a": range(1, 11), "v.mp4": range(12)},
        says=["a: more frames than stated: 20, and its list states 10"],
    ),
    Case(
        name="one image more than stated, as for flow",
        make=lambda root: folder(root, [*range(1, 12)], "a 10 0"),
        data=LIST,
        frames={"a": range(1, 11), "v.mp4": range(12)},
        says=["a: more frames than stated: 11, and its list states 10"],
    ),
    Case(
        name="no frames",
        make=lambda root: folder(root, [1, 2], "a 0 0"),
        data=LIST,
        says=["train.txt:1: a: has no frames"],
        status=2,
    ),
    Case(
        name="a range of images",
        make=lambda root: folder(root, [*range(1, 21)], "a 5 10 0"),
        data=LIST,
        frames={"a": range(5, 15), "v.mp4": range(12)},
    ),
    Case(
        name="two ranges of a folder",
        make=lambda root: folder(root, [*range(1, 21)], "a 1 10 0\na 11 10 1"),
        data=LIST,
        frames={"a": range(1, 21), "v.mp4": range(12)},
    ),
    Case(
        name="a range that begins before the first image",
        make=lambda root: folder(root, [*range(4, 14)], "a 1 10 0"),
        data=TOLERANT,
        frames={"a": range(4, 11), "v.mp4": range(12)},
        says=["a: fewer frames than stated: 7 of 10 from 1 on"],
    ),
    Case(
        name="a range after the last image",
        make=lambda root: folder(root, [*range(1, 11)], "a 11 10 0"),
        data=LIST,
        says=["a: unreadable file: has no frames from 11 on to 20"],
        status=2,
    ),
    Case(
        name="a folder with a slash at the end",
        make=lambda root: folder(root, [*range(1, 11)], "a/ 10 0"),
        data=LIST,
        frames={"a": range(1, 11), "v.mp4": range(12)},
    ),
    # Several labels
    Case(
        name="two labels for a folder",
        make=lambda root: folder(root, [*range(1, 13)], "a 12 1 3"),
        data=LIST,
        says=["train.txt:1: a: has no frames, or several labels, which are not supported: 12 1 3"],
        status=2,
    ),
    Case(
        name="two labels for a folder, the first is 0",
        make=lambda root: folder(root, [*range(1, 13)], "a 12 0 3"),
        data=LIST,
        says=["several labels, which are not supported: 12 0 3"],
        status=2,
    ),
    Case(
        name="two labels for a folder, the first is 5",
        make=lambda root: folder(root, [*range(1, 13)], "a 12 5 9"),
        data=LIST,
        says=["a: fewer frames than stated: 1 of 5 from 12 on (lists with several labels for a clip are not read)"],
        status=2,
    ),
    Case(
        name="three labels for a folder",
        make=lambda root: folder(root, [*range(1, 13)], "a 12 1 3 4"),
        data=LIST,
        says=["train.txt:1: a 12 1 3 4: several labels for a clip are not supported"],
        status=2,
    ),
    Case(
        name="two labels for a video",
        make=lambda root: listed(root, "a.mp4 12 1 3\nb.mp4 12 0\n", "a.mp4", "b.mp4"),
        data=LIST,
        says=["train.txt:1: a.mp4: several labels for a clip, or a first frame of a video, are not supported: 12 1 3"],
        status=2,
    ),
    # Numbers of frames of videos
    Case(
        name="a video of the stated frames",
        make=lambda root: listed(root, "a.mp4 12 0\n", "a.mp4"),
        data=LIST,
        frames={"a.mp4": range(12)},
    ),
    Case(
        name="a video of other than the stated frames",
        make=lambda root: listed(root, "a.mp4 250 0\nb.mp4 2 1\nc.mp4 12 1", "a.mp4", "b.mp4", "c.mp4"),
        data=LIST,
        says=[
            "2 of 3 rows have problems (1 fewer frames than stated, 1 more frames than stated)",
            "a.mp4: fewer frames than stated: 12 of 250",
            "b.mp4: more frames than stated: 12, and its list states 2",
        ],
        status=2,
    ),
    Case(
        name="the frames are compared before some are selected",
        make=lambda root: listed(root, "a.mp4 12 0\nb.mp4 24 1", "a.mp4", "b.mp4"),
        data=TOLERANT | {"store": {"size": 32, "frames": 4}},
        # The second of each three.
        frames={"a.mp4": [1, 4, 7, 10], "b.mp4": [1, 4, 7, 10]},
        says=["1 of 2 rows have problems", "b.mp4: fewer frames than stated: 12 of 24"],
    ),
    # The form of the list
    Case(
        name="a byte order mark and ends of lines of Windows",
        make=lambda root: listed(root, b"\xef\xbb\xbfa.mp4 0\r\nb.mp4 1\r\n", "a.mp4", "b.mp4"),
        data=LIST,
        rows=[("a.mp4", "0", "train"), ("b.mp4", "1", "train")],
    ),
    Case(
        name="names with line separators of Unicode, and tabs",
        make=lambda root: listed(root, "a\u2028b\x0c.mp4\t0\nü ü.mp4\t1\n", "a\u2028b\x0c.mp4", "ü ü.mp4"),
        data=LIST,
        rows=[("a\u2028b\x0c.mp4", "0", "train"), ("ü ü.mp4", "1", "train")],
    ),
    Case(
        name="UTF-16",
        make=lambda root: listed(root, "a.mp4 0\n".encode("utf-16"), "a.mp4"),
        data=LIST,
        says=["train.txt: must be UTF-8 text, and has bytes of 0", "save it as UTF-8"],
        status=2,
    ),
    Case(
        name="Latin-1",
        make=lambda root: listed(root, "a.mp4 0\ncafé.mp4 1\n".encode("latin1"), "a.mp4"),
        data=LIST,
        says=["train.txt: must be UTF-8 text, and line 2 has the byte 0xe9", "iconv -f LATIN1"],
        status=2,
    ),
    Case(
        name="commas",
        make=lambda root: listed(root, "a.mp4,0\n", "a.mp4"),
        data=LIST | {"names": "names.txt"},
        says=["names.txt does not exist"],
        status=2,
    ),
    Case(
        name="commas, with names of classes",
        make=lambda root: (listed(root, "a.mp4,0\n", "a.mp4"), texts(root, {"names.txt": "run\n"})),
        data=LIST | {"names": "names.txt"},
        says=["train.txt:1: a.mp4,0: is not path label", "take kind: table, which reads CSV"],
        status=2,
    ),
    Case(
        name="a blank in a path",
        make=lambda root: listed(root, "my film of.mp4 12 0\nb.mp4 0\n", "my film of.mp4", "b.mp4"),
        data=LIST,
        says=["train.txt:1: my film of.mp4 12 0: is not path label", "tabs where paths have blanks"],
        status=2,
    ),
    Case(
        name="a label that no data set has",
        make=lambda root: listed(root, "a.mp4 0\nb.mp4 999999999\n", "a.mp4", "b.mp4"),
        data=LIST,
        says=["train.txt:2: labels must number the classes from 0 on"],
        status=2,
    ),
    Case(
        name="a number of 5000 digits",
        make=lambda root: listed(root, f"a.mp4 0\nb.mp4 {'9' * 5000}\n", "a.mp4", "b.mp4"),
        data=LIST,
        says=["train.txt:2: ", "is not path label"],
        status=2,
    ),
    Case(
        name="a name that is too long",
        make=lambda root: listed(root, f"a.mp4 0\n{'b' * 5000} 12 0\n", "a.mp4"),
        data=LIST,
        says=["bbb: missing file"],
        status=2,
    ),
    Case(
        name="a variable frame rate does not change the number of frames",
        make=lambda root: (video(root / "a.mp4", range(10), rate=3), texts(root, {"train.txt": "a.mp4 10 0"})),
        data=LIST,
        frames={"a.mp4": range(10)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_situation(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(case, tmp_path, caplog)

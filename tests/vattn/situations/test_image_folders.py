"""Folders of images: one sequence of frames each."""

from pathlib import Path

import pytest

from tests.vattn.situations.support import Case, check, images, texts, videos

FOLDERS = {"kind": "folders"}
LITTER = {
    "._img_00001.png": "AppleDouble", ".img_00002.png": "hidden", "Thumbs.db": "Windows", "desktop.ini": "Windows",
    ".DS_Store": "macOS", "notes.txt": "a file without images",
}  # fmt: skip


def flow(root: Path, x: range, y: range, prefix: str = "flow_") -> None:
    """Write the class ``run`` with the flow of one clip, horizontally and vertically."""
    images(root / "run/a", f"{prefix}x_%05d.png", x)
    images(root / "run/a", f"{prefix}y_%05d.png", y)


def sequences(root: Path, *prefixes: str) -> None:
    """Write the class ``run`` with a clip ``a``, of 6 images of each prefix, and a clip ``b`` of the first prefix."""
    for number, prefix in enumerate(prefixes):
        images(root / "run/a", f"{prefix}%05d.png", range(1, 7), shown=range(10 * number, 10 * number + 6))
    images(root / "run/b", f"{prefixes[0]}%05d.png", range(1, 7))


CASES = [
    Case(
        name="one sequence, in the order of the numbers",
        make=lambda root: images(root / "run/a", "frame%d.png", [8, 10, 11, 9]),
        data=FOLDERS,
        frames={"run/a": [8, 9, 10, 11]},
    ),
    Case(
        name="images missing in the middle, without a list that states their number",
        make=lambda root: (
            images(root / "run/a", "%03d.png", [5, 10, 15, 25, 30]),
            images(root / "run/b", "%03d.png", [1, 4, 9, 11]),
        ),
        data=FOLDERS,
        frames={"run/a": [5, 10, 15, 25, 30], "run/b": [1, 4, 9, 11]},
        says=["1 of 2 files are damaged or incomplete, and used as they are"],
    ),
    Case(
        name="files of operating systems",
        make=lambda root: (
            images(root / "run/a", "img_%05d.png", range(1, 7)),
            texts(root / "run/a", LITTER),
            texts(root, {"__MACOSX/run/._a.mp4": "", "run/__MACOSX/x": "", "run/._b.mp4": "", "@eaDir/a/b.mp4": ""}),
            (root / "run/a/@eaDir").mkdir(),
        ),
        data=FOLDERS,
        labels=["run"],
        frames={"run/a": range(1, 7)},
    ),
    Case(
        name="RGB beside flow",
        make=lambda root: (sequences(root, "img_"), flow(root, range(1, 6), range(1, 6))),
        data=FOLDERS,
        frames={"run/a": range(6), "run/b": range(1, 7)},
    ),
    *(
        Case(
            name=f"sequences {' '.join(prefixes)} in a folder",
            make=lambda root, prefixes=prefixes: sequences(root, *prefixes),
            data=FOLDERS,
            says=[
                "1 of 2 rows have problems (1 unreadable file)",
                f"run/a: unreadable file: has images of {len(prefixes)} sequences: there are ",
                *(f"6 of {prefix}NUMBER" for prefix in prefixes),
                f"choose one, such as data.prefix: {min(prefixes)}",
            ],
            status=2,
        )
        for prefixes in (("image_", "x_", "y_"), ("rgb_", "depth_"), ("cam1_", "cam2_"), ("img", "img_"))
    ),
    Case(
        name="a sequence that data.prefix chooses",
        make=lambda root: sequences(root, "image_", "x_", "y_"),
        data=FOLDERS | {"prefix": "image_"},
        frames={"run/a": range(6), "run/b": range(1, 7)},
    ),
    Case(
        name="the second sequence by the beginning of its prefix",
        make=lambda root: sequences(root, "rgb_", "depth_") or images(root / "run/b", "depth_%05d.png", range(5)),
        data=FOLDERS | {"prefix": "dep"},
        frames={"run/a": range(10, 16), "run/b": range(5)},
    ),
    Case(
        name="a prefix that no image has",
        make=lambda root: sequences(root, "image_", "x_"),
        data=FOLDERS | {"prefix": "rgb", "max_faults": 1},
        says=["none of its 2 files could be read", "whose names begin with data.prefix: rgb", "6 of image_NUMBER"],
        status=2,
    ),
    Case(
        name="a prefix that two sequences have",
        make=lambda root: sequences(root, "cam1_", "cam2_"),
        data=FOLDERS | {"prefix": "cam"},
        says=["run/a: unreadable file: has images of 2 sequences", "2 of them begin with data.prefix: cam"],
        status=2,
    ),
    Case(
        name="a prefix that is the beginning of another",
        make=lambda root: sequences(root, "img", "img_"),
        data=FOLDERS | {"prefix": "img"},
        frames={"run/a": range(6), "run/b": range(1, 7)},
    ),
    Case(
        name="a number twice",
        make=lambda root: (sequences(root, "img_"), images(root / "run/a", "img_%d.png", [3])),
        data=FOLDERS,
        says=["run/a: unreadable file: has two images of number 3: img_00003.png and img_3.png"],
        status=2,
    ),
    Case(
        name="the same number as .jpg and .png",
        make=lambda root: (sequences(root, "img_"), images(root / "run/a", "img_%05d.jpg", [3])),
        data=FOLDERS,
        says=["run/a: unreadable file: has two images of number 3: img_00003.jpg and img_00003.png"],
        status=2,
    ),
    Case(
        name="images without numbers, and formats that are not read",
        make=lambda root: (
            images(root / "run/a", "img_%05d_rgb.png", [1, 2]),
            images(root / "run/b", "%05d.bmp", [1, 2]),
            images(root / "run/c", "%05d.png", [1, 2]),
            (root / "run/d").mkdir(),
            texts(root, {"run/e/more/00001.png": ""}),
        ),
        data=FOLDERS,
        says=[
            "4 of 5 rows have problems (4 unreadable file)",
            "run/a: unreadable file: has no frames: its images must be .jpg, .jpeg or .png, with a number at the end "
            "of the name (it holds 2 .png)",
            "(it holds 2 .bmp)",
            "run/d: unreadable file: has no frames: its images must be .jpg, .jpeg or .png, with a number at the end "
            "of the name (it holds nothing)",
            "(it holds 1 folders)",
        ],
        status=2,
    ),
    # Optical flow
    Case(
        name="flow from 1",
        make=lambda root: flow(root, range(1, 6), range(1, 6)),
        data=FOLDERS | {"modality": "flow"},
        frames={"run/a": range(1, 6)},
    ),
    Case(
        name="flow from 0 in a list",
        make=lambda root: (flow(root, range(9), range(9)), texts(root, {"train.txt": "run/a 9 0"})),
        data={"kind": "list", "val": "none", "modality": "flow"},
        frames={"run/a": range(9)},
    ),
    Case(
        name="flow one shorter than the frames that the list states",
        make=lambda root: (flow(root, range(1, 10), range(1, 10)), texts(root, {"train.txt": "run/a 10 0"})),
        data={"kind": "list", "val": "none", "modality": "flow"},
        frames={"run/a": range(1, 10)},
        says=["run/a: fewer frames than stated: 9 of 10"],
    ),
    Case(
        name="flow named x and y, beside the frames",
        make=lambda root: (
            flow(root, range(1, 6), range(1, 6), prefix=""),
            images(root / "run/a", "img_%05d.png", [1]),
        ),
        data=FOLDERS | {"modality": "flow"},
        frames={"run/a": range(1, 6)},
    ),
    Case(
        name="9 x and 8 y",
        make=lambda root: (
            flow(root, range(1, 10), range(1, 9)),
            images(root / "run/b", "flow_x_%05d.png", [1]),
            images(root / "run/c", "flow_x_%05d.png", [1, 2]),
            images(root / "run/c", "flow_y_%05d.png", [1, 2]),
        ),
        data=FOLDERS | {"modality": "flow"},
        says=[
            "run/a: unreadable file: has 9 images flow_x_NUMBER and 8 images flow_y_NUMBER: flow_x_9 without flow_y_",
            "run/b: unreadable file: has no frames: it has no pair of x and y images; there are 1 of flow_x_NUMBER",
        ],
        status=2,
    ),
    Case(
        name="x and y of other numbers",
        make=lambda root: flow(root, range(5), range(1, 6)),
        data=FOLDERS | {"modality": "flow"},
        says=["has 5 images flow_x_NUMBER and 5 images flow_y_NUMBER: flow_x_0 without flow_y_"],
        status=2,
    ),
    Case(
        name="two pairs of flow",
        make=lambda root: (flow(root, range(5), range(5)), flow(root, range(5), range(5), prefix="tvl1_")),
        data=FOLDERS | {"modality": "flow"},
        says=["has images of 4 sequences", "choose one, such as data.prefix: flow_x_"],
        status=2,
    ),
    Case(
        name="a pair of flow that data.prefix chooses",
        make=lambda root: (flow(root, range(5), range(5)), flow(root, range(8), range(8), prefix="tvl1_")),
        data=FOLDERS | {"modality": "flow", "prefix": "tvl1"},
        frames={"run/a": range(8)},
    ),
    Case(
        name="a video for flow",
        make=lambda root: (flow(root, range(5), range(5)), videos(root, "run/v.mp4")),
        data=FOLDERS | {"modality": "flow"},
        says=["run/v.mp4: unreadable file: has no optical flow"],
        status=2,
    ),
    Case(
        name="a class whose name is not UTF-8",
        make=lambda root: (videos(root, "run/a.mp4"), (root / "caf\udce9").mkdir()),
        data=FOLDERS,
        says=["names of classes must be UTF-8; rename the folder (got caf\\udce9)"],
        status=2,
    ),
    Case(
        name="a file whose name is not UTF-8",
        make=lambda root: (videos(root, "run/a.mp4"), texts(root, {"run/caf\udce9.mp4": ""})),
        data=FOLDERS,
        says=["run/caf\\udce9.mp4: name that is not UTF-8: rename the file"],
        status=2,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_situation(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(case, tmp_path, caplog)

"""Classes, splits, and files that two splits share."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.vattn.data.layouts.support import config
from tests.vattn.situations.support import Case, check, texts, video, videos
from vattn.data.dataset import listed
from vattn.errors import UserError


def unlike(root: Path, *names: str) -> None:
    """Write videos of different content."""
    for number, name in enumerate(names):
        video(root / name, range(number, number + 12))


def shared(root: Path, link: Callable[[Path, Path], object], name: str = "w.mp4") -> None:
    """Write a training list of a.mp4 and b.mp4, and a validation list of b.mp4 under another path, and of c.mp4."""
    unlike(root, "a.mp4", "b.mp4", "c.mp4")
    link(root / "b.mp4", root / "w.mp4")
    texts(root, {"train.txt": "a.mp4 0\nb.mp4 1\n", "val.txt": f"{name} 1\nc.mp4 0\n"})


def nothing(source: Path, target: Path) -> None:
    pass


LEAK = {"kind": "list"}
CASES = [
    Case(
        name="a training file in val as ./b.mp4",
        make=lambda root: shared(root, nothing, "./b.mp4"),
        data=LEAK, status=2,
        says=["data.max_faults: ", "train.txt:2: b.mp4: in train and val: also val.txt:1, ./b.mp4"],
    ),
    Case(
        name="a training file in val through another folder",
        make=lambda root: ((root / "x").mkdir(), shared(root, nothing, "x/../b.mp4")),
        data=LEAK, status=2, says=["train.txt:2: b.mp4: in train and val: also val.txt:1, x/../b.mp4"],
    ),
    Case(
        name="a training file in val by its absolute path",
        make=lambda root: shared(root, nothing, str(root / "b.mp4")),
        data=LEAK, status=2, says=["train.txt:2: b.mp4: in train and val: also val.txt:1, /"],
    ),
    Case(
        name="a training file in val as a symbolic link",
        make=lambda root: shared(root, lambda source, target: target.symlink_to(source)),
        data=LEAK, status=2, says=["train.txt:2: b.mp4: in train and val: also val.txt:1, w.mp4"],
    ),
    Case(
        name="a training file in val in a linked folder",
        make=lambda root: (shared(root, nothing, "y/b.mp4"), (root / "y").symlink_to(root)),
        data=LEAK, status=2, says=["train.txt:2: b.mp4: in train and val: also val.txt:1, y/b.mp4"],
    ),
    Case(
        name="a training file in val as a hard link",
        make=lambda root: shared(root, os.link),
        data=LEAK, status=2, says=["b.mp4: same content in train and val: also w.mp4", "what was decoded is kept"],
    ),
    Case(
        name="a training file in val as a copy",
        make=lambda root: shared(root, shutil.copy),
        data=LEAK, status=2, says=["b.mp4: same content in train and val: also w.mp4"],
    ),
    Case(
        name="a copy that is accepted is used and named",
        make=lambda root: shared(root, shutil.copy),
        data=LEAK | {"max_faults": 1}, says=["1 of 4 rows have problems (1 same content in train and val)"],
        rows=[("a.mp4", "0", "train"), ("b.mp4", "1", "train"), ("w.mp4", "1", "val"), ("c.mp4", "0", "val")],
    ),
    Case(
        name="a link that is accepted leaves the training row out",
        make=lambda root: shared(root, nothing, "./b.mp4"),
        data=LEAK | {"max_faults": 1}, says=["they are left out"],
        rows=[("a.mp4", "0", "train"), ("./b.mp4", "1", "val"), ("c.mp4", "0", "val")],
    ),
    Case(
        name="a file listed twice under two paths",
        make=lambda root: (
            unlike(root, "a.mp4", "c.mp4"),
            texts(root, {"train.txt": "a.mp4 0\n./a.mp4 0\n", "val.txt": "c.mp4 0"}),
        ),
        data=LEAK, status=2, says=["train.txt:2: ./a.mp4: listed twice: also train.txt:1, a.mp4"],
    ),
    Case(
        name="copies in one split",
        make=lambda root: (
            unlike(root, "a.mp4", "c.mp4"),
            shutil.copy(root / "a.mp4", root / "b.mp4"),
            texts(root, {"train.txt": "a.mp4 0\nb.mp4 0\n", "val.txt": "c.mp4 0"}),
        ),
        data=LEAK, rows=[("a.mp4", "0", "train"), ("b.mp4", "0", "train"), ("c.mp4", "0", "val")],
    ),
    Case(
        name="different frames of a copy",
        make=lambda root: (
            videos(root, "a.mp4"),
            shutil.copy(root / "a.mp4", root / "b.mp4"),
            texts(root, {"t.csv": "path,label,split,first,last\na.mp4,x,train,0,5\nb.mp4,x,val,6,11\n"}),
        ),
        data={"kind": "table", "file": "t.csv"}, rows=[("a.mp4", "x", "train"), ("b.mp4", "x", "val")],
    ),
    Case(
        name="frames of a copy that overlap",
        make=lambda root: (
            videos(root, "a.mp4"),
            shutil.copy(root / "a.mp4", root / "b.mp4"),
            texts(root, {"t.csv": "path,label,split,first,last\na.mp4,x,train,0,6\nb.mp4,x,val,6,11\n"}),
        ),
        data={"kind": "table", "file": "t.csv"}, status=2, says=["same content in train and val"],
    ),
    Case(
        name="a validation clip in the test split",
        make=lambda root: (
            unlike(root, "train/x/a.mp4", "val/x/b.mp4"),
            (root / "test/x").mkdir(parents=True),
            shutil.copy(root / "val/x/b.mp4", root / "test/x/b.mp4"),
        ),
        data={"kind": "folders"}, status=2, says=["val/x/b.mp4: same content in val and test: also test/x/b.mp4"],
    ),
    *(
        Case(
            name=f"a folder {name} beside train",
            make=lambda root, name=name: unlike(root, "train/x/a.mp4", "train/x/b.mp4", f"{name}/x/c.mp4"),
            data={"kind": "folders"},
            rows=[("train/x/a.mp4", "x", "train"), ("train/x/b.mp4", "x", "train"), (f"{name}/x/c.mp4", "x", "val")],
        )
        for name in ("validation", "valid", "Val", "VALIDATION", "dev", "eval")
    ),
    Case(
        name="Training and Testing",
        make=lambda root: unlike(root, "Training/x/a.mp4", "Training/x/b.mp4", "Testing/x/c.mp4"),
        data={"kind": "folders", "val_share": 0.5},
        rows=[("Training/x/a.mp4", "x", "val"), ("Training/x/b.mp4", "x", "train"), ("Testing/x/c.mp4", "x", "test")],
    ),
    Case(
        name="two folders that could be val",
        make=lambda root: unlike(root, "train/x/a.mp4", "valid/x/b.mp4", "dev/x/c.mp4"),
        data={"kind": "folders"}, status=2,
        says=["data.root: ", "dev and valid could all be the val split; name the one to use val"],
    ),
    Case(
        name="classes that have names of splits",
        make=lambda root: unlike(root, "Training/a.mp4", "Dev/b.mp4", "Training/c.mp4", "Dev/d.mp4"),
        data={"kind": "folders", "val_share": 0.5}, labels=["Dev", "Training"],
    ),
    Case(
        name="train_set and val_set",
        make=lambda root: unlike(root, "train_set/x/a.mp4", "val_set/x/b.mp4"),
        data={"kind": "folders"},
        rows=[("train_set/x/a.mp4", "x", "train"), ("val_set/x/b.mp4", "x", "val")],
    ),
    Case(
        name="the splits in an inner folder",
        make=lambda root: unlike(root, "my/train/x/a.mp4", "my/val/x/b.mp4"),
        data={"kind": "folders"},
        says=["data.root: ", "has one folder, my, which holds the splits; write ", "/my"],
        status=2,
    ),
    Case(
        name="files of macOS beside lists",
        make=lambda root: (
            unlike(root, *(f"run/f{film}_run_{film}.avi" for film in range(3))),
            texts(root, {"run_test_split1.txt": "f0_run_0.avi 1\nf1_run_1.avi 1\nf2_run_2.avi 2\n"}),
            texts(root, {"._run_test_split1.txt": b"\0\5\x16\7"}),
        ),
        data={"kind": "hmdb51"},
        labels=["run"],
    ),
    Case(
        name="labels from 1 with names",
        make=lambda root: (
            unlike(root, "a.mp4", "b.mp4", "c.mp4"),
            texts(root, {"names.txt": "run\njump", "train.txt": "a.mp4 1\nb.mp4 2", "val.txt": "c.mp4 2"}),
        ),
        data={"kind": "list", "names": "names.txt", "max_faults": "90 %"}, status=2,
        says=["data.names: labels must be 0 to 1, as there are 2 names of classes; subtract 1 from each label"],
    ),
    Case(
        name="a label of 1000000",
        make=lambda root: (
            unlike(root, "a.mp4", "b.mp4"),
            texts(root, {"train.txt": "a.mp4 0", "val.txt": "b.mp4 1000000"}),
        ),
        data={"kind": "list"}, status=2,
        says=["data.train: val.txt:1: labels must number the classes from 0 on, and 999,999 numbers below"],
    ),
    Case(
        name="a label of 1000000 in a table",
        make=lambda root: (
            unlike(root, "a.mp4", "b.mp4"),
            texts(root, {"t.csv": "path,label,split\na.mp4,0,train\nb.mp4,1000000,val\n"}),
        ),
        data={"kind": "table", "file": "t.csv"}, status=2,
        says=["data.label: ", "labels must number the classes from 0 on, and 999,999 numbers below"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_situation(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(case, tmp_path, caplog)


@dataclass(frozen=True)
class Told:
    """A data set, and a text of the summary that `check`, `ingest` and `run` print."""

    name: str
    make: Callable[[Path], object]
    data: dict[str, Any]
    warning: str = ""
    problem: str = ""


SUMMARIES = [
    Told(
        "an empty class folder",
        lambda root: (unlike(root, "train/run/a.mp4", "val/run/b.mp4"), (root / "train/jump").mkdir()),
        {"kind": "folders"},
        warning="1 of 2 classes has no clips at all; add clips, or remove the classes ('jump')",
    ),
    Told(
        "a folder beside the splits",
        lambda root: unlike(root, "train/run/a.mp4", "val/run/b.mp4", "extra/run/c.mp4"),
        {"kind": "folders"},
        warning="beside train, val, these folders are not used: extra; move them, or rename them",
    ),
    Told(
        "files in class folders that are no videos",
        lambda root: (
            unlike(root, "train/run/a.mp4", "val/run/b.mp4", "c.mp4", "val/d.MOV"),
            texts(root, {"train/run/e.tif": "", "val/run/f": "", "train/run/.DS_Store": ""}),
        ),
        {"kind": "folders"},
        warning="2 files in folders of classes are not read, as their names are not those of videos: 1 .tif, 1 without",
    ),
    Told(
        "videos outside of the class folders",
        lambda root: unlike(root, "train/run/a.mp4", "val/run/b.mp4", "c.mp4", "val/d.mov"),
        {"kind": "folders"},
        warning="videos outside of the folders of classes are not used (2, such as c.mp4); move them",
    ),
    Told(
        "other columns that may hold ranges",
        lambda root: (
            unlike(root, "a.mp4", "b.mp4"),
            texts(
                root,
                {"t.csv": "path,label,split,StartFrame,end_frame,friend\na.mp4,x,train,1,2,z\nb.mp4,x,val,1,2,z\n"},
            ),
        ),
        {"kind": "table", "file": "t.csv"},
        warning="columns StartFrame, end_frame are not used, and clips are whole files",
    ),
    Told(
        "different frames of a file in two splits",
        lambda root: (
            unlike(root, "a.mp4"),
            texts(root, {"t.csv": "path,label,split,first,last\na.mp4,x,train,0,3\na.mp4,x,val,6,9\n"}),
        ),
        {"kind": "table", "file": "t.csv"},
        warning="clips of 1 file are in train and val; they look alike, so that the accuracy is too high",
    ),
    Told(
        "a group in two splits",
        lambda root: (
            unlike(root, "a.mp4", "b.mp4", "c.mp4"),
            texts(root, {"t.csv": "path,label,split,tape\na.mp4,x,train,1\nb.mp4,x,val,1\nc.mp4,x,val,2\n"}),
        ),
        {"kind": "table", "file": "t.csv", "group": "tape"},
        warning="clips of 1 group are in train and val; they look alike, so that the accuracy is too high; keep each "
        "group in one split (1)",
    ),
    Told(
        "a Latin and a Cyrillic letter",
        lambda root: unlike(root, "train/cat/a.mp4", "val/c\u0430t/b.mp4"),
        {"kind": "folders"},
        problem="give each class one name",
    ),
    Told(
        "validation beside val",
        lambda root: unlike(root, "train/run/a.mp4", "val/run/b.mp4", "validation/run/c.mp4"),
        {"kind": "folders"},
        warning="beside train, val, these folders are not used: validation",
    ),
    Told(
        "labels from 1",
        lambda root: (
            unlike(root, "a.mp4", "b.mp4"),
            texts(root, {"train.txt": "a.mp4 1", "val.txt": "b.mp4 1"}),
        ),
        {"kind": "list"},
        warning="no clip has the label 0, and class 0 is trained without clips; if your labels begin at 1, subtract 1",
    ),
    Told(
        "a gap in the labels",
        lambda root: (
            unlike(root, "a.mp4", "b.mp4"),
            texts(root, {"train.txt": "a.mp4 0", "val.txt": "b.mp4 2"}),
        ),
        {"kind": "list"},
        warning="1 of 3 classes has no clips at all; number the classes without gaps ('1')",
    ),
    Told(
        "a class without training clips",
        lambda root: unlike(root, "train/run/a.mp4", "val/run/b.mp4", "val/jump/c.mp4"),
        {"kind": "folders"},
        warning="1 of 2 classes has no training clips, so that no model can learn them",
    ),
    Told(
        "no training rows",
        lambda root: unlike(root, "val/run/a.mp4", "test/run/b.mp4"),
        {"kind": "folders"},
        problem="data.root: has no training clips; list them, or put them into the folder train",
    ),
    Told(
        "one clip of each class",
        lambda root: unlike(root, "run/a.mp4", "jump/b.mp4"),
        {"kind": "folders"},
        problem="data.root: has no validation clips, and none can be held out",
    ),
    Told(
        "Run in val and run in train",
        lambda root: unlike(root, "train/run/a.mp4", "val/Run/b.mp4"),
        {"kind": "folders"},
        problem="give each class one name (got 'Run' and 'run')",
    ),
    Told(
        "names in a table that end in a blank",
        lambda root: (
            unlike(root, "a.mp4", "b.mp4"),
            texts(root, {"t.csv": 'path,label,split\na.mp4,"walk",train\nb.mp4,"walk ",val\n'}),
        ),
        {"kind": "table", "file": "t.csv"},
        problem="give each class one name (got 'walk' and 'walk ')",
    ),
]


@pytest.mark.parametrize("told", SUMMARIES, ids=lambda told: told.name)
def test_the_summary_tells(told: Told, tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    told.make(root)

    summary = listed(config(root=root, **told.data), tmp_path / "out").summary()

    assert any(told.warning in text for text in summary.warnings) or not told.warning
    if told.problem:
        with pytest.raises(UserError) as error:
            summary.refuse()
        assert told.problem in str(error.value)
    else:
        summary.refuse()

"""Tables of clips: CSV is read as text and then interpreted."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.vattn.situations.support import Case, check, images, texts, videos

TABLE = {"kind": "table", "file": "clips.csv"}
PARQUET = {"kind": "table", "file": "clips.parquet"}
NAMES = "abcdefgh"


def csv(root: Path, text: str | bytes) -> None:
    """Write the table, and videos a.mp4 to h.mp4 of 12 frames."""
    videos(root, *(f"{name}.mp4" for name in NAMES))
    texts(root, {"clips.csv": text})


def labelled(root: Path, *labels: str, header: str = "path,label,split") -> None:
    """Write a table in which the videos have these labels."""
    csv(root, "\n".join([header, *(f"{name}.mp4,{label},train" for name, label in zip(NAMES, labels, strict=False))]))


def parquet(root: Path, labels: Any, **columns: Any) -> None:
    """Write a Parquet table in which the videos have these labels."""
    videos(root, *(f"{name}.mp4" for name in NAMES))
    paths = [f"{name}.mp4" for name, _ in zip(NAMES, labels, strict=False)]
    pq.write_table(
        pa.table({"path": paths, "label": labels, "split": ["train"] * len(paths)} | columns), root / "clips.parquet"
    )


def classes(*labels: str) -> list[tuple[str, str]]:
    """Return path and class of the videos with these classes; an empty class has no row."""
    return [(f"{name}.mp4", label) for name, label in zip(NAMES, labels, strict=False) if label]


def ranges(root: Path, *cells: str, header: str = "path,label,split,first,last") -> None:
    """Write a table with ranges of frames."""
    rows = [f"{name}.mp4,run,train,{cell}" for name, cell in zip(NAMES, cells, strict=False)]
    csv(root, "\n".join([header, *rows]))


CASES = [
    # Labels
    Case(
        name="labels with leading zeros are names",
        make=lambda root: labelled(root, "007", "100", "007"),
        data=TABLE,
        labels=["007", "100"],
        rows=classes("007", "100", "007"),
    ),
    Case(
        name="plain numbers are labels",
        make=lambda root: labelled(root, "2", "0", "10"),
        data=TABLE,
        labels=[str(label) for label in range(11)],
        rows=classes("2", "0", "10"),
    ),
    Case(
        name="one number in two forms",
        make=lambda root: labelled(root, "007", "7", "2"),
        data=TABLE,
        says=["data.label: ", "labels 007 and 7 are one number in two forms; write it in one"],
        status=2,
    ),
    Case(
        name="whole numbers as floats, with empty cells, as pandas writes them",
        make=lambda root: labelled(root, "10.0", "2.0", "", "0.0", "nan"),
        data=TABLE | {"max_faults": 2},
        labels=[str(label) for label in range(11)],
        rows=classes("10", "2", "", "0"),
        says=["2 of 5 rows have problems (2 has no path or no label)", "clips.csv:4: c.mp4: has no path or no label"],
    ),
    Case(
        name="fractions",
        make=lambda root: labelled(root, "1.0", "0.5", "2.25"),
        data=TABLE,
        says=["labels must be names or whole numbers; name the column of the classes (got 0.5)"],
        status=2,
    ),
    Case(
        name="true and false",
        make=lambda root: labelled(root, "true", "false", "true"),
        data=TABLE,
        labels=["false", "true"],
        rows=classes("true", "false", "true"),
    ),
    Case(
        name="numbers among names",
        make=lambda root: labelled(root, "2", "b", "10"),
        data=TABLE,
        labels=["10", "2", "b"],
        rows=classes("2", "b", "10"),
    ),
    Case(
        name="names of other alphabets, with commas and quotes",
        make=lambda root: labelled(root, '"jump, high"', "laufen – schnell", '"say ""hi"""', '"two\nlines"'),
        data=TABLE,
        labels=["jump, high", "laufen – schnell", 'say "hi"', "two\nlines"],
        rows=classes("jump, high", "laufen – schnell", 'say "hi"', "two\nlines"),
    ),
    Case(
        name="names in a file",
        make=lambda root: (labelled(root, "1", "0", "3"), texts(root, {"names.txt": "zero\none\n"})),
        data=TABLE | {"names": "names.txt", "max_faults": 1},
        labels=["zero", "one"],
        rows=classes("one", "zero"),
        says=["clips.csv:4: c.mp4: label out of range: 3, of classes 0 to 1"],
    ),
    Case(
        name="a name that is not in the file of names",
        make=lambda root: (labelled(root, "run", "walk", "Run"), texts(root, {"names.txt": "walk\nrun\n"})),
        data=TABLE | {"names": "names.txt", "max_faults": 1},
        labels=["walk", "run"],
        rows=classes("run", "walk"),
        says=["clips.csv:4: c.mp4: unknown label: Run"],
    ),
    *(
        Case(
            name=f"several labels as {cell}",
            make=lambda root, cell=cell: labelled(root, "1", f'"{cell}"', "3"),
            data=TABLE | {"max_faults": 1},
            labels=["0", "1", "2", "3"],
            rows=classes("1", "", "3"),
            says=[f"clips.csv:3: b.mp4: several labels for a clip are not supported: {cell}"],
        )
        for cell in ("1;3", "1 3", "1, 3", "[1, 3]", "1|3")
    ),
    Case(
        name="several names as labels",
        make=lambda root: labelled(root, "run", "run;walk", "walk", "over;under"),
        data=TABLE | {"max_faults": 1},
        labels=["over;under", "run", "walk"],
        rows=classes("run", "", "walk", "over;under"),
        says=["clips.csv:3: b.mp4: several labels for a clip are not supported: run;walk"],
    ),
    Case(
        name="a label below 0",
        make=lambda root: labelled(root, "-1", "0", "1"),
        data=TABLE | {"max_faults": 1},
        labels=["0", "1"],
        rows=classes("", "0", "1"),
        says=["clips.csv:2: a.mp4: label out of range: -1"],
    ),
    Case(
        name="a label that no data set has",
        make=lambda root: labelled(root, "0", "123456789012"),
        data=TABLE,
        says=["labels must number the classes from 0 on", "(got 123,456,789,012)"],
        status=2,
    ),
    Case(
        name="no labels",
        make=lambda root: labelled(root, "", ""),
        data=TABLE,
        says=["clips.csv: has no row with a class; name another column"],
        status=2,
    ),
    # Paths
    Case(
        name="a folder with leading zeros",
        make=lambda root: (
            images(root / "000012", "%05d.png", range(1, 6)), texts(root, {"clips.csv": "path,label\n000012,0\n"}),
        ),
        data=TABLE | {"splits": "none"},
        frames={"000012": range(1, 6)},
    ),
    Case(
        name="no path, and cells too few and too many",
        make=lambda root: csv(
            root, "path,label,split\na.mp4,0,train\n,0,train\nb.mp4,1\nc.mp4,1,train,x\nd.mp4,1,train,,\n"
        ),
        data=TABLE | {"max_faults": 3},
        rows=classes("0", "", "", "1"),
        says=[
            "clips.csv:3: : has no path or no label", "clips.csv:4: b.mp4: has 2 cells, and the first line 3",
            "clips.csv:5: c.mp4: has 4 cells, and the first line 3",
        ],
    ),
    # Columns
    Case(
        name="the column splits",
        make=lambda root: labelled(root, "0", "1", header="path,label,splits"),
        data=TABLE,
        rows=classes("0", "1"),
    ),
    Case(
        name="usual names of splits",
        make=lambda root: csv(
            root,
            "path,label,split\na.mp4,x,training\nb.mp4,x,Valid\nc.mp4,x,TEST\nd.mp4,x,dev\ne.mp4,x,train_set\n",
        ),
        data=TABLE,
        rows=[
            ("a.mp4", "x", "train"), ("b.mp4", "x", "val"), ("c.mp4", "x", "test"), ("d.mp4", "x", "val"),
            ("e.mp4", "x", "train"),
        ],
    ),
    Case(
        name="columns First and Last",
        make=lambda root: ranges(root, "2,3", header="path,label,split,First,Last"),
        data=TABLE,
        frames={"a.mp4": [2, 3]},
    ),
    Case(
        name="clips of a group are held out together",
        make=lambda root: csv(
            root, "path,label,split,who\n" + "".join(f"{name}.mp4,x,train,{name < 'd'}\n" for name in NAMES)
        ),
        data=TABLE | {"group": "who", "val_share": 0.5},
        rows=[(f"{name}.mp4", "x", "val" if name < "d" else "train") for name in NAMES],
    ),
    Case(
        name="no column of splits",
        make=lambda root: labelled(root, "0", "1", header="path,label,part"),
        data=TABLE,
        says=["data.splits: ", "name one of path, label, part, or none (got split)"],
        status=2,
    ),
    Case(
        name="a column twice",
        make=lambda root: labelled(root, "0", "1", header="path,label,split,label"),
        data=TABLE,
        says=["data.label: ", "has 2 columns of this name; rename one of them (got label)"],
        status=2,
    ),
    Case(
        name="another column twice",
        make=lambda root: csv(root, "path,x,label,x,split\na.mp4,,0,,train\n"),
        data=TABLE,
        rows=classes("0"),
    ),
    Case(
        name="blanks around commas",
        make=lambda root: csv(root, 'path , label, split\na.mp4, 1, train\n"b.mp4", "0", "train"\n'),
        data=TABLE,
        rows=classes("1", "0"),
    ),
    Case(
        name="an unknown split",
        make=lambda root: csv(root, "path,label,split\na.mp4,0,train\nb.mp4,1,holdout\n"),
        data=TABLE,
        says=["clips.csv:3: b.mp4: unknown split: holdout"],
        status=2,
    ),
    # Ranges of frames
    Case(
        name="columns first and last without a key",
        make=lambda root: ranges(root, "2,4", ",", "5,", ",3", "6.0,7.0"),
        data=TABLE,
        frames={
            "a.mp4": range(2, 5), "b.mp4": range(12), "c.mp4": range(5, 12), "d.mp4": range(4), "e.mp4": [6, 7],
        },
    ),
    Case(
        name="columns first and last that are not used",
        make=lambda root: ranges(root, "2,4"),
        data=TABLE | {"first": "none", "last": "none"},
        frames={"a.mp4": range(12)},
    ),
    Case(
        name="a column of frames",
        make=lambda root: ranges(root, ",,12", ",,40", "2,4,12", ",,", header="path,label,split,first,last,frames"),
        data=TABLE | {"max_faults": 1},
        frames={"a.mp4": range(12), "b.mp4": range(12), "c.mp4": [2, 3, 4], "d.mp4": range(12)},
        says=["1 of 4 rows have problems", "b.mp4: fewer frames than stated: 12 of 40"],
    ),
    Case(
        name="ranges that are wrong",
        make=lambda root: ranges(root, "-3,4", "8,3", "soon,4", "0,99999999999999999999", "0,1.5", "0,11"),
        data=TABLE | {"max_faults": 5},
        frames={"f.mp4": range(12)},
        says=[
            "clips.csv:2: a.mp4: frames are counted from 0: -3, 4",
            "clips.csv:3: b.mp4: last frame is before the first: 8, 3",
            "clips.csv:4: c.mp4: frames are no whole numbers: soon, 4",
            "clips.csv:5: d.mp4: frames are counted from 0: 0, 99999999999999999999",
            "clips.csv:6: e.mp4: frames are no whole numbers: 0, 1.5",
        ],
    ),
    Case(
        name="ranges beyond the end",
        make=lambda root: ranges(root, "0,400", "400,500", ",400", "400,", "0,11"),
        data=TABLE,
        says=[
            "4 of 5 rows have problems (2 unreadable file, 2 fewer frames than stated)",
            "a.mp4: fewer frames than stated: 12 of 401 from 0 on",
            "b.mp4: unreadable file: has 12 frames, and none from 400 on",
            "c.mp4: fewer frames than stated: 12 of 401",
            "d.mp4: unreadable file: has 12 frames, and none from 400 on",
        ],
        status=2,
    ),
    Case(
        name="last frames that are one too large",
        make=lambda root: ranges(root, "0,12", "0,11"),
        data=TABLE,
        frames={"a.mp4": range(12), "b.mp4": range(12)},
        says=["1 clips have a few frames more or less", "a.mp4: fewer frames than stated: 12 of 13 from 0 on"],
    ),
    # The form of the file
    Case(
        name="a byte order mark and ends of lines of Windows",
        make=lambda root: csv(root, b"\xef\xbb\xbfpath,label,split\r\na.mp4,0,train\r\n\r\nb.mp4,1,train\r\n"),
        data=TABLE,
        rows=classes("0", "1"),
    ),
    Case(
        name="Latin-1",
        make=lambda root: csv(root, "path,label,split\na.mp4,café,train\n".encode("latin1")),
        data=TABLE,
        says=["clips.csv: must be UTF-8 text, and line 2 has the byte 0xe9; save it as UTF-8"],
        status=2,
    ),
    Case(
        name="UTF-16",
        make=lambda root: csv(root, "path,label,split\na.mp4,run,train\n".encode("utf-16")),
        data=TABLE,
        says=["clips.csv: must be UTF-8 text, and has bytes of 0 as UTF-16 has; save it as UTF-8"],
        status=2,
    ),
    *(
        Case(
            name=f"separated by {name}",
            make=lambda root, mark=mark: csv(root, f"path{mark}label{mark}split\n"),
            data=TABLE,
            says=[f"columns must be separated by commas, and are by {name}; save it as CSV with commas"],
            status=2,
        )
        for mark, name in ((";", "';'"), ("\t", "tabs"), ("|", "'|'"))
    ),
    Case(
        name="an open quote",
        make=lambda root: csv(root, 'path,label,split\na.mp4,"run,train\nb.mp4,walk,train\n'),
        data=TABLE,
        says=["clips.csv: is not CSV (unexpected end of data, line 3)"],
        status=2,
    ),
    Case(
        name="an empty file",
        make=lambda root: csv(root, ""),
        data=TABLE,
        says=["clips.csv: is empty; its first line names the columns"],
        status=2,
    ),
    Case(
        name="a file of another kind",
        make=lambda root: texts(root, {"clips.xlsx": "PK"}),
        data=TABLE | {"file": "clips.xlsx"},
        says=["data.file: must be a .csv or a .parquet file; save it as CSV with commas (got clips.xlsx)"],
        status=2,
    ),
    # Parquet
    Case(
        name="Parquet: numbers",
        make=lambda root: parquet(root, [2, 0, None], first=[1, None, 3], last=[4.0, None, None]),
        data=PARQUET | {"max_faults": 1},
        labels=["0", "1", "2"],
        frames={"a.mp4": range(1, 5), "b.mp4": range(12)},
        says=["clips.parquet[2]: c.mp4: has no path or no label"],
    ),
    Case(
        name="Parquet: floats",
        make=lambda root: parquet(root, [10.0, 2.0, float("nan")]),
        data=PARQUET | {"max_faults": 1},
        labels=[str(label) for label in range(11)],
        rows=classes("10", "2"),
        says=["clips.parquet[2]: c.mp4: has no path or no label"],
    ),
    Case(
        name="Parquet: fractions",
        make=lambda root: parquet(root, [0.5, 2.0]),
        data=PARQUET,
        says=["labels must be names or whole numbers", "(got 0.5)"],
        status=2,
    ),
    Case(
        name="Parquet: true and false",
        make=lambda root: parquet(root, [True, False]),
        data=PARQUET,
        labels=["false", "true"],
        rows=classes("true", "false"),
    ),
    Case(
        name="Parquet: categories and numbers in a column of text are names",
        make=lambda root: parquet(root, pa.array(["10", "2", "10"]).dictionary_encode()),
        data=PARQUET,
        labels=["10", "2"],
        rows=classes("10", "2", "10"),
    ),
    Case(
        name="Parquet: lists of labels",
        make=lambda root: parquet(root, [[1, 2], [0]]),
        data=PARQUET,
        says=["column label must hold text or numbers, one in each row (got list<"],
        status=2,
    ),
    Case(
        name="Parquet: another file",
        make=lambda root: texts(root, {"clips.parquet": "PAR1 and no more"}),
        data=PARQUET,
        says=["clips.parquet: cannot be read: "],
        status=2,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_situation(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(case, tmp_path, caplog)

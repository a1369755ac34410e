"""Lists, tables and folders of any content: either the right rows come out, or a message for the user."""

import csv
import io
import json
import os
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from search.cli import main
from vattn.config import AnyData, DataConfig
from vattn.data.decode import ImageFolder, UnreadableFileError
from vattn.errors import UserError

#: Words that lists and tables are made of, and others that have surprised readers of them.
WORDS = [
    "a.mp4", "b.mp4", "d", "d/", "d/img_1.png", "gone.mp4", "./a.mp4", "../", "/", ".", "~nobody/x", "x" * 300, "\0",
    "\ufeff", "0", "1", "7", "007", "-1", "1.0", "0.5", "1e3", "nan", "inf", "9" * 30, "9" * 5000, "²", "٣", "true", "",
    "null", "[1, 2]", "1;2",
    "train", "val", "test", "path", "label", "split", "splits", "first", "last", '"', '""', "'",
    ",", ";", "|", "\t", " ", "\n", "\r\n", "\r", "\x0c", "\u2028", "youtube_id", "time_start", "time_end", "é",
    "video_validation_0000001",
]  # fmt: skip
mixed = st.lists(st.sampled_from([*WORDS, " ", "\n", ",", "\t"]), max_size=40).map("".join).map(str.encode)
anything = st.one_of(st.binary(max_size=200), mixed, mixed.map(lambda text: b"path,label,split,first,last\n" + text))
ADAPTER: TypeAdapter[DataConfig] = TypeAdapter(AnyData)
FILES = ("a.mp4", "b.mp4", "d/img_1.png", "d/img_2.png")


@contextmanager
def folder(files: dict[str, bytes]) -> Iterator[Path]:
    """Yield a folder with `FILES`, which are empty, and further files."""
    with tempfile.TemporaryDirectory() as root:
        for name, content in (dict.fromkeys(FILES, b"") | files).items():
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield Path(root)


def config(kind: str, root: Path, **options: Any) -> DataConfig:
    """Return a config that leaves out all rows with problems."""
    tree = {"kind": kind, "root": str(root), "max_faults": "100 %"} | options
    return ADAPTER.validate_json(json.dumps(tree))


def listed(data: DataConfig) -> list[dict[str, Any]] | None:
    """Return the rows of a data set, which must be right; None if it is refused with a message."""
    root = Path(data.root)
    try:
        labels = data.labels()
        rows = data.manifest(root).to_pylist()
    except UserError as error:
        str(error).encode()  # it can be printed
        return None
    assert rows
    for row in rows:
        assert os.path.lexists(root / row["path"])
        assert 0 <= row["label"] < len(labels)
        assert row["split"] in ("train", "val", "test")
        assert row["first"] is None or row["first"] >= 0
        assert row["last"] is None or row["last"] >= (row["first"] or 0)
    return rows


@given(train=anything, val=anything, names=anything)
def test_a_list_of_any_bytes(train: bytes, val: bytes, names: bytes) -> None:
    with folder({"train.txt": train, "val.txt": val, "names.txt": names}) as root:
        listed(config("list", root))
        listed(config("list", root, names="names.txt", val="none"))


@given(table=anything)
@example(table=b"path,label,split,first\na.mp4," + b"9" * 5000 + b",train,\nb.mp4,007,train," + b"0" * 30 + b"7")
def test_a_table_of_any_bytes(table: bytes) -> None:
    with folder({"clips.csv": table, "clips.parquet": table}) as root:
        for options in ({}, {"splits": "none"}, {"label": "path", "names": "clips.csv"}, {"first": "label"}):
            listed(config("table", root, file="clips.csv", **options))
        listed(config("table", root, file="clips.parquet"))


@given(
    data=st.data(),
    labels=st.lists(st.one_of(st.none(), st.integers(-1, 9), st.text(max_size=3)), min_size=1, max_size=9),
)
def test_a_damaged_parquet_table(data: st.DataObject, labels: list[Any]) -> None:
    labels = [None if label is None else str(label) for label in labels]
    file = io.BytesIO()
    pq.write_table(pa.table({"path": ["a.mp4"] * len(labels), "label": labels}), file)
    damaged = bytearray(file.getvalue())
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))

    with folder({"clips.parquet": bytes(damaged[: data.draw(st.integers(0, len(damaged)))])}) as root:
        listed(config("table", root, file="clips.parquet", splits="none"))


@given(content=anything, other=anything)
@example(content=b'{"a": 1e999}', other=b"")
@example(content=b"[" * 100_000, other=b"")
@example(content=b"video_validation_0000001 0 " + b"9" * 5000, other=b"video_test_0000001 " + b"9" * 400 + b".5 1e9")
@example(content=b"label,youtube_id,time_start,time_end,split\nx,y,inf,nan,train", other=b"")
def test_the_lists_of_every_layout_of_any_bytes(content: bytes, other: bytes) -> None:
    names = {
        "kinetics": ("train.csv", "annotations/val.csv"),
        "ssv1": ("something-something-v1-labels.csv", "something-something-v1-train.csv"),
        "ssv2": ("labels/labels.json", "labels/train.json"),
        "ucf101": ("classInd.txt", "trainlist01.txt"),
        "hmdb51": ("run_test_split1.txt", "walk_test_split1.txt"),
        "thumos14": ("annotation/Run_val.txt", "annotation/Walk_test.txt"),
    }
    rest = {
        "something-something-v1-validation.csv": b"d;x", "labels/validation.json": b'[{"id": "a", "template": "x"}]',
        "testlist01.txt": b"a/a.avi",
    }  # fmt: skip
    for kind, (first, second) in names.items():
        with folder(rest | {first: content, second: other}) as root:
            listed(config(kind, root))


file_names = st.one_of(
    st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")),
    st.from_regex(rb"(img_?|flow_[xy]_?|\._)?[0-9]{0,5}\.(jpg|PNG|txt|mp4)", fullmatch=True),
)


@given(classes=st.lists(file_names, max_size=4, unique=True), files=st.lists(file_names, max_size=8, unique=True))
def test_folders_with_files_of_any_names(classes: list[bytes], files: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as root:
        for name in classes:
            for clip in (b"clip", name):
                path = Path(root, os.fsdecode(name), os.fsdecode(clip))
                path.mkdir(parents=True)
                for file in files:
                    (path / os.fsdecode(file)).write_bytes(b"")
        listed(config("folders", Path(root)))
        for name in classes:
            for modality in ("rgb", "flow"):
                with suppress(UnreadableFileError):
                    assert ImageFolder(Path(root, os.fsdecode(name), "clip"), modality).clip()


clip_names = (
    st.text(st.sampled_from(string.ascii_letters + "é-_ ."), min_size=1, max_size=8).map(str.strip).filter(bool)
)


@pytest.mark.parametrize("separator", ["\t", " "])
@given(
    rows=st.lists(st.tuples(clip_names, st.none() | st.integers(1, 300), st.integers(0, 20)), min_size=1, max_size=10),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)
def test_a_list_gives_the_rows_that_were_written(
    separator: str, rows: list[tuple[str, int | None, int]], end: str
) -> None:
    names = [f"{name.replace(' ', '') if separator == ' ' else name}.mp4" for name, _, _ in rows]
    rows = list({name: (name, *row[1:]) for name, row in zip(names, rows, strict=True)}.values())
    lines = [separator.join(str(cell) for cell in row if cell is not None) for row in rows]

    with folder(dict.fromkeys((row[0] for row in rows), b"") | {"train.txt": end.join(lines).encode()}) as root:
        read = listed(config("list", root, val="none", max_faults=0))

    assert read is not None
    assert [(row["path"], row.get("frames"), row["label"]) for row in read] == rows


@given(
    rows=st.lists(
        st.tuples(clip_names, st.text(min_size=1, max_size=8), st.sampled_from(["train", "val", "test"])),
        min_size=1,
        max_size=10,
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_table_gives_the_rows_that_were_written(rows: list[tuple[str, str, str]], quoting: Any) -> None:
    # A name of other characters is one class, whatever it looks like.
    rows = [(f"{name}.mp4", f"class {label!r}", split) for name, label, split in rows]
    rows = list({row[0]: row for row in rows}.values())
    text = io.StringIO()
    csv.writer(text, quoting=quoting).writerows([("path", "label", "split"), *rows])

    with folder(dict.fromkeys((row[0] for row in rows), b"") | {"clips.csv": text.getvalue().encode()}) as root:
        data = config("table", root, file="clips.csv", max_faults=0, val_share=0.01)
        read = listed(data)

    assert read is not None
    labels = data.labels()
    assert {(row["path"], labels[row["label"]]) for row in read} == {row[:2] for row in rows}
    assert {row["path"] for row in read if row["split"] == "test"} == {row[0] for row in rows if row[2] == "test"}


SPEC = """\
schema: 1
name: any-bytes
trial:
  data: {{kind: {kind}, root: {root}, store: {{size: 48}}}}
  model: {{frames: 4, size: 48, backbone: {{kind: resnet, depth: 10}}}}
  train: {{epochs: 2, batch: 4, lr: 0.1}}
search: {{budget: {{trials: 2}}}}
"""


@pytest.mark.medium
@given(content=anything)
def test_vattn_check_ends_with_status_0_or_2(content: bytes) -> None:
    with folder({"train.txt": content, "val.txt": content, "clips.csv": content}) as root:
        for kind in ("list", "table, file: clips.csv"):
            (root / "spec.yaml").write_text(SPEC.format(kind=kind, root=root))
            with redirect_stderr(io.StringIO()) as stderr, redirect_stdout(io.StringIO()):
                status = main(["check", str(root / "spec.yaml")])
            assert status in (0, 2)
            assert "Traceback" not in stderr.getvalue()
            assert status == 0 or stderr.getvalue()

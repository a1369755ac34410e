"""Data-set layouts: small sets as their owners publish them, and everything that can be wrong with one."""

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from pydantic import TypeAdapter, ValidationError

from vattn.canonical import trial_id
from vattn.config import AnyData, DataConfig, TrialConfig
from vattn.data import open_clips
from vattn.data.decode import read_video
from vattn.data.ingest import ingest
from vattn.data.motion import encode, render

Rows = set[tuple[str, str, str]]


def config(kind: str, root: Path, **options: Any) -> DataConfig:
    return TypeAdapter(AnyData).validate_json(json.dumps({"kind": kind, "root": str(root)} | options))


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def table(data: DataConfig) -> list[dict[str, Any]]:
    return data.manifest(Path(data.root)).to_pylist()


def rows(data: DataConfig) -> Rows:
    """Path, name of the class, split of each row."""
    names = dict(enumerate(data.labels()))
    return {(row["path"], names[row["label"]], row["split"]) for row in table(data)}


# Kinetics


def kinetics(root: Path, classes: int = 400) -> list[str]:
    """A set with one training clip and one validation clip a class; return the lines of its lists."""
    lines = ["label,youtube_id,time_start,time_end,split,is_cc"]
    for label in range(classes):
        lines += [f"class {label:03},id_{label:07},{label},{label + 10},{split},0" for split in ("train", "val")]
    lines[2::2] = [line.replace("id_", "va-") for line in lines[2::2]]
    videos = [
        f"{'train' if ',train,' in line else 'val'}/{line.split(',')[1]}_{int(line.split(',')[2]):06d}_"
        f"{int(line.split(',')[3]):06d}.mp4"
        for line in lines[1:]
    ]
    write(root, {"annotations/train.csv": "\n".join(lines[:1] + lines[1::2])} | dict.fromkeys(videos, ""))
    write(root, {"annotations/val.csv": "\n".join(lines[:1] + lines[2::2])})
    return lines


def test_kinetics_finds_videos_by_id_and_times(tmp_path: Path) -> None:
    kinetics(tmp_path)
    data = config("kinetics", tmp_path)

    manifest = table(data)

    assert data.num_classes() == 400
    assert data.labels()[7] == "class 007"
    assert manifest[7] == {
        "path": "train/id_0000007_000007_000017.mp4", "label": 7, "split": "train", "first": None, "last": None,
        "seconds": 10.0,
    }  # fmt: skip
    assert Counter(row["split"] for row in manifest) == {"train": 400, "val": 400}


def test_kinetics_without_labels_of_the_test_split_passes_it_over(tmp_path: Path) -> None:
    kinetics(tmp_path)
    write(tmp_path, {"annotations/test.csv": "youtube_id,time_start,time_end,split\nx,0,10,test\n"})

    assert Counter(row["split"] for row in table(config("kinetics", tmp_path))) == {"train": 400, "val": 400}


def test_the_wrong_kinetics_is_refused(tmp_path: Path) -> None:
    kinetics(tmp_path)

    with pytest.raises(ValueError, match=r"data\.classes: .* \(got 600, and 400 in the lists\)"):
        config("kinetics", tmp_path, classes=600).num_classes()
    with pytest.raises(ValueError, match=r"data\.root: .*: has no list of clips"):
        config("kinetics", tmp_path / "val").num_classes()


def test_missing_videos_are_counted_named_and_refused_above_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinetics(tmp_path)
    for label in (3, 5):
        (tmp_path / f"train/id_{label:07}_{label:06}_{label + 10:06}.mp4").unlink()

    with pytest.raises(ValueError, match="at fault") as error:
        table(config("kinetics", tmp_path, max_faults=1))
    assert str(error.value).splitlines() == [
        f"data.max_faults: {tmp_path}: 2 of 800 rows are at fault (2 missing file); correct them, or leave them out "
        "with data.max_faults: 2 (got 1)",
        "  train.csv:5: id_0000003_000003_000013: missing file",
        "  train.csv:7: id_0000005_000005_000015: missing file",
    ]

    with caplog.at_level(logging.WARNING):
        assert len(table(config("kinetics", tmp_path, max_faults=2))) == 798
    assert "2 of 800 rows are at fault (2 missing file); they are left out" in caplog.text


def test_a_clip_with_two_files_is_a_fault(tmp_path: Path) -> None:
    kinetics(tmp_path)
    write(tmp_path, {"more/id_0000000_000000_000010.mkv": ""})

    with pytest.raises(ValueError, match=r"several files: more/id_0000000_000000_000010\.mkv, train/id_0000000"):
        table(config("kinetics", tmp_path))


# Something-Something


def test_something_something_v1_numbers_labels_by_the_labels_file(tmp_path: Path) -> None:
    name = "something-something-v1"
    write(
        tmp_path,
        {
            f"{name}-labels.csv": "Pushing something\nHolding something\n",
            f"{name}-train.csv": "1;Holding something\n2;Pushing something\n",
            f"{name}-validation.csv": "33;Holding something\n",
            f"20bn-{name}/1/00001.jpg": "",
            f"20bn-{name}/2/00001.jpg": "",
            f"20bn-{name}/33/00001.jpg": "",
        },
    )

    manifest = table(config("ssv1", tmp_path))

    assert [(row["path"], row["label"], row["split"], row["first"], row["last"]) for row in manifest] == [
        (f"20bn-{name}/1", 1, "train", 1, None),
        (f"20bn-{name}/2", 0, "train", 1, None),
        (f"20bn-{name}/33", 1, "val", 1, None),
    ]


def ssv2(root: Path, *train: str) -> DataConfig:
    labels = {"Pushing something from left to right": "1", "Pushing something from right to left": "0",
              "Turning something leftwards": "2", "Putting something left": "3"}  # fmt: skip
    entries = [{"id": str(i), "label": "pushing a cup", "template": text} for i, text in enumerate(train)]
    write(
        root,
        {
            "labels/labels.json": json.dumps(labels),
            "labels/train.json": json.dumps(entries),
            "labels/validation.json": json.dumps([{"id": "9", "template": "Turning [something] leftwards"}]),
            "20bn-something-something-v2/9.webm": "",
        }
        | {f"20bn-something-something-v2/{i}.webm": "" for i in range(len(train))},
    )
    return config("ssv2", root)


def test_something_something_v2_takes_templates_without_brackets(tmp_path: Path) -> None:
    data = ssv2(tmp_path, "Pushing [something] from left to right", "Pushing [something] from right to left")

    assert [(row["path"][28:], row["label"], row["split"]) for row in table(data)] == [
        ("0.webm", 1, "train"), ("1.webm", 0, "train"), ("9.webm", 2, "val"),
    ]  # fmt: skip


def test_an_unknown_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.json\[0\]: .*0\.webm: unknown label: Eating something"):
        table(ssv2(tmp_path, "Eating [something]"))


def test_labels_that_are_not_numbered_through_are_refused(tmp_path: Path) -> None:
    data = ssv2(tmp_path)
    write(tmp_path, {"labels/labels.json": '{"a": "0", "b": "2"}'})

    with pytest.raises(ValueError, match=r"labels\.json: must number templates from 0 on"):
        data.num_classes()


def test_mirrored_classes_change_sides_by_their_names(tmp_path: Path) -> None:
    # Left to right is right to left; leftwards is a word of its own; there is no class "Putting something right".
    assert ssv2(tmp_path).mirrored() == [1, 0, 2, -1]


# UCF101 and HMDB51


def ucf101(root: Path) -> DataConfig:
    lists = root / "ucfTrainTestlist"
    names = [f"v_{name}_g{group:02}_c{clip:02}" for name in ("Archery", "Biking") for group in range(1, 12)
             for clip in (1, 2)]  # fmt: skip
    paths = {name: f"{name.split('_')[1]}/{name}.avi" for name in names}
    test = [name for name in names if "_g01_" in name]
    write(
        lists,
        {
            "classInd.txt": "1 Archery\r\n2 Biking\r\n",
            "trainlist01.txt": "\n".join(f"{paths[n]} {1 + ('Bik' in n)}" for n in names if n not in test),
            "testlist01.txt": "\n".join(paths[n] for n in test),
        },
    )
    write(root, {f"UCF-101/{path}": "" for path in paths.values()})
    return config("ucf101", root)


def test_ucf101_keeps_whole_groups_of_the_training_list_for_validation(tmp_path: Path) -> None:
    data = ucf101(tmp_path)

    manifest = table(data)

    assert data.labels() == ("Archery", "Biking")
    by_split = {split: [row["path"] for row in manifest if row["split"] == split] for split in ("train", "val", "test")}
    # 10 groups a class, of which a tenth is one; 2 clips a group.
    assert {split: len(paths) for split, paths in by_split.items()} == {"train": 36, "val": 4, "test": 4}
    groups = {split: {path[:-8] for path in paths} for split, paths in by_split.items()}
    assert not groups["train"] & groups["val"]
    assert all(row["label"] == ("Biking" in row["path"]) for row in manifest)
    assert table(data) == manifest


def test_a_label_that_is_not_that_of_the_folder_is_a_fault(tmp_path: Path) -> None:
    data = ucf101(tmp_path)
    path = tmp_path / "ucfTrainTestlist/trainlist01.txt"
    path.write_text(path.read_text().replace("v_Archery_g02_c01.avi 1", "v_Archery_g02_c01.avi 2"))

    with pytest.raises(ValueError, match=r"trainlist01\.txt:1: .*: label is not that of its folder: 2"):
        table(data)


def test_a_file_in_two_splits_is_named_and_evaluation_keeps_it(tmp_path: Path) -> None:
    data = ucf101(tmp_path)
    path = tmp_path / "ucfTrainTestlist/trainlist01.txt"
    path.write_text("Biking/v_Biking_g01_c01.avi 2\n" + path.read_text())

    with pytest.raises(ValueError, match=r"trainlist01\.txt:1: .*: in train and test: also testlist01\.txt:3"):
        table(data)
    tolerant = rows(config("ucf101", tmp_path, max_faults=1))
    assert {split for path, _, split in tolerant if "Biking_g01_c01" in path} == {"test"}


def test_hmdb51_lists_say_train_test_or_unused(tmp_path: Path) -> None:
    lists = "testTrainMulti_7030_splits"
    films = [f"Film{number}_wave_u_nm_np1_fr_med_{clip}" for number in range(4) for clip in (0, 1)]
    lines = [f"{film}.avi {1 if film < 'Film3' else clip}" for clip, film in zip([0, 0, 0, 0, 0, 0, 2, 0], films)]  # noqa: B905
    write(
        tmp_path,
        {
            f"{lists}/wave_test_split2.txt": "".join(f"{line} \n" for line in lines),
            f"{lists}/wave_test_split1.txt": "other.avi 1\n",
            f"{lists}/brush_hair_test_split2.txt": "a_brush_hair_u_0.avi 2\n",
            "brush_hair/a_brush_hair_u_0.avi": "",
        }
        | {f"wave/{film}.avi": "" for film in films},
    )
    data = config("hmdb51", tmp_path, split=2)

    found = table(data)

    assert data.labels() == ("brush_hair", "wave")
    assert Counter(row["split"] for row in found) == {"train": 4, "val": 2, "test": 2}  # one of three films
    held = {row["path"][:10] for row in found if row["split"] == "val"}
    assert len(held) == 1
    assert not held & {row["path"][:10] for row in found if row["split"] == "train"}


# THUMOS14


def thumos14(root: Path, **lists: str) -> DataConfig:
    """A set with three videos of two seconds at 12 frames a second."""
    write(root, {f"annotation/{name}.txt": text for name, text in lists.items()})
    for name in ("video_validation_0000001", "video_validation_0000002", "video_test_0000004"):
        (root / "videos").mkdir(exist_ok=True)
        encode(root / f"videos/{name}.mp4", render(0, np.random.default_rng(0), 24, 32))
    return config("thumos14", root, store={"size": 32})


def test_thumos14_takes_segments_of_videos_and_trains_on_the_owners_validation(tmp_path: Path) -> None:
    one, two, three = "video_validation_0000001", "video_validation_0000002", "video_test_0000004"
    data = thumos14(
        tmp_path,
        CliffDiving_val=f"{one}  0.5 1.0\n", CliffDiving_test="", Ambiguous_val=f"{two} 0.1 0.2\n",
        Diving_val=f"{one} 0.5 1.0\n{two} 0.0 0.3\n{two} 0.5 9.0\n", Diving_test=f"{three}  0.25 0.9\n",
    )  # fmt: skip

    found = table(data)

    assert data.labels() == ("CliffDiving", "Diving")
    # 0.5 s is frame 6, and before 1.0 s is frame 11; 0.25 s is 3, 0.9 s is 10.8.
    assert [(row["path"], row["label"], row["split"], row["first"], row["last"]) for row in found] == [
        (f"videos/{one}.mp4", 0, "train", 6, 11),
        (f"videos/{three}.mp4", 1, "test", 3, 10),
        (f"videos/{two}.mp4", 1, "train", 0, 3),
        (f"videos/{two}.mp4", 1, "train", 6, 107),
    ]
    assert found[0]["seconds"] == 0.5
    clips = open_clips(ingest(data.manifest(tmp_path), tmp_path, tmp_path / "cache", data.store, jobs=1), "train")
    assert clips.shapes[:, 0].tolist() == [6, 4, 18]  # a segment ends with its video
    np.testing.assert_array_equal(clips.clip(2), read_video(tmp_path / f"videos/{two}.mp4", 32)[6:])


def test_faults_in_lists_of_segments_are_named(tmp_path: Path) -> None:
    one = "video_validation_0000001"
    data = thumos14(
        tmp_path, Diving_val=f"{one} 0.5 1.0\n{one} 0.5\n{one} 1.0 0.5\nvideo_validation_9 0 1\n{one} 0.5 1.0\n"
    )
    (tmp_path / "videos/video_validation_0000002.mp4").write_text("text")
    write(tmp_path, {"annotation/Diving_test.txt": "video_validation_0000002 0 1\n"})

    with pytest.raises(ValueError, match="5 of 6 rows are at fault") as error:
        table(data)

    assert str(error.value).splitlines()[1:] == [
        "  Diving_test.txt:1: videos/video_validation_0000002.mp4: cannot be read: Invalid data found when processing "
        "input",
        f"  Diving_val.txt:2: {one} 0.5: is not VIDEO SECONDS SECONDS",
        f"  Diving_val.txt:3: videos/{one}.mp4: ends before it starts: {one} 1.0 0.5",
        "  Diving_val.txt:4: video_validation_9: missing file",
        f"  Diving_val.txt:5: videos/{one}.mp4: listed twice: also Diving_val.txt:1",
    ]


# Folders, lists, tables


def test_class_folders_with_and_without_splits(tmp_path: Path) -> None:
    write(
        tmp_path, {f"split/{s}/{c}/0.mp4": "" for s in ("train", "val") for c in ("b", "a")} | {"split/val/c/1.avi": ""}
    )
    write(tmp_path, {f"plain/{c}/{i}.mp4": "" for c in ("b", "a") for i in range(5)} | {"plain/a/notes.txt": ""})
    write(tmp_path, {"plain/.hidden/0.mp4": "", "plain/a/frames/00001.jpg": ""})

    assert rows(config("folders", tmp_path / "split")) == {
        ("train/a/0.mp4", "a", "train"), ("train/b/0.mp4", "b", "train"), ("val/a/0.mp4", "a", "val"),
        ("val/b/0.mp4", "b", "val"), ("val/c/1.avi", "c", "val"),
    }  # fmt: skip
    plain = rows(config("folders", tmp_path / "plain", val_share=0.4))
    assert {path for path, _, _ in plain} == {f"{c}/{i}.mp4" for c in "ab" for i in range(5)} | {"a/frames"}
    # 0.4 of 6 is 2, of 5 is 2.
    assert Counter((name, split) for _, name, split in plain) == {
        ("a", "train"): 4, ("a", "val"): 2, ("b", "train"): 3, ("b", "val"): 2,
    }  # fmt: skip


def test_the_three_forms_of_a_list(tmp_path: Path) -> None:
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

    found = [tuple(row.values())[:5] for row in table(data)]

    assert data.labels() == ("0", "1", "2")
    assert found == [
        ("a.mp4", 0, "train", None, None),
        ("b.mp4", 1, "train", None, None),  # a video has the frames that it has
        ("frames", 2, "train", 1, 30),
        ("frames", 0, "train", 31, 50),
        ("my film.mp4", 1, "train", None, None),
        ("a2.mp4", 2, "val", None, None),
    ]


def test_everything_wrong_with_a_list_is_counted_and_named(tmp_path: Path) -> None:
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

    with pytest.raises(ValueError, match="at fault") as error:
        table(config("list", tmp_path, names="classes.txt"))

    first, *lines = str(error.value).splitlines()
    assert "6 of 10 rows are at fault (2 in train and val, 1 listed twice, 1 label out of range" in first
    assert lines == [
        "  train.txt:2: a.mp4: listed twice: also train.txt:1, as zero",
        "  train.txt:3: b.mp4: label out of range: 2, of classes 0 to 1",
        "  train.txt:4: b.mp4: is not path label, path frames label, or folder first frames label",
        "  train.txt:5: gone.mp4: missing file",
        "  train.txt:6: c.mp4: in train and val: also val.txt:1",
        "  train.txt:8: frames: in train and val: also val.txt:2",
    ]


def test_a_table_has_columns_of_any_names(tmp_path: Path) -> None:
    write(tmp_path, {"clips.csv": "clip,what,part\na.mp4,run,train\nb.mp4,jump,val\n", "a.mp4": "", "b.mp4": ""})
    columns = {"path": "clip", "label": "what", "splits": "part"}

    named = config("table", tmp_path, file="clips.csv", **columns)

    assert named.labels() == ("jump", "run")
    assert rows(named) == {("a.mp4", "run", "train"), ("b.mp4", "jump", "val")}
    with pytest.raises(
        ValueError, match=r"data\.label: .* has no such column; name one of clip, what, part \(got label\)"
    ):
        config("table", tmp_path, file="clips.csv").num_classes()


def test_a_parquet_table_of_numbers_and_frames(tmp_path: Path) -> None:
    columns = {"path": ["a.mp4"] * 3, "label": [2, 0, 2], "from": [0, 50, 90], "to": [49, 89, 99]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "clips.parquet")
    write(tmp_path, {"a.mp4": ""})

    data = config("table", tmp_path, file="clips.parquet", splits="none", first="from", last="to", val_share=0.5)

    assert data.num_classes() == 3
    # One file is one source: cut in pieces, it is not validated with.
    assert [(row["label"], row["split"], row["first"], row["last"]) for row in table(data)] == [
        (2, "train", 0, 49), (0, "train", 50, 89), (2, "train", 90, 99),
    ]  # fmt: skip


# All


@pytest.mark.parametrize("kind", ["kinetics", "ssv1", "ssv2", "ucf101", "hmdb51", "folders", "list", "thumos14"])
def test_a_folder_without_the_sets_files_is_told(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^data\.\w+: {re.escape(str(tmp_path))}"):
        config(kind, tmp_path).num_classes()
    with pytest.raises(ValueError, match=rf"^data\.root: must be the folder of the {kind} files"):
        config(kind, tmp_path / "gone").num_classes()


def test_the_root_must_be_named() -> None:
    with pytest.raises(ValidationError, match="there is none to choose for you"):
        config("folders", Path("auto"))
    with pytest.raises(ValidationError, match="Field required"):
        TypeAdapter(AnyData).validate_json('{"kind": "folders"}')


def test_identity_does_not_depend_on_where_files_lie_but_on_which_they_are(tmp_path: Path) -> None:
    def identity(root: str, **data: Any) -> str:
        model = {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10}}
        train = {"epochs": 1, "batch": 4, "lr": 0.1}
        data = {"kind": "list", "root": root} | data
        return trial_id(TrialConfig.parse({"data": data, "model": model, "train": train}))

    assert identity("/a") == identity("/b", cache="/c", max_faults=3)
    assert identity("/a", train="/a/1.txt") == identity("/a", train="/b/1.txt") == identity("/c", train="1.txt")
    assert identity("/a", train="1.txt") != identity("/a", train="2.txt")


def test_a_root_is_the_same_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert config("folders", Path("videos")).root == str(tmp_path / "videos")

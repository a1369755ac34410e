import logging
from collections import Counter
from pathlib import Path

import pytest

from tests.vattn.data.layouts.support import config, table, write
from vattn.errors import UserError


def kinetics(root: Path, classes: int = 400) -> list[str]:
    """Write a set with a training clip and a validation clip of each class; return the lines of its lists."""
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


def test_videos_are_found_by_id_and_times(tmp_path: Path) -> None:
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


def test_linked_folders_that_form_a_loop_are_listed_once(tmp_path: Path) -> None:
    kinetics(tmp_path)
    (tmp_path / "train/loop").symlink_to("..")
    (tmp_path / "also").symlink_to("val")

    manifest = table(config("kinetics", tmp_path))

    assert Counter(row["path"].partition("/")[0] for row in manifest) == {"train": 400, "val": 400}


def test_rows_of_the_test_split_without_labels_are_skipped(tmp_path: Path) -> None:
    kinetics(tmp_path)
    write(tmp_path, {"annotations/test.csv": "youtube_id,time_start,time_end,split\nx,0,10,test\n"})

    assert Counter(row["split"] for row in table(config("kinetics", tmp_path))) == {"train": 400, "val": 400}


def test_lists_of_another_kinetics_are_rejected(tmp_path: Path) -> None:
    kinetics(tmp_path)

    with pytest.raises(UserError, match=r"data\.classes: .* \(got 600, and 400 in the lists\)"):
        config("kinetics", tmp_path, classes=600).num_classes()
    with pytest.raises(UserError, match=r"data\.root: .*: has no list of clips"):
        config("kinetics", tmp_path / "val").num_classes()


def test_missing_videos_are_counted_and_named_and_rejected_above_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinetics(tmp_path)
    for label in (3, 5):
        (tmp_path / f"train/id_{label:07}_{label:06}_{label + 10:06}.mp4").unlink()

    with pytest.raises(UserError, match="have problems") as error:
        table(config("kinetics", tmp_path, max_faults=1))
    assert str(error.value).splitlines() == [
        f"data.max_faults: {tmp_path}: 2 of 800 rows have problems (2 missing file); correct them, or leave them out "
        "with data.max_faults: 2 (got 1)",
        "  train.csv:5: id_0000003_000003_000013: missing file",
        "  train.csv:7: id_0000005_000005_000015: missing file",
    ]

    with caplog.at_level(logging.WARNING):
        assert len(table(config("kinetics", tmp_path, max_faults=2))) == 798
    assert "2 of 800 rows have problems (2 missing file); they are left out" in caplog.text


def test_a_clip_with_two_files_is_rejected(tmp_path: Path) -> None:
    kinetics(tmp_path)
    write(tmp_path, {"more/id_0000000_000000_000010.mkv": ""})

    with pytest.raises(UserError, match=r"several files: more/id_0000000_000000_000010\.mkv, train/id_0000000"):
        table(config("kinetics", tmp_path))

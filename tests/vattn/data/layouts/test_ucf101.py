from pathlib import Path

import pytest

from tests.vattn.data.layouts.support import config, rows, table, write
from vattn.config import DataConfig
from vattn.errors import UserError


def ucf101(root: Path) -> DataConfig:
    """Write a set of two classes with 11 groups of two clips each; group 1 is for testing."""
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


def test_whole_groups_of_the_training_list_are_held_out_for_validation(tmp_path: Path) -> None:
    data = ucf101(tmp_path)

    manifest = table(data)

    assert data.labels() == ("Archery", "Biking")
    by_split = {split: [row["path"] for row in manifest if row["split"] == split] for split in ("train", "val", "test")}
    # A tenth of the 10 training groups of a class is one group, of 2 clips.
    assert {split: len(paths) for split, paths in by_split.items()} == {"train": 36, "val": 4, "test": 4}
    groups = {split: {path[:-8] for path in paths} for split, paths in by_split.items()}
    assert not groups["train"] & groups["val"]
    assert all(row["label"] == ("Biking" in row["path"]) for row in manifest)
    assert table(data) == manifest


def test_a_label_that_differs_from_that_of_the_folder_is_rejected(tmp_path: Path) -> None:
    data = ucf101(tmp_path)
    path = tmp_path / "ucfTrainTestlist/trainlist01.txt"
    path.write_text(path.read_text().replace("v_Archery_g02_c01.avi 1", "v_Archery_g02_c01.avi 2"))

    with pytest.raises(UserError, match=r"trainlist01\.txt:1: .*: label is not that of its folder: 2"):
        table(data)


def test_a_file_in_two_splits_is_named_and_stays_in_the_evaluation_split(tmp_path: Path) -> None:
    data = ucf101(tmp_path)
    path = tmp_path / "ucfTrainTestlist/trainlist01.txt"
    path.write_text("Biking/v_Biking_g01_c01.avi 2\n" + path.read_text())

    with pytest.raises(UserError, match=r"trainlist01\.txt:1: .*: in train and test: also testlist01\.txt:3"):
        table(data)
    tolerant = rows(config("ucf101", tmp_path, max_faults=1))
    assert {split for path, _, split in tolerant if "Biking_g01_c01" in path} == {"test"}

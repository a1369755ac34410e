from collections import Counter
from pathlib import Path

from tests.vattn.data.layouts.support import config, rows, write


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

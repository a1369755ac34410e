import json
from pathlib import Path

import pytest

from tests.vattn.data.layouts.support import config, table, write
from vattn.config import DataConfig
from vattn.errors import UserError


def ssv2(root: Path, *train: str) -> DataConfig:
    """Write a set of four classes with a training clip of each template in ``train``."""
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


def test_brackets_of_templates_are_removed(tmp_path: Path) -> None:
    data = ssv2(tmp_path, "Pushing [something] from left to right", "Pushing [something] from right to left")

    assert [(row["path"][28:], row["label"], row["split"]) for row in table(data)] == [
        ("0.webm", 1, "train"), ("1.webm", 0, "train"), ("9.webm", 2, "val"),
    ]  # fmt: skip


def test_an_unknown_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.json\[0\]: .*0\.webm: unknown label: Eating something"):
        table(ssv2(tmp_path, "Eating [something]"))


def test_a_gap_in_the_numbers_of_labels_is_rejected(tmp_path: Path) -> None:
    data = ssv2(tmp_path)
    write(tmp_path, {"labels/labels.json": '{"a": "0", "b": "2"}'})

    with pytest.raises(UserError, match=r"labels\.json: must number templates from 0 on"):
        data.num_classes()


def test_classes_that_name_a_side_have_mirror_images(tmp_path: Path) -> None:
    # There is no class "... rightwards", and none "Putting something right".
    assert ssv2(tmp_path).mirrored() == [1, 0, -1, -1]


def test_a_labels_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    data = ssv2(tmp_path)
    write(tmp_path, {"labels/labels.json": "Pushing something"})

    with pytest.raises(UserError, match=r"data\.root: .*labels\.json: is not JSON"):
        data.num_classes()

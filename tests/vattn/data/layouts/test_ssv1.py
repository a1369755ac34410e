from pathlib import Path

from tests.vattn.data.layouts.support import config, table, write


def test_labels_are_numbered_by_the_labels_file(tmp_path: Path) -> None:
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

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.vattn.data.layouts.support import config, rows, table, write
from vattn.errors import UserError


def test_columns_can_have_any_names(tmp_path: Path) -> None:
    write(tmp_path, {"clips.csv": "clip,what,part\na.mp4,run,train\nb.mp4,jump,val\n", "a.mp4": "", "b.mp4": ""})
    columns = {"path": "clip", "label": "what", "splits": "part"}

    named = config("table", tmp_path, file="clips.csv", **columns)

    assert named.labels() == ("jump", "run")
    assert rows(named) == {("a.mp4", "run", "train"), ("b.mp4", "jump", "val")}
    with pytest.raises(
        UserError, match=r"data\.label: .* has no such column; name one of clip, what, part \(got label\)"
    ):
        config("table", tmp_path, file="clips.csv").num_classes()


def test_a_parquet_table_can_have_numbers_as_classes_and_ranges_of_frames(tmp_path: Path) -> None:
    columns = {"path": ["a.mp4"] * 3, "label": [2, 0, 2], "from": [0, 50, 90], "to": [49, 89, 99]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "clips.parquet")
    write(tmp_path, {"a.mp4": ""})

    data = config("table", tmp_path, file="clips.parquet", splits="none", first="from", last="to", val_share=0.5)

    assert data.num_classes() == 3
    # All clips of a file have one source, so none of them is held out.
    assert [(row["label"], row["split"], row["first"], row["last"]) for row in table(data)] == [
        (2, "train", 0, 49), (0, "train", 50, 89), (2, "train", 90, 99),
    ]  # fmt: skip

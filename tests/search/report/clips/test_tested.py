"""Results clip by clip: accuracy by class and length, against counts by hand."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.analysis.intervals import by_clips
from search.report.clips.format import clip_files, read_test
from search.report.clips.tested import class_gains
from search.report.page.tables import clip_tables
from tests.search.report.page.per_clip import write_test

LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_accuracy_by_class_and_by_length_is_counted(tmp_path: Path) -> None:
    # Right: 3 of 4 push, 1 of 4 pull, 2 of 2 turn.
    test = read_test(write_test(tmp_path / "base.parquet", LABELS, [0, 0, 0, 1, 1, 0, 0, 0, 2, 2]))

    assert test.accuracy == by_clips("top1", 0.6, 10)
    assert {test.classes[k]: found.value for k, found in test.by_class().items()} == {
        "push": 0.75, "pull": 0.25, "turn": 1.0,
    }  # fmt: skip
    # Clips of 10 to 100 frames in five parts of two.
    assert [(low, high, clips, found.value) for low, high, clips, found in test.by_length()] == [
        (10, 20, 2, 1.0), (30, 40, 2, 0.5), (50, 60, 2, 0.5), (70, 80, 2, 0.0), (90, 100, 2, 1.0),
    ]  # fmt: skip


def test_classes_that_gain_most_come_first(tmp_path: Path) -> None:
    base = write_test(tmp_path / "none.parquet", LABELS, [0, 0, 0, 1, 1, 0, 0, 0, 2, 2])
    other = write_test(tmp_path / "tam.parquet", LABELS, [0, 0, 0, 0, 1, 1, 1, 0, 0, 2])
    tests = [read_test(base), read_test(other)]

    gains = [(name, found.value) for name, _, _, found in class_gains(*tests)]
    assert gains == [("pull", 0.5), ("push", 0.25), ("turn", -0.5)]
    tables = {table.name: table for table in clip_tables(tests)}
    assert set(tables) == {"tests", "classes", "class-gains", "lengths-1", "lengths-2"}
    assert tables["class-gains"].rows[0][:3] == ["pull", "25.0 %", "75.0 %"]
    # 8 of 10 after 6 of 10: clips 3, 5 and 6 gained, clip 8 lost.
    gain = tables["tests"].rows[1][-1]
    assert gain.startswith("+20.0 points (")
    assert gain.endswith("; 3 clips gained, 1 lost")


def test_a_file_without_names_of_classes_counts_them(tmp_path: Path) -> None:
    test = read_test(write_test(tmp_path / "a.parquet", [0, 2], [0, 2], named=False))

    assert test.classes == ("class 0", "class 1", "class 2")


def test_files_are_found_in_the_folder_tests(tmp_path: Path) -> None:
    write_test(tmp_path / "tests" / "b.parquet", [0], [0])
    write_test(tmp_path / "tests" / "a.parquet", [0], [0])

    assert [file.name for file in clip_files(tmp_path)] == ["a.parquet", "b.parquet"]
    assert clip_files(tmp_path / "other") == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a"], "label": [0]}, "has no column scores"),
        ({"path": ["a"], "label": [7], "scores": [[1.0, 0.0]]}, "has 2 classes for 2 scores and labels up to 7"),
        ({"path": ["a", "b"], "label": [0, 0], "scores": [[1.0], [1.0, 0.0]]}, "a list of scores for each clip"),
        ({"path": [], "label": [], "scores": []}, "a list of scores for each clip"),
    ],
)
def test_a_file_of_another_form_is_refused(columns: dict[str, list[object]], message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "wrong.parquet")

    with pytest.raises(ValueError, match=rf"wrong\.parquet: .*{message}"):
        read_test(tmp_path / "wrong.parquet")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no")

    with pytest.raises(ValueError, match=r"text\.parquet: is not a Parquet file"):
        read_test(tmp_path / "text.parquet")

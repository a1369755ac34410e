"""How validation and test clips are held out from the training list."""

from collections import Counter, defaultdict
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.vattn.data.layouts.support import config, rows, write
from vattn.data.layouts import Row
from vattn.data.layouts._rows import hold_out


def row(source: str, label: int, clip: int = 0) -> Row:
    return Row(f"{source}-{clip}.mp4", label, "train", "")


def group(row: Row) -> str:
    return row.path.partition("-")[0]


def test_a_share_of_each_class_is_held_out_and_the_validation_split_stays(tmp_path: Path) -> None:
    write(tmp_path, {f"{c}/{i}.mp4": "" for c in "ab" for i in range(10)})

    without, both = (rows(config("folders", tmp_path, val_share=0.2, test_share=share)) for share in (0, 0.3))

    assert Counter((name, split) for _, name, split in both) == {
        ("a", "train"): 5, ("a", "val"): 2, ("a", "test"): 3, ("b", "train"): 5, ("b", "val"): 2, ("b", "test"): 3,
    }  # fmt: skip
    assert {clip for clip in both if clip[2] == "val"} == {clip for clip in without if clip[2] == "val"}


def test_a_test_split_of_the_data_set_stays_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, {f"{split}/a/{i}.mp4": "" for split in ("train", "test") for i in range(4)})

    clips = rows(config("folders", tmp_path, val_share=0.25, test_share=0.5))

    assert Counter(split for _, _, split in clips) == {"train": 3, "val": 1, "test": 4}


def test_the_groups_of_ucf101_stay_in_one_split(tmp_path: Path) -> None:
    names = [f"Run/v_Run_g{group:02}_c{clip:02}.avi" for group in range(1, 11) for clip in (1, 2)]
    lists = {"classInd.txt": "1 Run\n", "trainlist01.txt": "".join(f"{name} 1\n" for name in names[:-2])}
    write(tmp_path, dict.fromkeys(names, "") | lists | {"testlist01.txt": names[-1]})

    clips = rows(config("ucf101", tmp_path, val_share=0.2))

    splits = defaultdict(set)
    for path, _, split in clips:
        splits[path.rpartition("_")[0]].add(split)
    assert all(len(each) == 1 for each in splits.values())


@given(
    clips=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3)), max_size=60),
    shares=st.tuples(st.floats(0.01, 0.9), st.floats(0.01, 0.9)),
)
def test_no_source_is_in_two_splits_and_each_class_keeps_one(
    clips: list[tuple[int, int]], shares: tuple[float, float]
) -> None:
    before = [row(f"s{source}", label, number) for number, (source, label) in enumerate(clips)]

    after = hold_out(before, {"val": shares[0], "test": shares[1]}, group)

    splits, trained = defaultdict(set), {clip.label for clip in after if clip.split == "train"}
    for clip in after:
        splits[group(clip)].add(clip.split)
    assert all(len(each) == 1 for each in splits.values())
    assert trained == {label for _, label in clips}
    assert [clip._replace(split="train") for clip in after] == before


def test_a_source_of_two_classes_is_held_out_as_a_whole() -> None:
    # Each class has the shared source and one of its own; one of the two is held out.
    before = [row("shared", 0), row("shared", 1, 1), row("a", 0), row("b", 1)]

    after = hold_out(before, {"val": 0.5}, group)

    assert len({clip.split for clip in after if group(clip) == "shared"}) == 1
    assert {clip.label for clip in after if clip.split == "train"} == {0, 1}

from pathlib import Path
from typing import Any

import av
import pytest
from pydantic import ValidationError

from tests.vattn.data.support import Steps
from vattn.data.layouts.motion import MotionDataConfig, generate
from vattn.data.motion import LABELS
from vattn.errors import UserError


def motion(**changes: Any) -> MotionDataConfig:
    """Return the config of a small set."""
    small = {"train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 6, "size": 32}
    return MotionDataConfig.parse(small | changes)


def files(root: Path) -> dict[str, bytes]:
    """Return the content of all videos below ``root`` by path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.mp4"))}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("motion") / "set"
    generate(motion(), out, jobs=2)
    return out


def test_the_set_has_16_classes_in_three_splits_and_a_list_of_its_files(root: Path) -> None:
    table = motion().manifest(root).to_pylist()

    assert motion().num_classes() == len(LABELS) == len(set(LABELS)) == 16
    assert {row["path"] for row in table} == set(files(root))
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        assert [row["label"] for row in table if row["split"] == split] == sorted([*range(16)] * count)
    for row in table:
        name = LABELS[row["label"]]
        assert row["path"].startswith(f"{row['split']}/{name}/{name}_000")


@pytest.mark.medium
def test_files_depend_on_the_seed_and_not_on_the_number_of_processes(root: Path, tmp_path: Path) -> None:
    steps = Steps()
    generate(motion(), tmp_path / "again", jobs=1, progress=steps)
    generate(motion(seed=1), tmp_path / "other", jobs=1)

    assert files(tmp_path / "again") == files(root)
    reseeded = files(tmp_path / "other")
    assert reseeded.keys() == files(root).keys()
    assert all(content != reseeded[name] for name, content in files(root).items())
    assert steps == [("motion", done, 64) for done in range(1, 65)]


def test_every_frame_is_a_keyframe_of_h264(root: Path) -> None:
    for path in sorted(root.rglob("*_0000.mp4")):
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            frames = list(container.decode(video=0))
        assert len(frames) == 6
        assert {(frame.width, frame.height) for frame in frames} == {(32, 32)}
        assert all(frame.key_frame for frame in frames)


@pytest.mark.medium
def test_an_interrupted_set_is_completed_and_a_complete_one_is_left_as_it_is(tmp_path: Path) -> None:
    generate(motion(train_clips=1), tmp_path, jobs=1)
    before = files(tmp_path)
    kept, lost = (tmp_path / name for name in sorted(before)[:2])
    lost.unlink()
    lost.with_name(f".part-{lost.name}").write_bytes(b"half of a file")
    (tmp_path / "manifest.csv").unlink()
    written = kept.stat().st_mtime_ns
    with pytest.raises(UserError, match="has no complete motion set"):
        motion(train_clips=1).manifest(tmp_path)

    steps = Steps()
    for _ in range(2):
        generate(motion(train_clips=1), tmp_path, jobs=1, progress=steps)

    assert steps.done == [48]
    assert files(tmp_path) == before
    assert kept.stat().st_mtime_ns == written
    assert len(motion(train_clips=1).manifest(tmp_path)) == 48


@pytest.mark.medium
def test_a_set_that_was_interrupted_in_its_first_file_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".part-motion.json").write_text('{"ver')

    generate(motion(train_clips=1), tmp_path, jobs=1)

    assert len(motion(train_clips=1).manifest(tmp_path)) == 48
    assert not (tmp_path / ".part-motion.json").exists()


def test_a_folder_with_other_parameters_or_other_files_is_rejected(root: Path, tmp_path: Path) -> None:
    different = motion(seed=3, frames=8)
    with pytest.raises(UserError, match=r"holds a motion set of frames 6 \(asked for: 8\), seed 0 \(asked for: 3\)"):
        generate(different, root)
    with pytest.raises(UserError, match="holds a motion set of frames 6"):
        different.manifest(root)

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files, but not of a motion set"):
        generate(motion(), tmp_path)
    with pytest.raises(UserError, match=r"must be a folder, but .*notes\.txt is a file"):
        generate(motion(), tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["notes.txt"]


@pytest.mark.parametrize(("field", "value"), [("size", 33), ("size", 16), ("frames", 1), ("train_clips", 0)])
def test_sizes_that_cannot_be_drawn_are_rejected(field: str, value: int) -> None:
    with pytest.raises(ValidationError, match=field):
        motion(**{field: value})

from pathlib import Path

import numpy as np
import pytest

from tests.vattn.data.layouts.support import config, table, write
from tests.vattn.data.support import footage
from tests.vattn.situations.test_videos import encoded
from vattn.config import DataConfig
from vattn.data import open_clips
from vattn.data.decode import read_video
from vattn.data.ingest import ingest
from vattn.data.motion import encode, render
from vattn.errors import UserError


def thumos14(root: Path, **lists: str) -> DataConfig:
    """Write a set with three videos of two seconds at 12 frames per second."""
    write(root, {f"annotation/{name}.txt": text for name, text in lists.items()})
    for name in ("video_validation_0000001", "video_validation_0000002", "video_test_0000004"):
        (root / "videos").mkdir(exist_ok=True)
        encode(root / f"videos/{name}.mp4", render(0, np.random.default_rng(0), 24, 32))
    return config("thumos14", root, store={"size": 32})


def test_clips_are_segments_and_the_owners_validation_videos_are_for_training(tmp_path: Path) -> None:
    first, second, tested = "video_validation_0000001", "video_validation_0000002", "video_test_0000004"
    data = thumos14(
        tmp_path,
        CliffDiving_val=f"{first}  0.5 1.0\n", CliffDiving_test="", Ambiguous_val=f"{second} 0.1 0.2\n",
        Diving_val=f"{first} 0.5 1.0\n{second} 0.0 0.3\n{second} 0.5 9.0\n", Diving_test=f"{tested}  0.25 0.9\n",
    )  # fmt: skip

    manifest = table(data)

    assert data.labels() == ("CliffDiving", "Diving")
    # Frame 6 is shown at 0.5 s, and frame 11 before 1.0 s; 0.25 s is 3 frames, 0.9 s is 10.8 frames.
    assert [(row["path"], row["label"], row["split"], row["first"], row["last"]) for row in manifest] == [
        (f"videos/{first}.mp4", 0, "train", 6, 11),
        (f"videos/{tested}.mp4", 1, "test", 3, 10),
        (f"videos/{second}.mp4", 1, "train", 0, 3),
        (f"videos/{second}.mp4", 1, "train", 6, 107),
    ]
    assert manifest[0]["seconds"] == 0.5
    clips = open_clips(ingest(data.manifest(tmp_path), tmp_path, tmp_path / "cache", data.store, jobs=1), "train")
    assert clips.shapes[:, 0].tolist() == [6, 4, 18]  # a segment cannot extend beyond its video
    np.testing.assert_array_equal(clips.clip(2), read_video(tmp_path / f"videos/{second}.mp4", 32)[6:])


def test_seconds_in_a_video_of_variable_frame_rate_are_those_of_its_timestamps(tmp_path: Path) -> None:
    # 10 frames per second for 4 seconds, then 30: frame 40 is shown at 4 s, frame 70 at 5 s, frame 100 at 6 s.
    times = [100 * t for t in range(40)] + [4000 + round(t * 1000 / 30) for t in range(90)]
    name = "video_validation_0000001"
    write(tmp_path, {"annotation/Diving_val.txt": f"{name} 5 6\n{name} 3.9 4.05\n{name} 7.1 7.2\n{name} 6.5 99\n"})
    encoded(tmp_path / f"{name}.mp4", footage(130, height=32, width=48), times=times)

    data = config("thumos14", tmp_path, store={"size": 32}, max_faults=1)

    assert [(row["first"], row["last"]) for row in table(data)] == [(70, 99), (39, 41), (115, 129)]


def test_problems_in_lists_of_segments_are_named(tmp_path: Path) -> None:
    video = "video_validation_0000001"
    data = thumos14(
        tmp_path, Diving_val=f"{video} 0.5 1.0\n{video} 0.5\n{video} 1.0 0.5\nvideo_validation_9 0 1\n{video} 0.5 1.0\n"
    )
    (tmp_path / "videos/video_validation_0000002.mp4").write_text("text")
    write(tmp_path, {"annotation/Diving_test.txt": "video_validation_0000002 0 1\n"})

    with pytest.raises(UserError, match="5 of 6 rows have problems") as error:
        table(data)

    assert str(error.value).splitlines()[1:] == [
        "  Diving_test.txt:1: videos/video_validation_0000002.mp4: cannot be read: Invalid data found when processing "
        "input",
        f"  Diving_val.txt:2: {video} 0.5: is not VIDEO SECONDS SECONDS",
        f"  Diving_val.txt:3: videos/{video}.mp4: ends before it starts: {video} 1.0 0.5",
        "  Diving_val.txt:4: video_validation_9: missing file",
        f"  Diving_val.txt:5: videos/{video}.mp4: listed twice: also Diving_val.txt:1",
    ]

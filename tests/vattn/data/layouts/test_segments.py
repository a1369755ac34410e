"""Untrimmed videos: the layout segments, THUMOS'14 in whole videos, and the generated set."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.vattn.data.layouts.support import config, table, write
from tests.vattn.data.layouts.test_thumos14 import thumos14
from tests.vattn.data.support import footage as pictures
from tests.vattn.situations.test_videos import encoded
from tests.vattn.training.tasks.test_detection import trial
from vattn.data import open_clips, prepare
from vattn.data.layouts.motion_untrimmed import MotionUntrimmedDataConfig
from vattn.data.motion import encode, render
from vattn.data.summary import count_actions
from vattn.detection.videos import truth, videos
from vattn.errors import UserError
from vattn.trained.detector import read_untrimmed

CSV = """video,start,end,label,split
a.mp4,0.5,1.0,jump,train
b,0.0,0.4,run,validation
a,1.2,1.6,run,train
b,1.0,1.5,Ambiguous,val
"""


def footage(root: Path, *names: str, rate: float = 12) -> None:
    for name in names:
        (root / "videos").mkdir(exist_ok=True)
        seed = int.from_bytes(name.encode())  # two files of equal content are refused
        encode(root / f"videos/{name}.mp4", render(0, np.random.default_rng(seed), 24, 32), rate)


def test_a_csv_file_lists_the_actions(tmp_path: Path) -> None:
    write(tmp_path, {"actions.csv": CSV})
    footage(tmp_path, "a", "b")
    data = config("segments", tmp_path, store={"size": 32})

    rows = [(row["path"], row["split"]) for row in table(data)]
    actions = data.annotations(["videos/a.mp4", "videos/b.mp4"])

    assert data.labels() == ("jump", "run")
    assert rows == [("videos/a.mp4", "train"), ("videos/b.mp4", "val")]
    assert actions["videos/a.mp4"].instances.tolist() == [[0.5, 1.0, 0], [1.2, 1.6, 1]]
    assert actions["videos/b.mp4"].ambiguous.tolist() == [[1.0, 1.5]]
    assert count_actions(data, data.manifest(tmp_path))["train"].tolist() == [1, 1]


def test_activitynets_json_lists_the_actions(tmp_path: Path) -> None:
    database = {
        "a": {"subset": "training", "annotations": [{"segment": [0.5, 1.0], "label": "jump"}]},
        "b": {"subset": "validation", "annotations": [{"segment": [0, 0.4], "label": "run"}]},
        "c": {"subset": "unlabelled", "annotations": []},
    }
    write(tmp_path, {"actions.json": json.dumps({"version": "1.3", "database": database})})
    footage(tmp_path, "a", "b")
    data = config("segments", tmp_path, store={"size": 32})

    assert [(row["path"], row["split"]) for row in table(data)] == [("videos/a.mp4", "train"), ("videos/b.mp4", "val")]
    assert data.annotations(["videos/b.mp4"])["videos/b.mp4"].instances.tolist() == [[0, 0.4, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV.replace("1.0,jump", "0.2,jump"), "ends before it starts"),
        (CSV.replace("0.5,1.0,jump", "x,1.0,jump"), "time that is no number"),
        (CSV.replace("0.5,1.0,jump", "nan,1.0,jump"), "time out of range"),
        (CSV.replace("b,0.0", "missing,0.0"), "missing file"),
        (CSV.replace("validation", "later"), "split must be train, val or test"),
        (CSV.replace("label", "name"), "has no column label"),
    ],
)
def test_wrong_lists_are_refused(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, {"actions.csv": text})
    footage(tmp_path, "a", "b")

    with pytest.raises(UserError, match=message):
        table(config("segments", tmp_path, store={"size": 32}))


def test_two_lists_need_a_name(tmp_path: Path) -> None:
    write(tmp_path, {"one.csv": CSV, "two.csv": CSV})
    footage(tmp_path, "a", "b")

    with pytest.raises(UserError, match=r"one file \.csv or \.json"):
        table(config("segments", tmp_path, store={"size": 32}))
    assert len(table(config("segments", tmp_path, store={"size": 32}, file="two.csv"))) == 2


@pytest.mark.medium
def test_frames_are_those_shown_at_25_a_second_whatever_the_rate_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, {"actions.csv": CSV})
    footage(tmp_path, "a", "b", rate=50)
    data = config("segments", tmp_path, store={"size": 32})

    (video,) = videos(open_clips(prepare(data, tmp_path / "out"), "train"), data)

    # 24 frames at 50 a second are 12 at 25. Both actions begin after the end.
    assert video.frames == 12
    assert video.stored_frames(np.arange(14)).tolist() == [*range(0, 24, 2), 23, 23]
    assert not len(video.annotation.instances)


@pytest.mark.medium
def test_frames_are_those_shown_at_their_time_where_the_rate_varies(tmp_path: Path) -> None:
    write(tmp_path, {"actions.csv": CSV})
    footage(tmp_path, "b")
    # 10 frames a second for 1 s, then 50: frame 10 is shown at 1 s, frame 20 at 1.2 s, and the last one until 1.4 s.
    times = [100 * t for t in range(10)] + [1000 + 20 * t for t in range(20)]
    encoded(tmp_path / "videos/a.mp4", pictures(30, height=32, width=48), times=times)
    data = config("segments", tmp_path, store={"size": 32})
    cache = prepare(data, tmp_path / "out")

    video, constant = (videos(open_clips(cache, split), data)[0] for split in ("train", "val"))

    assert video.frames == 35
    # Of 25 frames a second, 2.5 show each slow frame, and each shows every second fast one.
    shown = [*(t * 4 // 10 for t in range(25)), *range(10, 30, 2)]
    assert video.stored_frames(np.arange(37)).tolist() == [*shown, 29, 29]
    assert video.annotation.instances.tolist() == [[0.5, 1.0, 0], [1.2, 1.4, 1]]
    assert not len(constant.moments)
    alone, _ = read_untrimmed(trial("rc3d").model_copy(update={"data": data}), tmp_path / "videos/a.mp4")
    assert alone.stored_frames(np.arange(35)).tolist() == shown


def test_a_slower_file_shows_each_frame_longer() -> None:
    from vattn.data.untrimmed import EMPTY
    from vattn.detection.videos import video_of

    # 10 frames at 12.5 a second.
    assert video_of("a", 10, 0.8, EMPTY, 25.0).stored_frames(np.arange(5)).tolist() == [0, 0, 1, 1, 2]


def test_whole_videos_of_thumos14_keep_what_is_in_two_classes(tmp_path: Path) -> None:
    first, second, tested = "video_validation_0000001", "video_validation_0000002", "video_test_0000004"
    thumos14(
        tmp_path,
        CliffDiving_val=f"{first}  0.5 1.0\n\n", CliffDiving_test="", Ambiguous_val=f"{second} 0.1 0.2\n",
        Diving_val=f"{first} 0.5 1.0\n{second} 0.0 0.3\n{second} 0.5 9.0\n", Diving_test=f"{tested}  0.25 0.9\n",
        Ambiguous_test="",
    )  # fmt: skip
    data = config("thumos14", tmp_path, store={"size": 32}, untrimmed=True)

    rows = [(row["path"], row["split"]) for row in table(data)]
    cliff = data.annotations([f"videos/{first}.mp4"])[f"videos/{first}.mp4"]
    other = data.annotations([f"videos/{second}.mp4"])[f"videos/{second}.mp4"]

    assert sorted(path for path, split in rows if split != "test") == [f"videos/{first}.mp4", f"videos/{second}.mp4"]
    assert {split for _, split in rows} == {"train", "val", "test"}
    assert cliff.instances.tolist() == [[0.5, 1.0, 0], [0.5, 1.0, 1]]
    assert other.ambiguous.tolist() == [[0.1, 0.2]]


@pytest.mark.medium
def test_times_after_the_end_of_a_video_are_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "video_validation_0000002"
    thumos14(
        tmp_path, Diving_val=f"{name} 0.5 9.0\nvideo_validation_0000001 3 4\n", Diving_test="video_test_0000004 0 1"
    )
    footage(tmp_path, "video_validation_0000001", name, "video_test_0000004")
    data = config("thumos14", tmp_path, store={"size": 32}, untrimmed=True)
    cache = prepare(data, tmp_path / "out")

    every = [video for split in ("train", "val") for video in videos(open_clips(cache, split), data)]

    assert sorted(video.annotation.instances.tolist() for video in every) == [[], [[0.5, 2.0, 0]]]
    assert "end after the video" in caplog.text


def test_generated_videos_have_background_at_both_ends_and_between_actions() -> None:
    data = MotionUntrimmedDataConfig()

    for video in data.planned():
        pieces = data.pieces(video)
        assert data.shortest <= sum(piece.frames for piece in pieces) <= data.longest
        assert pieces[0].label is None
        assert pieces[-1].label is None
        assert any(piece.label is not None for piece in pieces)
        for piece in pieces:
            assert piece.label is None or 16 <= piece.frames <= 64


def test_generated_videos_do_not_depend_on_each_other() -> None:
    small, large = (MotionUntrimmedDataConfig(train_videos=count) for count in (2, 5))

    assert small.pieces(small.planned()[1]) == large.pieces(large.planned()[1])
    assert truth([]).label.shape == (0,)

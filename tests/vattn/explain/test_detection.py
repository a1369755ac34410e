"""Pictures of what a detector finds in one video."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vattn.training.tasks.test_detection import trial
from vattn.config import TrialConfig
from vattn.data.decode import read_video
from vattn.data.layouts.motion import write_clip
from vattn.data.layouts.motion_untrimmed import MotionUntrimmedDataConfig
from vattn.errors import UserError
from vattn.explain.detection import Watched, draw_timeline, explain_detection, known_actions, watch, with_bars
from vattn.explain.evidence import Trained
from vattn.model import build_model


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, data = tmp_path_factory.mktemp("videos"), trial("rc3d").data
    assert isinstance(data, MotionUntrimmedDataConfig)
    write_clip(data, root, data.planned()[0])
    return root / data.planned()[0].path


def with_sta(kind: str) -> Trained:
    tree = trial(kind).tree()
    tree["model"]["attention"] = [{"kind": "sta", "stages": [4]}]
    config = TrialConfig.parse(tree)
    torch.manual_seed(0)
    net = build_model(config.model, 2).eval()
    return Trained(config, net, tuple(config.data.labels()))


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["rc3d", "scnn"])
def test_pictures_video_and_json_of_a_detector_with_sta(kind: str, video: Path, tmp_path: Path) -> None:
    model = with_sta(kind)

    files = explain_detection(model, video, tmp_path)

    assert [file.name for file in files] == ["timeline.png", "segments.mp4", "detections.json"]
    frames = read_video(video, 32)
    assert read_video(files[1], 48).shape[0] == len(frames)
    results = json.loads(files[2].read_text())["results"]
    assert list(results) == [str(video)]
    watched, _ = watch(model, video)
    assert watched.weights is not None
    assert watched.weights.shape == (len(frames),)
    # Sigmoids; every frame that a part sees has a weight.
    known = watched.weights[~np.isnan(watched.weights)]
    assert len(known) > len(frames) / 4
    assert ((known > 0) & (known < 1)).all()


def test_the_truth_is_known_of_a_video_of_the_data_set_only(video: Path, tmp_path: Path) -> None:
    data = trial("rc3d").data

    assert len(known_actions(data, video).instances)
    assert not len(known_actions(data, tmp_path / "other.mp4").instances)


def test_bars_have_the_colour_of_the_class_while_it_lasts(video: Path) -> None:
    model = with_sta("rc3d")
    data = model.config.data
    watched, frames = watch(model, video, known_actions(data, video))
    found = np.array([[1.0, 1.0, 2.0, 0.9], [2.0, 3.0, 4.0, 0.2]])
    watched = Watched(type(watched.detected)(watched.detected.videos, [found], 2, "thumos14"), None)

    barred = with_bars(frames, watched, 25.0)
    lowest = barred[:, -4, 0]

    # The best segment is from 1 s to 2 s; the other has less than half of its score.
    assert lowest[25:50].any(1).all()
    assert not lowest[:25].any()
    assert not lowest[50:].any()
    assert draw_timeline({"R-C3D": watched}, data.labels(), 25.0).axes[0].get_yticklabels()[0].get_text() == "truth"


def test_a_missing_video_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        watch(with_sta("rc3d"), tmp_path / "none.mp4")

"""Training and evaluation of detectors on generated untrimmed videos."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.detection.videos import truth, videos
from vattn.model import load_model
from vattn.training.checkpoint import Epoch
from vattn.training.fit import fit, score_test_split
from vattn.training.tasks.detecting import Detected, detect

CPU = torch.device("cpu")
DATA = {
    "kind": "motion_untrimmed", "motions": 2, "train_videos": 3, "val_videos": 2, "test_videos": 1, "size": 32,
    "store": {"size": 32}, "shortest": 112, "longest": 128, "augment": {"flip": True},
}  # fmt: skip
DETECTORS = {
    "rc3d": (64, {
        "kind": "rc3d", "channels": 8, "step": 32, "scales": [2, 4], "anchors": 16, "regions": 16, "proposals": 20,
    }, 2),
    "scnn": (8, {"kind": "scnn", "lengths": [16, 32]}, 16),
}  # fmt: skip


def trial(kind: str, **train: object) -> TrialConfig:
    frames, detector, batch = DETECTORS[kind]
    backbone = {"kind": "resnet3d", "depth": 10, "width": 0.125}
    return TrialConfig.parse(
        {
            "task": "detection", "data": DATA,
            "model": {"frames": frames, "size": 32, "backbone": backbone, "detector": detector},
            "train": {"epochs": 2, "batch": batch, "lr": 0.01, "clip_norm": 10.0} | train,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(trial("rc3d").data, tmp_path_factory.mktemp("untrimmed"))


@pytest.mark.medium
@pytest.mark.parametrize("kind", DETECTORS)
def test_an_interrupted_training_ends_as_one_that_was_not(kind: str, cache: Path, tmp_path: Path) -> None:
    config = trial(kind)

    whole = [epoch.metrics for epoch in fit(config, cache, tmp_path / "whole", CPU, keep_best=True)]
    with closing(cast(Generator[Epoch], fit(config, cache, tmp_path / "broken", CPU))) as broken:
        next(broken)
    resumed = [epoch.metrics for epoch in fit(config, cache, tmp_path / "broken", CPU)]

    assert resumed == whole
    weights = [torch.load(tmp_path / name / "model.pt") for name in ("whole", "broken")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert {"map", "map_0.1", "map_0.5", "recall", "train_loss"} <= whole[-1].keys()
    best = torch.load(tmp_path / "whole" / "best.pt")
    assert best["map"] == max(metrics["map"] for metrics in whole)
    # The written weights give the metrics of the last epoch, and the test split has its own.
    net = load_model(config.model, 2, tmp_path / "whole" / "model.pt")
    assert detect(net, open_clips(cache, "val"), config, CPU).metrics["map"] == whole[-1]["map"]
    assert 0 <= score_test_split(config, cache, tmp_path / "whole", CPU)["map"] <= 1


def test_the_truth_as_detections_is_perfect_and_no_detection_is_worth_nothing(cache: Path) -> None:
    config = trial("rc3d")
    every = videos(open_clips(cache, "val"), config.data)
    labelled = [np.column_stack([v.annotation.instances[:, 2] + 1, v.annotation.instances[:, :2]]) for v in every]
    perfect = [np.column_stack([rows, np.ones(len(rows))]) for rows in labelled]

    assert Detected(every, perfect, 2, "thumos14").metrics == dict.fromkeys(
        ["map", "map_0.1", "map_0.2", "map_0.3", "map_0.4", "map_0.5", "recall"], 1.0
    )
    assert set(Detected(every, [np.empty((0, 4))] * len(every), 2, "thumos14").metrics.values()) == {0.0}


def test_actions_are_where_the_motions_are(cache: Path) -> None:
    config = trial("rc3d")
    every = videos(open_clips(cache, "train"), config.data)

    instances = truth(every)

    assert len(instances.label)
    assert all(video.frames == video.stored for video in every)
    lengths = (instances.end - instances.start) * 25
    assert lengths.min() >= 16 - 1e-6
    assert lengths.max() <= 64 + 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "classification"}, "model.detector: finds segments"),
        ({"model": {"detector": "none"}}, "must be rc3d or scnn"),
        ({"data": {"kind": "motion"}}, "must be whole videos"),
        ({"train": {"label_smoothing": 0.1}}, "train.label_smoothing: task detection does not have it"),
        ({"data": {"views": {"clips": 3}}}, "data.views.clips: task detection does not have it"),
        ({"data": {"augment": {"mixup": 0.2}}}, "data.augment.mixup: task detection does not have it"),
    ],
)
def test_what_the_task_cannot_have_is_refused(changes: dict, message: str) -> None:
    tree = trial("rc3d").tree()
    for section, values in changes.items():
        if values == {"kind": "motion"}:
            tree["data"] = {"kind": "motion"}
        else:
            tree[section] = tree[section] | values if isinstance(values, dict) else values

    with pytest.raises(ValueError, match=message):
        TrialConfig.parse(tree)

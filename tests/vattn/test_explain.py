"""Pictures of what a model responds to: the maps that are drawn, and the files that are written."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread

from tests.vattn.support import model
from vattn.config import ModelConfig, TrialConfig
from vattn.data.layouts.motion import MotionDataConfig, generate
from vattn.explain import Trained, explain, grad_cams, kernels_of_i3d, load_trained
from vattn.model import build_model

DATA = {"kind": "motion", "train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 8, "size": 32}
DATA |= {"store": {"size": 32}}


def trial(*attention: dict[str, Any], depth: int = 10, **changes: Any) -> TrialConfig:
    tree = model(*attention, depth=depth, **changes).tree()
    return TrialConfig.parse({"data": DATA, "model": tree, "train": {"epochs": 1, "batch": 16, "lr": 0.1}})


def fresh(config: TrialConfig) -> Trained:
    torch.manual_seed(0)
    return Trained(config, build_model(config.model, 16).eval())


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("motion")
    generate(MotionDataConfig.parse(DATA), root)
    return min(root.rglob("*.mp4"))


def test_grad_cam_of_the_last_features_is_the_class_map() -> None:
    # With an average pool and one linear layer after them, the gradient is the weights of the class (Zhou, Khosla,
    # Lapedriza, Oliva and Torralba, "Learning Deep Features for Discriminative Localization", CVPR 2016).
    net = fresh(trial(size=64)).net
    clip = torch.randn(1, 3, 4, 64, 64)

    maps = grad_cams(net, clip, label=3)["res5\n2 x 2"]

    with torch.no_grad():
        expected = (net.class_maps(clip)[1][0, :, 3] - net.fc.bias[3]).relu()
    torch.testing.assert_close(maps, expected / expected.max())


@pytest.mark.parametrize(
    "backbone",
    [
        {"kind": "mobilenet_v2", "width": 0.25}, {"kind": "shufflenet_v2"},
        {"kind": "resnet3d", "depth": 10, "width": 0.25}, {"kind": "c3d", "width": 0.125},
    ],
    ids=lambda backbone: backbone["kind"],
)  # fmt: skip
def test_every_backbone_has_a_map_for_each_size_of_its_features(backbone: dict[str, Any]) -> None:
    config = ModelConfig.parse({"frames": 16, "size": 64, "backbone": backbone})
    net = build_model(config, 7).eval()

    by_layer = grad_cams(net, torch.randn(1, 3, 16, 64, 64), label=0)

    assert len(by_layer) >= 3
    for name, maps in by_layer.items():
        assert name.endswith(f"{maps.shape[1]} x {maps.shape[2]}")
        assert 0 <= maps.min() <= maps.max() <= 1


@pytest.mark.medium
def test_every_mechanism_of_a_model_gets_a_picture(video: Path, tmp_path: Path) -> None:
    attention = [{"kind": "tam", "stages": [3, 4]}, {"kind": "sta", "stages": [5], "position": "d"}]
    config = trial(*attention, sparse={})

    files = explain(fresh(config), video, tmp_path / "out", i3d=fresh(trial({"kind": "i3d"}, depth=50)))

    names = {"frames", "gradcam", "tam-stage3_1b", "tam-stage4_1b", "sta-stage5_1b"}
    assert {file.stem for file in files} == names
    for file in files:
        assert imread(file)[..., :3].std() > 0.05  # the picture is not blank


@pytest.mark.medium
@pytest.mark.parametrize("branches", ["global", "local"])
def test_a_tam_with_one_branch_is_drawn(branches: str, video: Path, tmp_path: Path) -> None:
    config = trial({"kind": "tam", "stages": [5], "branches": branches})

    assert (tmp_path / "tam-stage5_1b.png") in explain(fresh(config), video, tmp_path)


@pytest.mark.medium
@pytest.mark.parametrize("weights", ["sta", "ta", "sa"])
def test_each_kind_of_sta_is_drawn_after_temporal_strides(weights: str, video: Path, tmp_path: Path) -> None:
    # An inflated network reduces 4 frames to 2 in stage 3 and to 1 in stage 5.
    backbone = {"kind": "i3d_resnet", "depth": 10, "width": 0.25}
    config = trial({"kind": "sta", "weights": weights, "stages": [3, 5]}, backbone=backbone, frames=4)

    files = explain(fresh(config), video, tmp_path)

    assert {"sta-stage3_1b", "sta-stage5_1b"} <= {file.stem for file in files}


def test_the_kernels_of_the_last_i3d_in_each_stage_are_shown() -> None:
    i3d = fresh(trial({"kind": "i3d", "stages": [3, 4]}, depth=50))

    kernels = kernels_of_i3d(i3d)

    assert {stage: place for stage, (place, _) in kernels.items()} == {"layer2": "stage3_4b", "layer3": "stage4_6b"}
    state = i3d.net.state_dict()
    (name,) = (name for name in state if name.startswith("backbone.layer2.3.conv1") and name.endswith("weight"))
    # One row per pair of an output and an input channel, one column per frame.
    torch.testing.assert_close(kernels["layer2"][1], state[name].view(-1, 3))


def test_weights_of_another_config_are_refused(tmp_path: Path) -> None:
    torch.save(fresh(trial()).net.state_dict(), tmp_path / "model.pt")

    with pytest.raises(ValueError, match=r"model\.pt: is not of this config: it lacks .*kernel"):
        load_trained(trial({"kind": "tam"}), tmp_path / "model.pt")


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")

    with pytest.raises(ValueError, match=r"text\.mp4: cannot be read"):
        explain(fresh(trial()), tmp_path / "text.mp4", tmp_path)
    with pytest.raises(ValueError, match=r"gone\.mp4: there is no such file"):
        explain(fresh(trial()), tmp_path / "gone.mp4", tmp_path)


def test_a_model_without_i3d_convolutions_is_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--i3d: the config has no attention of kind i3d"):
        explain(fresh(trial()), video, tmp_path, i3d=fresh(trial()))

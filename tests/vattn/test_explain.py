"""Pictures of what a model responds to: the maps that are drawn, and the files that are written."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib.image import imread
from PIL import Image

from tests.vattn.support import model
from vattn.config import ModelConfig, TrialConfig
from vattn.data import open_clips
from vattn.data.decode import read_video
from vattn.data.ingest import ingest
from vattn.data.layouts.motion import MotionDataConfig, generate
from vattn.explain import Trained, _read_clip, explain, grad_cams, kernels_of_i3d, load_trained
from vattn.explain.evidence import ClassMaps, TAMValues
from vattn.explain.figures import describe_truth
from vattn.explain.film import HELD, curves
from vattn.model import build_model
from vattn.training.batches.loader import eval_batches
from vattn.training.batches.views import view_frames

DATA = {"kind": "motion", "train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 8, "size": 32}
DATA |= {"store": {"size": 32}}


def trial(*attention: dict[str, Any], depth: int = 10, **changes: Any) -> TrialConfig:
    tree = model(*attention, depth=depth, **changes).tree()
    return TrialConfig.parse({"data": DATA, "model": tree, "train": {"epochs": 1, "batch": 16, "lr": 0.1}})


def fresh(config: TrialConfig) -> Trained:
    torch.manual_seed(0)
    return Trained(config, build_model(config.model, 16).eval(), tuple(config.data.labels()))


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

    files = explain(fresh(config), [video], tmp_path / "out", i3d=fresh(trial({"kind": "i3d"}, depth=50)))

    names = {"frames", "gradcam", "tam-stage3_1b", "tam-stage4_1b", "sta-stage5_1b"}
    assert {file.name for file in files} == {f"{name}.png" for name in names} | {"weights.mp4"}
    for file in files[:-1]:
        assert imread(file)[..., :3].std() > 0.05  # the picture is not blank


@pytest.mark.medium
@pytest.mark.parametrize("branches", ["global", "local"])
def test_a_tam_with_one_branch_is_drawn(branches: str, video: Path, tmp_path: Path) -> None:
    config = trial({"kind": "tam", "stages": [5], "branches": branches})

    assert (tmp_path / "tam-stage5_1b.png") in explain(fresh(config), [video], tmp_path)


@pytest.mark.medium
@pytest.mark.parametrize("weights", ["sta", "ta", "sa"])
def test_each_kind_of_sta_is_drawn_after_temporal_strides(weights: str, video: Path, tmp_path: Path) -> None:
    # An inflated network reduces 4 frames to 2 in stage 3 and to 1 in stage 5.
    backbone = {"kind": "i3d_resnet", "depth": 10, "width": 0.25}
    config = trial({"kind": "sta", "weights": weights, "stages": [3, 5]}, backbone=backbone, frames=4)

    files = explain(fresh(config), [video], tmp_path)

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
        explain(fresh(trial()), [tmp_path / "text.mp4"], tmp_path)
    with pytest.raises(ValueError, match=r"gone\.mp4: there is no such file"):
        explain(fresh(trial()), [tmp_path / "gone.mp4"], tmp_path)


def test_a_model_without_i3d_convolutions_is_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--i3d: the config has no attention of kind i3d"):
        explain(fresh(trial()), [video], tmp_path, i3d=fresh(trial()))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("data", "changes"),
    [
        ({"sampling": {"kind": "window"}}, {}),
        ({"sampling": {"kind": "dense"}, "views": {"clips": 2, "crops": 3}}, {}),
        ({"sampling": {"kind": "segments", "protocol": "tsm"}, "store": {"size": 36, "codec": "jpeg"}}, {}),
        ({"modality": "diff", "views": {"size": 28, "short": 30}}, {}),
        ({"sampling": {"frames_per_segment": 5}}, {"backbone": {"kind": "resnet_tdn", "depth": 18}}),
    ],
)
def test_what_is_drawn_is_what_an_evaluation_sees(
    data: dict[str, Any], changes: dict[str, Any], video: Path, tmp_path: Path
) -> None:
    config = TrialConfig.parse(trial(**changes).tree() | {"data": DATA | data})
    folder = tmp_path / "one" / "val"
    folder.mkdir(parents=True)
    shutil.copy(video, folder / video.name)

    clip, shown = _read_clip(config, video)

    manifest = pa.table({"path": [f"val/{video.name}"], "label": [0], "split": ["val"]})
    clips = open_clips(ingest(manifest, tmp_path / "one", tmp_path / "cache", config.data.store), "val")
    views = config.data.views.model_copy(update={"clips": 1, "crops": 1})
    single = config.data.model_copy(update={"views": views})
    ((images, _),) = eval_batches(clips, single, config.model, 1)
    assert shown.numbers == view_frames(single, config.model, clips.shapes.item(0, 0)).tolist()
    assert np.array_equal(clip, images[0].permute(1, 2, 3, 0).numpy())
    assert (shown.inputs is not None) == (config.data.modality == "diff")


@pytest.mark.medium
def test_a_model_of_optical_flow_is_explained_by_a_folder_of_its_images(tmp_path: Path) -> None:
    for t in range(6):
        for axis in ("x", "y"):
            Image.fromarray(np.full((32, 32), 100 + 5 * t, np.uint8)).save(tmp_path / f"flow_{axis}_{t + 1:05}.jpg")
    data = {"kind": "folders", "root": str(tmp_path), "classes": 16, "modality": "flow", "store": {"size": 32}}
    config = TrialConfig.parse(trial().tree() | {"data": data})
    model = Trained(config, build_model(config.model, 16).eval(), tuple(map(str, range(16))))

    files = explain(model, [tmp_path], tmp_path / "out")

    assert [file.name for file in files] == ["gradcam.png", "weights.mp4"]


@pytest.mark.medium
def test_the_truth_stands_beside_the_prediction_and_each_video_has_its_folder(video: Path, tmp_path: Path) -> None:
    model = fresh(trial({"kind": "tam", "stages": [5]}))
    (tmp_path / "copy").mkdir()
    shutil.copy(video, tmp_path / "copy" / video.name)

    files = explain(model, [video, tmp_path / "copy" / video.name], tmp_path / "out", truths=["left", None])

    folders = [f"{video.stem}-1", f"{video.stem}-2"]
    assert {file.parent.name for file in files} == set(folders)
    film = read_video(tmp_path / "out" / folders[0] / "weights.mp4", 400)
    assert len(film) == HELD * 4  # each of the 4 frames of the model
    assert np.abs(film[0].astype(int) - film[-1]).mean() > 1  # the cursor and the frame have moved on
    with pytest.raises(ValueError, match=r"--truth: must be a class of the model \(got jump\)"):
        explain(model, [video], tmp_path, truths=["jump"])


def test_a_truth_is_named_with_its_probability() -> None:
    maps = ClassMaps({}, [1, 0], [0.7, 0.2], (0, 0.2))

    assert describe_truth(maps, ["left", "right"]) == 'the truth is "left" (20%)'
    assert describe_truth(maps._replace(truth=(1, 0.7)), ["left", "right"]) == "this is right"
    assert describe_truth(maps._replace(truth=None), ["left", "right"]) == ""


def test_a_film_shows_the_importance_of_frames_over_time() -> None:
    gate = torch.tensor([[0.2, 0.4, 0.6, 0.8], [0.0, 0.2, 0.4, 0.6]])
    evidence = torch.tensor([1.0, 0.5]).view(2, 1, 1).expand(2, 2, 2)  # a network with temporal stride 2
    values = [TAMValues("layer3", "stage4_1b", None, gate)]

    by_name = curves(ClassMaps({"res5": evidence}, [0], [1.0]), values, 4)

    assert by_name["evidence (Grad-CAM)"].tolist() == [1, 1, 0.5, 0.5]
    np.testing.assert_allclose(by_name["TAM stage4_1b"], [0.1, 0.3, 0.5, 0.7], rtol=1e-6)

"""A trained model in one file: what it holds, what a prediction is, and files that are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vattn
from tests.vattn.support import model
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.data.cache import open_clips
from vattn.data.layouts.motion import MotionDataConfig, generate
from vattn.errors import UserError
from vattn.model import build_model
from vattn.normalization import HALF
from vattn.trained import read_model, write_model
from vattn.trained.file import UNKNOWN_ROOT, origin_of_weights
from vattn.training.evaluation import score
from vattn.training.start import start
from vattn.weights import read_checkpoint
from vattn.weights.statistics import statistics

DATA = {"kind": "motion", "train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 9, "size": 40}
CPU = torch.device("cpu")


def trial(data: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **changes: Any) -> TrialConfig:
    tree = {"data": DATA | {"store": {"size": 36}} | (data or {}), "model": model(**changes).tree()}
    return TrialConfig.parse(tree | {"train": {"epochs": 1, "batch": 16, "lr": 0.1} | (train or {})})


def written(config: TrialConfig, file: Path, classes: int = 16) -> dict[str, torch.Tensor]:
    """Write a model with statistics of batch norms that are not the initial ones; return its weights."""
    net = build_model(config.model, classes)
    net.fc.weight.data.normal_()
    for name, value in net.state_dict().items():
        if name.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
        if name.endswith("running_var"):
            value.uniform_(0.1, 0.5)
    write_model(file, config, [f"class {n}" for n in range(classes)], net.state_dict(), {"epoch": 3})
    return net.state_dict()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion")
    generate(MotionDataConfig.parse(DATA), folder)
    return folder


@pytest.mark.medium
@pytest.mark.parametrize(
    ("data", "changes"),
    [
        ({}, {}),
        (
            {"sampling": {"kind": "window"}, "views": {"clips": 3, "crops": 3}, "store": {"size": 36, "codec": "jpeg"}},
            {},
        ),
        ({"modality": "diff", "normalize": "half", "views": {"size": 36}}, {}),
        (
            {
                "sampling": {"kind": "dense", "protocol": "tsm"},
                "views": {"crops": 3},
                "store": {"size": 36, "frames": 5},
            },
            {},
        ),
        ({}, {"sparse": {}}),
    ],
)
def test_a_model_in_an_empty_folder_predicts_what_a_test_scores(
    data: dict[str, Any], changes: dict[str, Any], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial(data, {"init": "scratch"}, **changes)
    net_state = written(config, tmp_path / "model.safetensors")
    clips = open_clips(prepare(config.data.model_copy(update={"root": str(root)}), tmp_path), "val")
    net = build_model(config.model, 16)
    net.load_state_dict(net_state)
    tested = torch.cat([scores[:, 0].softmax(1) for scores, _ in score(net, clips, config, CPU)])
    (tmp_path / "empty").mkdir()
    shutil.move(tmp_path / "model.safetensors", tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")

    predict = vattn.load("model.safetensors")

    for n in (0, 6):
        video = root / clips.paths[n]
        torch.testing.assert_close(predict.probabilities(video), tested[n], rtol=1e-5, atol=1e-6)
    first, *others = predict(video, top=3)
    assert len(others) == 2
    assert first.probability == pytest.approx(float(tested[6].max()), rel=1e-5)
    assert first.label == f"class {int(tested[6].argmax())}"


def test_a_file_has_no_places_of_the_machine_that_made_it(tmp_path: Path) -> None:
    (tmp_path / "init.pt").write_bytes(b"")
    data = {"kind": "folders", "root": str(tmp_path), "cache": str(tmp_path / "cache"), "store": {"size": 32}}
    tree = trial().tree() | {"data": data}
    tree["train"] = tree["train"] | {"init": str(tmp_path / "init.pt")}
    tree["model"]["backbone"]["weights"] = str(tmp_path / "backbone.pth")
    config = TrialConfig.parse(tree)
    assert origin_of_weights(config) == {"init": "init.pt", "backbone_weights": "backbone.pth"}
    net = build_model(config.model.without_weights(), 3)

    write_model(tmp_path / "model.safetensors", config, ["a", "b", "c"], net.state_dict(), {})

    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    assert str(tmp_path) not in json.dumps(checkpoint.metadata)
    read = read_model(tmp_path / "model.safetensors").config
    assert (read.data.root, read.data.num_classes(), read.data.normalize) == (UNKNOWN_ROOT, 3, "imagenet")
    for name, value in net.state_dict().items():
        assert torch.equal(checkpoint.state[name], value), name


def altered(file: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    metadata = change(dict(read_checkpoint(file).metadata))
    save_file(load_file(file), file, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "has weights only: its metadata have no labels"),
        (
            {"format": None, "labels": None, "config": None},
            "is no trained model of this program: .* no labels and no co",
        ),
        ({"version": "2"}, "is of version 2, and only version 1 can be read"),
        ({"labels": "[1, 2]"}, "metadata labels: must be names"),
        ({"labels": "[]"}, "metadata labels: must be a JSON list of names"),
        ({"labels": '["a\\u001b[2J"]'}, r"metadata labels: must be names without control .* \(got a\?\[2J\)"),
        ({"labels": '["a", "b'}, "metadata labels: is not JSON, or was cut off"),
        ({"labels": '["a", "b"]'}, "its weights are not of its config and its 2 classes: it has other shapes for fc"),
        ({"config": "{}"}, "metadata config: is not a config of this version of vattn"),
        ({"config": "[" * 100_000}, "metadata config: is nested more than 64 deep"),
        ({"config": "[" * 90 + "]" * 90}, "metadata config: is nested more than 64 deep"),
        ({"config": "\ud7ff{"}, "metadata config: is not JSON, or was cut off"),
        ({"normalize": "{}"}, "normalize"),
        ({"provenance": "3"}, "metadata provenance: must be a mapping"),
    ],
)
def test_a_file_with_wrong_metadata_is_refused_in_one_line(
    change: dict[str, str | None], message: str, tmp_path: Path
) -> None:
    written(trial(), tmp_path / "model.safetensors")
    altered(
        tmp_path / "model.safetensors",
        lambda metadata: {key: value for key, value in (metadata | change).items() if value is not None},
    )

    with pytest.raises(UserError, match=message) as error:
        vattn.load(tmp_path / "model.safetensors")
    assert "\n" not in str(error.value)
    assert str(tmp_path / "model.safetensors") in str(error.value)


def test_a_config_of_a_much_larger_network_takes_no_memory(tmp_path: Path) -> None:
    written(trial(), tmp_path / "model.safetensors")

    def enlarge(metadata: dict[str, str]) -> dict[str, str]:
        config = json.loads(metadata["config"])
        config["model"]["backbone"] |= {"width": 8.0, "depth": 101}
        return metadata | {"config": json.dumps(config)}

    altered(tmp_path / "model.safetensors", enlarge)

    with pytest.raises(UserError, match=r"its weights are not of its config"):
        vattn.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("cut", [0, 4, 8, 100, 5000, -10])
def test_a_file_that_was_cut_off_is_refused_in_one_line(cut: int, tmp_path: Path) -> None:
    written(trial(), tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:cut])

    with pytest.raises(UserError) as error:
        vattn.load(tmp_path / "model.safetensors")
    assert "\n" not in str(error.value)


def test_a_pickle_with_the_name_of_a_model_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "model.safetensors")

    with pytest.raises(UserError):
        vattn.load(tmp_path / "model.safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_video_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    written(trial(), tmp_path / "model.safetensors")
    (tmp_path / "text.mp4").write_text("no video")
    predict = vattn.load(tmp_path)

    with pytest.raises(UserError, match=r"text\.mp4: cannot be read"):
        predict(tmp_path / "text.mp4")
    with pytest.raises(UserError, match=r"gone\.mp4: there is no such file"):
        predict(tmp_path / "gone.mp4")


def test_other_views_are_averaged(root: Path, tmp_path: Path) -> None:
    config = trial({"sampling": {"kind": "window"}})
    written(config, tmp_path / "model.safetensors")
    video = min(root.rglob("*.mp4"))

    one = vattn.load(tmp_path)
    several = one.with_views(3, 3)

    assert not torch.equal(one.probabilities(video), several.probabilities(video))
    assert several.trained.config.data.views.clips == 3
    written(trial({"sampling": {"protocol": "tsm"}}), tmp_path / "tsm.safetensors")
    tsm = vattn.load(tmp_path / "tsm.safetensors")
    with pytest.raises(UserError, match=r"--views: .*protocol tsm has at most 2"):
        tsm.with_views(10, 3)


def test_a_training_starts_from_a_trained_model_and_its_pixels(tmp_path: Path) -> None:
    state = written(trial({"normalize": "half"}), tmp_path / "model.safetensors")
    config = trial(train={"init": str(tmp_path / "model.safetensors")})

    net = start(config)

    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert statistics(config).same(HALF)

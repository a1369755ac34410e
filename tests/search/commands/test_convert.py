"""`vattn convert` and the commands that name published weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from search.cli import main
from tests.vattn.weights.plain import Plain, hara, tsm
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.weights import read_state

DATA = {
    "kind": "motion",
    "train_clips": 1,
    "val_clips": 1,
    "test_clips": 1,
    "frames": 8,
    "size": 32,
    "store": {"size": 32},
}
TSM = {
    "frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 14},
    "attention": [{"kind": "tsm", "position": "a"}],
}  # fmt: skip


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Return a TSM of 5 classes, with one block a stage."""
    weights = Plain()
    tsm(weights, torch.zeros(1, 3, 4, 32, 32))
    names = {n: f"module.{n}" if n.startswith("new_fc") else f"module.base_model.{n}" for n in weights.state}
    file = tmp_path / "tsm.pth.tar"
    torch.save({"state_dict": {names[n]: v for n, v in weights.state.items()}, "best_prec1": 47.1}, file)
    return file


def config_of(folder: Path, model: dict[str, Any], **train: Any) -> Path:
    tree = {"data": DATA | {"root": "auto"}, "model": model, "train": {"epochs": 1, "batch": 4, "lr": 0.1} | train}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return folder / "config.yaml"


def test_convert_prints_what_was_taken_and_the_network(published: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["convert", str(published), "--out", str(tmp_path / "out" / "tsm.safetensors")]) == 0

    text = capsys.readouterr().out
    assert "tsm.pth.tar: TSM: took 87 of 87 tensors, 87 renamed\n" in text
    assert "not in the file, and assumed: model.frames, 8, and model.size, 224; div of tsm, 8\n" in text
    model = yaml.safe_load(text[text.index("model:") :])["model"]
    assert model["backbone"] == {"kind": "resnet", "depth": 14}
    assert "fc.weight" in read_state(tmp_path / "out" / "tsm.safetensors")


def test_convert_takes_the_network_of_a_config(published: Path, tmp_path: Path, capsys: Any) -> None:
    config = config_of(tmp_path, TSM)

    # The config has 16 classes, the weights have 5.
    assert main(["convert", str(published), "--out", str(tmp_path / "a.pt"), "--config", str(config)]) == 2
    assert "is not converted, as it does not fit" in capsys.readouterr().err
    assert not (tmp_path / "a.pt").exists()


def test_convert_of_something_else_is_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.pth").write_text("<!DOCTYPE html>")

    assert main(["convert", str(tmp_path / "a.pth"), "--out", str(tmp_path / "b.pt")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a.pth is a web page, not weights" in error


def test_a_test_says_what_it_took_of_published_weights(tmp_path: Path, capsys: Any) -> None:
    weights = Plain()
    hara(weights, torch.zeros(1, 3, 4, 32, 32))
    # The classes of the data.
    weights.state |= {"fc.weight": torch.zeros(16, 2048), "fc.bias": torch.arange(16.0)}
    torch.save({"state_dict": weights.state}, tmp_path / "hara.pth")
    config = config_of(tmp_path, {"frames": 4, "size": 32, "backbone": {"kind": "resnet3d", "depth": 14}})
    prepare(TrialConfig.parse(yaml.safe_load(config.read_text())).data, tmp_path / "out")

    command = ["test", str(config), "--checkpoint", str(tmp_path / "hara.pth"), "--out", str(tmp_path / "out")]
    assert main(command) == 0

    printed = capsys.readouterr()
    assert "hara.pth: 3D ResNets of Hara or MARS: took 87 of 87 tensors, 85 renamed" in printed.err
    assert "pixels: mean 110.797, 103.3, 96.2625, std 70.584, 69.1815, 69.7935, of pixels up to 255" in printed.err
    # Every clip is classified as the class of the largest bias.
    assert "top-1 6.25%" in printed.out

"""`vattn predict`, and other commands on a trained model that stands on its own."""

import json
import math
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from search.cli import main
from search.commands.predict import arrivals
from tests.processes import wait_for
from tests.vattn.support import model
from tests.vattn_command import start
from vattn.config import TrialConfig
from vattn.data.motion import encode, render
from vattn.model import build_model
from vattn.trained import write_model


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A model of class folders that gives every video (3/4, 1/4); the folders are gone."""
    data = {"kind": "folders", "root": str(tmp_path / "gone"), "store": {"size": 40}}
    config = TrialConfig.parse({"data": data, "model": model().tree(), "train": {"epochs": 1, "batch": 8, "lr": 0.1}})
    net = build_model(config.model, 2)
    torch.nn.init.zeros_(net.fc.weight)
    net.fc.bias.data = torch.tensor([math.log(3), 0.0])
    file = tmp_path / "deploy" / "model.safetensors"
    write_model(file, config, ["left", "right"], net.state_dict(), {"split": "val", "metrics": {"top1": 0.75}})
    return file


def video(file: Path, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    encode(file, render(0, np.random.default_rng(seed), 8, 48))
    return file


def test_classes_are_printed_with_their_probabilities(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = video(tmp_path / "clip.mp4")

    assert main(["predict", str(trained), "--top", "2", str(clip), str(clip)]) == 0
    assert capsys.readouterr().out == f"{clip}: left 75.0%, right 25.0%\n" * 2
    # The folder of a training has a model of this name.
    assert main(["predict", str(trained.parent), str(clip), "--json", "--top", "1", "--views", "2x3"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["video"], len(tree["predictions"])) == (str(clip), 1)
    assert tree["predictions"][0] == {"label": "left", "probability": pytest.approx(0.75, rel=1e-6)}


def test_the_other_videos_are_predicted_where_one_cannot_be_read(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = video(tmp_path / "clip.mp4")

    assert main(["predict", str(trained), str(tmp_path / "gone.mp4"), str(clip)]) == 2

    shown = capsys.readouterr()
    assert shown.err == f"{tmp_path / 'gone.mp4'}: there is no such file\n"
    assert shown.out.startswith(f"{clip}: left 75.0%")


def test_videos_are_found_once_they_are_complete_and_again_when_they_change(tmp_path: Path) -> None:
    found: list[str] = []
    (tmp_path / "old.mp4").write_bytes(b"1")
    (tmp_path / "notes.txt").write_bytes(b"1")
    (tmp_path / ".part-new.mp4").write_bytes(b"1")
    watched = arrivals(tmp_path, 0.2)  # on a busy machine, the file stays the same for a shorter time
    grows = threading.Event()

    def grow() -> None:
        with (tmp_path / "grows.mp4").open("wb") as file:
            while not grows.is_set():
                file.write(b"1")
                file.flush()
                time.sleep(0.001)

    writer = threading.Thread(target=grow)
    writer.start()
    found.append(next(watched).name)
    grows.set()
    writer.join()
    found.append(next(watched).name)
    (tmp_path / "old.mp4").write_bytes(b"12")
    found.append(next(watched).name)

    assert found == ["old.mp4", "grows.mp4", "old.mp4"]


@pytest.mark.medium
def test_a_watched_folder_is_predicted_until_it_is_interrupted(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.mp4").write_text("no video")
    video(tmp_path / "in/first.mp4")

    command = start("predict", trained, "--watch", tmp_path / "in", "--top", "1")
    wait_for(lambda: f"{tmp_path / 'in/first'}.mp4: left 75.0%\n" in command.said())
    video(tmp_path / "second.mp4").rename(tmp_path / "in/second.mp4")
    wait_for(lambda: f"{tmp_path / 'in/second'}.mp4: left 75.0%\n" in command.said())
    command.send_signal(signal.SIGINT)

    out, _ = command.communicate()
    assert command.returncode == 130
    assert "broken.mp4: cannot be read" in out


def test_cost_and_explain_need_no_data_set(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", str(trained)]) == 0
    assert "One video in evaluation, 1 x 1 views" in capsys.readouterr().out
    clip = video(tmp_path / "right" / "clip.mp4")

    assert main(["explain", str(trained), str(clip), "--out", str(tmp_path / "pictures")]) == 0

    assert {file.name for file in (tmp_path / "pictures").iterdir()} == {"gradcam.png", "weights.mp4"}


@pytest.mark.medium
def test_a_trained_model_is_tested_with_its_data_and_is_no_config_of_a_training(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [f"{split}/{name}" for split in ("train", "val", "test") for name in ("left", "right")]
    for seed, place in enumerate(f"{folder}/{number}" for folder in folders for number in range(2)):
        video(tmp_path / "set" / f"{place}.mp4", seed)

    assert main(["test", str(trained), "--data", str(tmp_path / "set"), "--out", "tests"]) == 0
    assert "top-1 50.00%" in capsys.readouterr().out
    assert (tmp_path / "tests/model.parquet").is_file()
    # Without its data set, the option that names it is named.
    assert main(["test", str(trained)]) == 2
    assert "data.root" in capsys.readouterr().err
    assert main(["train", str(trained)]) == 2
    assert "is a trained model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["predict", "gone.safetensors", "clip.mp4"], "there is no file gone.safetensors"),
        (["predict", "weights.safetensors", "clip.mp4"], "weights.safetensors: is no trained model of this program"),
        (["predict", "text.safetensors", "clip.mp4"], "text.safetensors is a damaged safetensors file"),
        (["predict", "weights.safetensors", "--watch", "gone"], "--watch: must be a folder (got gone)"),
        (["cost", "weights.safetensors"], "weights.safetensors: is no trained model of this program"),
        (["test", "config.yaml"], "--checkpoint: is missing; name the weights, or a model.safetensors as the config"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"a": torch.zeros(2)}, "weights.safetensors")
    Path("text.safetensors").write_text("text that is no model")

    assert main(words) == 2

    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1

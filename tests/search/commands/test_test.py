"""`vattn test` averages scores over the views of a video and over models."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.image import imread
from PIL import Image

from search.cli import main
from search.commands.test import Scored, fused
from search.report.clips.format import read_test
from tests.vattn.golden import MARS, Recording
from vattn.config import ModelConfig, TrialConfig
from vattn.cost import cost
from vattn.data import prepare
from vattn.data.motion import encode, render
from vattn.model import build_model
from vattn.training.evaluation import averaged
from vattn.training.fit import fit

CONFIG = """\
data: {kind: folders, root: %s, store: {size: 40}}
model: {frames: 4, size: 32, backbone: {kind: resnet, depth: 10, width: 0.125}}
train: {epochs: 1, batch: 12, lr: 0.1}
"""


def scores_of(names: list[str], *probabilities: tuple[float, float], target: tuple[int, ...] = (0, 1)) -> Scored:
    return Scored(names, torch.tensor(probabilities).log(), torch.tensor(target))


def test_the_softmax_of_models_is_averaged_for_each_clip() -> None:
    first = scores_of(["a", "b"], (0.8, 0.2), (0.6, 0.4))
    second = scores_of(["b", "a"], (0.1, 0.9), (0.5, 0.5), target=(1, 0))

    mean = fused([first, second])

    # a: (0.8 + 0.5) / 2; b: (0.6 + 0.1) / 2.
    torch.testing.assert_close(mean.scores.exp(), torch.tensor([[0.65, 0.35], [0.35, 0.65]]))
    assert mean.names == ["a", "b"]


def test_models_have_weights() -> None:
    first, second = scores_of(["a", "b"], (0.8, 0.2), (0.6, 0.4)), scores_of(["a", "b"], (0.5, 0.5), (0.1, 0.9))

    mean = fused([first, second], [1, 3])

    # a: (0.8 + 3 * 0.5) / 4; b: (0.6 + 3 * 0.1) / 4.
    torch.testing.assert_close(mean.scores.exp(), torch.tensor([[0.575, 0.425], [0.225, 0.775]]))
    torch.testing.assert_close(fused([first, second], [1, 0]).scores, first.scores)


def test_logits_of_clips_and_streams_are_averaged_as_in_mars() -> None:
    case = Recording(MARS / "mars_fusion_a__eval.npz")
    clips = [case.tensor(name) for name in ("stream1", "stream2")]
    target = torch.zeros(1, dtype=torch.long)

    streams = [Scored(["a"], averaged(scores, 1, "logits"), target) for scores in clips]
    together = fused(streams, average="logits").scores

    torch.testing.assert_close(streams[0].scores, case.tensor("single"), **case.meta["tolerance"]["single"])
    torch.testing.assert_close(together, case.tensor("fused"), **case.meta["tolerance"]["fused"])
    assert together.topk(5).indices.tolist() == case.tensor("top5").tolist()
    torch.testing.assert_close(fused(streams, [1, 3], "logits").scores, (streams[0].scores + 3 * streams[1].scores) / 4)


def test_models_with_different_clips_or_classes_are_not_averaged() -> None:
    first = scores_of(["a", "b"], (0.8, 0.2), (0.6, 0.4))

    with pytest.raises(ValueError, match="1 of 2 are missing from the 2 of another, such as b"):
        fused([first, scores_of(["a", "c"], (0.5, 0.5), (0.5, 0.5))])
    with pytest.raises(ValueError, match="must have the same classes"):
        fused([first, scores_of(["a", "b"], (0.5, 0.5), (0.5, 0.5), target=(1, 1))])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A config of 2 classes with 4 test clips, and weights of a model that predicts (3/4, 1/4) for every clip."""
    for split, count in (("train", 2), ("val", 1), ("test", 2)):
        for label, name in enumerate(("left", "right")):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                encode(folder / f"{number}.mp4", render(label, np.random.default_rng([len(split), number]), 8, 48))
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG % (tmp_path / "set"))
    model = {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}}
    data = {"kind": "folders", "root": str(tmp_path / "set")}
    trial = TrialConfig.parse({"data": data, "model": model, "train": {"epochs": 1, "batch": 12, "lr": 0.1}})
    state = build_model(trial.model, 2).state_dict()
    classifier = [name for name, value in state.items() if value.shape[:1] == (2,)]
    for name in classifier:
        state[name] = torch.zeros_like(state[name])
    (bias,) = (name for name in classifier if state[name].dim() == 1)
    state[bias] = torch.tensor([math.log(3), 0.0])
    torch.save(state, tmp_path / "model.pt")
    return config, tmp_path / "model.pt"


def test_a_checkpoint_is_scored_on_the_test_split(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, weights = files
    arguments = [
        "test",
        str(config),
        "--checkpoint",
        str(weights),
        "--cache",
        str(tmp_path / "cache"),
        "--views",
        "2x3",
    ]

    assert main([*arguments, "--fuse", f"{config}={weights}"]) == 0

    # Half of the clips are of class 0; the loss is -(ln 3/4 + ln 1/4) / 2.
    metrics = f"top-1 50.00%  top-5 100.00%  mean class 50.00%  loss {-(math.log(0.75) + math.log(0.25)) / 2:.4f}"
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("ingest")]
    model = {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}}
    views = f"2 x 3 views, {6 * cost(ModelConfig.parse(model), 2).gflops:.4g} GFLOPs a video"
    assert lines == [f"{config}: {metrics}; {views}"] * 2 + [f"fused: {metrics}", "4 clips of the test split"]


def test_results_clip_by_clip_are_written_at_any_number_of_views(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, weights = files
    arguments = ["test", str(config), "--checkpoint", str(weights), "--cache", str(tmp_path / "cache"),
                 "--out", str(tmp_path / "tests")]  # fmt: skip

    assert main([*arguments, "--views", "2x3", "--frames", "normal", "shuffled", "frozen"]) == 0

    table = pq.read_table(tmp_path / "tests/config.parquet")
    assert table["path"].to_pylist() == [f"test/{name}/{n}.mp4" for name in ("left", "right") for n in range(2)]
    assert (table["label"].to_pylist(), table["length"].to_pylist()) == ([0, 0, 1, 1], [8] * 4)
    np.testing.assert_allclose(np.exp(table["scores"].to_pylist()), [[0.75, 0.25]] * 4, rtol=1e-5)
    test = read_test(tmp_path / "tests/config.parquet")
    assert (test.classes, test.about["views"], test.about["split"]) == (("left", "right"), "2x3", "test")
    assert {file.name for file in (tmp_path / "tests").iterdir()} == {
        f"config{order}{end}" for order in ("", "-shuffled", "-frozen")
        for end in (".parquet", "-classes.csv", "-confusion.png")
    }  # fmt: skip
    rows = (tmp_path / "tests/config-classes.csv").read_text().splitlines()
    assert rows == [
        "class,clips,right,accuracy,accuracy low,accuracy high,mostly taken for",
        "right,2,0,0.0,0.0,0.6576197724933468,left (2)", "left,2,2,1.0,0.34238022750665315,1.0,",
    ]  # fmt: skip
    assert imread(tmp_path / "tests/config-confusion.png")[..., :3].std() > 0.05
    assert "frozen frames: least accurate classes: right 0.0 %" in capsys.readouterr().out
    # In a fusion, the scores of each model have columns of their own.
    assert main([*arguments[:-1], str(tmp_path / "one.parquet"), "--fuse", f"{config}={weights}"]) == 0
    assert set(read_test(tmp_path / "one.parquet").parts) == {"config", "config2"}


def test_two_tests_are_compared_with_pictures_of_their_clips(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, weights = files
    state = torch.load(weights, weights_only=True)
    state["fc.bias"] = -state["fc.bias"]  # it takes every clip for the second class
    torch.save(state, tmp_path / "other.pt")
    for file, name in ((weights, "first"), (tmp_path / "other.pt", "second")):
        assert main(["test", str(config), "--checkpoint", str(file), "--cache", str(tmp_path / "cache"),
                     "--out", str(tmp_path / f"{name}.parquet")]) == 0  # fmt: skip
    both = ["compare", *(str(tmp_path / f"{name}.parquet") for name in ("first", "second"))]
    capsys.readouterr()

    assert main([*both, "--out", str(tmp_path / "differences")]) == 0

    out = capsys.readouterr().out
    assert "4 clips: first 50.0 %" in out
    # Newcombe's phi is -1, as each is right where the other is wrong: twice the 35 points of Wilson's interval.
    assert "+0.0 points (-70.0 to 70.0); 2 gained, 2 lost, McNemar p 1.000: not significant" in out
    assert {file.name for file in (tmp_path / "differences").iterdir()} == {
        "class-gains.csv", "lengths.csv", "gained.png", "lost.png",
    }  # fmt: skip
    assert imread(tmp_path / "differences/lost.png")[..., :3].std() > 0.05
    assert main([*both, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [(row["class"], row["gain"], row["p"]) for row in tree["classes"]] == [("right", 1, 0.5), ("left", -1, 0.5)]
    # The names of two tests with the same file name begin with the folder.
    same = [tmp_path / name / "test.parquet" for name in ("first", "second")]
    for source, copy in zip(both[1:], same, strict=True):
        copy.parent.mkdir()
        shutil.copy(source, copy)
    assert main(["compare", *map(str, same)]) == 0
    assert "4 clips: first/test 50.0 %, second/test 50.0 %" in re.sub(r" \(.*?\)", "", capsys.readouterr().out)
    # Without the decoded clips there are no pictures.
    shutil.rmtree(tmp_path / "cache")
    assert main([*both, "--out", str(tmp_path / "again")]) == 0
    assert "no pictures: the decoded clips of these tests are gone" in capsys.readouterr().err


def test_the_number_of_views_keeps_their_size(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, weights = files
    arguments = [
        "test",
        str(config),
        "--checkpoint",
        str(weights),
        "--cache",
        str(tmp_path / "cache"),
        "--views",
        "1x3",
    ]

    assert main([*arguments, "--data", str(tmp_path / "set"), "--set", "data.views.size=40"]) == 0

    model = {"frames": 4, "size": 40, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}}
    views = f"1 x 3 views, {3 * cost(ModelConfig.parse(model), 2).gflops:.4g} GFLOPs a video"
    assert views in capsys.readouterr().out


def test_without_a_test_split_the_validation_split_is_scored_only_if_it_is_asked_for(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, weights = files
    shutil.rmtree(tmp_path / "set/test")
    arguments = ["test", str(config), "--checkpoint", str(weights), "--cache", str(tmp_path / "cache")]

    assert main(arguments) == 2
    line = f"{config}: its data have no test split; give one, hold one out for the training with data.test_share, or "
    assert capsys.readouterr().err.splitlines()[-1] == line + "score the validation split: --split val"
    assert main([*arguments, "--split", "val"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 clips of the val split"


@pytest.mark.medium
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (["--checkpoint", "gone.pt"], "there is no file gone.pt"),
        (["--views", "3"], r"--views: must be clips x crops, .* such as 10x3 \(got 3\)"),
        (
            ["--set", "data.sampling.protocol=tsm", "--views", "10x3"],
            r".*config.yaml: data.views.clips: protocol tsm has at most 2 of sampling.kind segments; .* \(got 10\)",
        ),
        (["--fuse", "other.yaml"], "--fuse other.yaml: must be CONFIG=CHECKPOINT"),
        (["--fuse-weights", "1", "2"], r"--fuse-weights: must be one number .* of the 1 models, .* \(got 1 2\)"),
        (["--fuse-weights", "0"], "--fuse-weights: must be one number of 0 or more for each .* not all 0"),
        (["--set", "model.backbone.width=0.25"], ".*model.pt: is not of this config: it has other shapes for"),
    ],
)
def test_invalid_input_is_reported_and_ends_with_status_2(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], line: str
) -> None:
    config, weights = files

    status = main(["test", str(config), "--checkpoint", str(weights), "--cache", str(tmp_path / "cache"), *change])

    assert status == 2
    assert re.match(line, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.medium
def test_a_flow_model_is_trained_and_fused_with_an_rgb_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The RGB frames are noise, the same for both classes; the flow points left in one class and right in the second.
    for split, count in (("train", 4), ("val", 1), ("test", 2)):
        for name, across in (("left", 98), ("right", 158)):
            for number in range(count):
                folder = tmp_path / "set" / split / name / str(number)
                folder.mkdir(parents=True)
                for t in range(4):
                    noise = np.random.default_rng([len(split), number, t]).integers(0, 256, (32, 32, 3), np.uint8)
                    Image.fromarray(noise).save(folder / f"img_{t + 1:05}.jpg")
                    for axis, value in (("x", across), ("y", 128)):
                        Image.fromarray(np.full((32, 32), value, np.uint8)).save(folder / f"flow_{axis}_{t + 1:05}.jpg")
    model = {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}}
    for modality in ("rgb", "flow"):
        data = {"kind": "folders", "root": str(tmp_path / "set"), "store": {"size": 32}, "modality": modality}
        tree = {"data": data, "model": model, "train": {"epochs": 20, "batch": 4, "lr": 0.05}}
        (tmp_path / f"{modality}.yaml").write_text(json.dumps(tree))
        assert main(["ingest", "folders", data["root"], "--out", str(tmp_path / "cache"), "--size", "32",
                     "--modality", modality]) == 0  # fmt: skip
        trial = TrialConfig.parse(tree)
        list(fit(trial, prepare(trial.data, tmp_path), tmp_path / modality))
    fuse = f"{tmp_path / 'flow.yaml'}={tmp_path / 'flow/model.pt'}"
    capsys.readouterr()

    status = main(["test", str(tmp_path / "rgb.yaml"), "--checkpoint", str(tmp_path / "rgb/model.pt"), "--fuse", fuse,
                   "--cache", str(tmp_path / "cache")])  # fmt: skip

    assert status == 0
    metrics = dict(
        line.rsplit("/", 1)[-1].split(": ", 1) for line in capsys.readouterr().out.splitlines() if "top-1" in line
    )
    assert metrics["flow.yaml"].startswith("top-1 100.00%")
    assert metrics["rgb.yaml"].startswith("top-1 50.00%")  # both classes have the same frames
    assert metrics["fused"].startswith("top-1 100.00%")
    status = main(["test", str(tmp_path / "rgb.yaml"), "--checkpoint", str(tmp_path / "rgb/model.pt"), "--fuse", fuse,
                   "--fuse-weights", "1", "0", "--average", "logits", "--cache", str(tmp_path / "cache")])  # fmt: skip
    assert status == 0
    weighted = dict(
        line.rsplit("/", 1)[-1].split(": ", 1) for line in capsys.readouterr().out.splitlines() if "top-1" in line
    )
    assert weighted["fused"] == weighted["rgb.yaml"].partition(";")[0]

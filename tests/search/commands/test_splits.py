"""`split: all` ingests, trains and tests each of the three splits of a data set, and reports the mean."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from search.cli import main
from search.spec.messages import SpecError
from search.spec.validation import load
from tests.vattn_command import vattn
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.data.motion import encode, render
from vattn.model import build_model
from vattn.training.fit import fit

MODEL = {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}}
TRAIN = {"epochs": 1, "batch": 4, "lr": 0.1}
#: groups of each class that are test clips in a split; the remaining groups are training clips
TEST_GROUPS = {
    1: {"Left": [1], "Right": [1, 2, 3]},
    2: {"Left": [2, 3], "Right": [4, 5]},
    3: {"Left": [1, 4, 5], "Right": [1]},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small UCF101: two classes, five groups per class, one clip per group."""
    root = tmp_path / "ucf"
    lists: dict[str, str] = {"classInd.txt": "1 Left\n2 Right\n"}
    for label, name in enumerate(("Left", "Right")):
        (root / name).mkdir(parents=True)
        for group in range(1, 6):
            path = f"{name}/v_{name}_g{group:02}_c01.avi"
            encode(root / path, render(label, np.random.default_rng(group), 4, 32))
            for split, groups in TEST_GROUPS.items():
                kind, number = ("test", "") if group in groups[name] else ("train", f" {label + 1}")
                lists[f"{kind}list0{split}.txt"] = lists.get(f"{kind}list0{split}.txt", "") + f"{path}{number}\n"
    for name, text in lists.items():
        (root / name).write_text(text)
    return root


def config(root: Path, split: object = "all") -> TrialConfig:
    data = {"kind": "ucf101", "root": str(root), "split": split, "store": {"size": 32}}
    return TrialConfig.parse({"data": data, "model": MODEL, "train": TRAIN})


def write_config(root: Path) -> Path:
    file = root.parent / "ucf.yaml"
    file.write_text(json.dumps(config(root).tree()))
    return file


def test_all_splits_are_ingested_and_no_file_is_decoded_twice(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cache"

    assert main(["ingest", "ucf101", str(root), "--out", str(out), "--size", "32", "--set", "split=all"]) == 0

    output = capsys.readouterr()
    assert output.out.count("ucf101: 2 classes; clips: ") == 3
    assert "about 123 kB in " in output.out  # 10 clips of 4 frames of 32 x 32 pixels, which the splits share
    assert re.findall(r"split: \d|10 clips", output.out) == ["10 clips", "10 clips", "split: 2", "10 clips", "split: 3"]
    shards = list(out.glob("*/shard-*"))
    assert len(shards) == 3
    assert len({shard.stat().st_ino for shard in shards}) == 1


def test_testing_all_splits_prints_the_metrics_of_each_and_their_mean(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The model predicts (3/4, 1/4) for every clip, which is correct for the clips of class 0: 1 of 4, 2 of 4, 3 of 4.
    state = build_model(config(root).model, 2).state_dict()
    for name in ("fc.weight", "fc.bias"):
        state[name] = torch.zeros_like(state[name])
    state["fc.bias"][0] = math.log(3)
    for split in (1, 2, 3):
        (tmp_path / f"trained/split{split}").mkdir(parents=True)
        torch.save(state, tmp_path / f"trained/split{split}/model.pt")
    arguments = ["test", str(write_config(root)), "--checkpoint", str(tmp_path / "trained"), "--out", str(tmp_path)]

    assert main(arguments) == 0

    lines = [line for line in capsys.readouterr().out.splitlines() if "top-1" in line]
    assert [re.sub(r".*(split.*): \S*ucf.yaml: top-1 (\S*).*", r"\1 \2", line) for line in lines] == [
        "split 1 25.00%", "split 2 50.00%", "split 3 75.00%", "splits 50.00%",
    ]  # fmt: skip
    loss = -(math.log(0.75) + math.log(0.25)) / 2
    assert lines[-1].endswith(f"mean class 50.00%  loss {loss:.4f}")

    (tmp_path / "trained/split3/model.pt").unlink()
    assert main(arguments) == 2
    assert "must be the output folder of a training with split: all" in capsys.readouterr().err
    fuse = f"{write_config(root)}={tmp_path / 'trained/split1/model.pt'}"
    arguments[3] = str(tmp_path / "trained/split1/model.pt")
    assert main([*arguments, "--set", "data.split=1", "--fuse", fuse]) == 2
    assert "must be the output folder of a training with split: all" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_training_on_all_splits_trains_each_split_and_writes_their_mean_metrics(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"

    done = vattn("train", write_config(root), "--out", output)

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("split")]
    assert [line[:20] for line in lines] == [f"split {split}  epoch 1/1  " for split in (1, 2, 3)]
    means = json.loads((output / "metrics.json").read_text())
    losses = [float(re.findall(r"training loss (\S+)", line)[0]) for line in lines]
    assert means["train_loss"] == pytest.approx(sum(losses) / 3, abs=1e-4)
    # A training on split 2 alone gives the same weights.
    list(fit(config(root, 2), prepare(config(root, 2).data, output), tmp_path / "alone"))
    weights = (torch.load(folder / "model.pt", weights_only=True) for folder in (output / "split2", tmp_path / "alone"))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_a_search_on_all_splits_is_refused(root: Path, tmp_path: Path) -> None:
    spec = {"schema": 1, "name": "all", "trial": config(root).tree(), "search": {"budget": {"trials": 1}}}
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))

    with pytest.raises(
        SpecError, match=r"spec\.yaml: trial\.data\.split: a search compares trials on one split; take "
    ):
        load(tmp_path / "spec.yaml")

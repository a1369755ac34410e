"""`vattn train` on real Ray gives the same numbers as `fit`, and continues after an interruption."""

import json
import re
import shlex
import signal
import time
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

import vattn as vattn_package
from search.commands._resume import Resume, output_of
from search.parser import worker_range
from search.report.wording.program import program
from tests.vattn_command import start, vattn
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.errors import UserError
from vattn.training.checkpoint import Epoch, state_of
from vattn.training.fit import fit
from vattn.training.state_file import write_state
from vattn.weights import read_state

CONFIG: dict[str, Any] = {
    "data": {
        "kind": "motion", "train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
        "store": {"size": 32},
    },
    "model": {
        "frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
        "attention": [{"kind": "tsm"}],
    },
    "train": {"epochs": 2, "batch": 16, "lr": 0.05},
}  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file whose data are already generated and decoded."""
    folder = tmp_path_factory.mktemp("training")
    prepare(TrialConfig.parse(CONFIG).data, folder)
    folders = {"root": str(folder / "data" / "motion"), "cache": str(folder / "cache")}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"data": CONFIG["data"] | folders}))
    return path


def stderr_of_refused(*words: object) -> str:
    """Run `vattn train`, check that it ends with status 2 and no traceback, and return its stderr."""
    done = vattn("train", *words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_training_with_one_worker_gives_the_same_metrics_and_weights_as_fit(file: Path, tmp_path: Path) -> None:
    config, output = TrialConfig.parse(yaml.safe_load(file.read_text())), tmp_path / "out"
    alone = list(fit(config, prepare(config.data, tmp_path), tmp_path / "alone"))

    done = vattn("train", file, "--out", output)

    assert done.returncode == 0, done.stderr
    metrics, best = json.loads((output / "metrics.json").read_text()), max(alone, key=lambda e: e.metrics["top1"])
    assert metrics.pop("best") == best.metrics | {"epoch": [best.number]}
    assert metrics == alone[-1].metrics
    assert torch.load(output / "best.pt", weights_only=True)["epoch"] == best.number
    first, last = (line for line in done.stdout.splitlines() if line.startswith("epoch "))
    assert re.search(r"epoch 1/2 .* s  0:\d\d:\d\d left$", first)
    assert last.endswith(" s")
    weights = (torch.load(folder / "model.pt", weights_only=True) for folder in (output, tmp_path / "alone"))
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    # The weights also stand on their own.
    for name, epoch in (("model", 2), ("best", best.number)):
        trained = vattn_package.load(output / f"{name}.safetensors")
        assert trained.file.provenance["epoch"] == epoch
        assert trained.file.provenance["clips"] == {"train": 32, "val": 16, "test": 16}
        assert trained.file.provenance["metrics"] == alone[epoch - 1].metrics
    torch.testing.assert_close(
        read_state(output / "model.safetensors"), read_state(output / "model.pt"), rtol=0, atol=0
    )
    # The output folder now holds a training: the same config needs --resume, and a different config is refused.
    assert "go on with --resume" in stderr_of_refused(file, "--out", output)
    changes = ("--set", "train.lr=0.1", "--set", "model.attention[0].div=4", "--set", "train.epochs=3")
    refused = stderr_of_refused(file, "--out", output, "--resume", *changes)
    assert "model.attention[0].div (4, and was 8); train.epochs (3, and was 2); train.lr (0.1, and " in refused
    assert "only train.epochs may change" in refused
    # A config that was changed in the output folder is compared with the one that the training began with.
    changed = output / "config.yaml"
    text = changed.read_text()
    changed.write_text(text.replace("lr: 0.05", "lr: 0.07"))
    assert "train.lr (0.07, and was 0.05): must be as when" in stderr_of_refused(changed, "--resume")
    changed.write_text(text)
    shorter = stderr_of_refused(changed, "--resume", "--set", "train.epochs=1")
    assert "train.epochs: must be more than the 2 epochs that are finished" in shorter
    # The command that it names scores the weights.
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("next: "))
    tested = vattn(*shlex.split(line.partition("vattn ")[2]))
    assert tested.returncode == 0, tested.stderr
    assert "16 clips of the test split" in tested.stdout


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_finished_training_goes_on_to_another_length_in_its_own_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    constant = ("--set", "train.schedule=constant")
    long = vattn("train", file, "--out", "long", *constant, "--set", "train.epochs=4")
    assert long.returncode == 0, long.stderr
    assert vattn("train", file, "--out", "runs/short", *constant).returncode == 0

    done = vattn("train", "runs/short/config.yaml", "--resume", "--set", "train.epochs=4")

    assert done.returncode == 0, done.stderr
    assert (
        "4 epochs, and were 2; after epoch 2 the learning rate goes on at 0.05, that of a training of 4" in done.stdout
    )
    assert not Path("runs/config").exists()
    for name in ("model.pt", "best.pt"):
        weights = (torch.load(Path(run) / name, weights_only=True) for run in ("long", "runs/short"))
        torch.testing.assert_close(*weights, rtol=0, atol=0)
    metrics = json.loads(Path("runs/short/metrics.json").read_text())
    assert metrics.pop("lengths") == [2, 4]
    assert metrics == json.loads(Path("long/metrics.json").read_text())
    again = vattn("train", "runs/short/config.yaml", "--resume")  # it is finished: nothing is trained
    assert again.returncode == 0, again.stderr
    assert f"{program()} test runs/short/config.yaml --checkpoint runs/short/model.pt" in again.stdout


def test_the_output_folder_is_runs_and_the_name_or_that_of_the_training(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert output_of(Path("best.yaml")) == Path("runs/best")
    assert output_of(tmp_path / "config.yaml") == Path("runs/config")
    assert output_of(tmp_path / "runs/best/config.yaml") == tmp_path / "runs/best"
    assert output_of(tmp_path / "elsewhere/config.yaml") == Path("runs/config")
    (tmp_path / "elsewhere/split2").mkdir()
    (tmp_path / "elsewhere/split2/checkpoint.pt").touch()
    assert output_of(tmp_path / "elsewhere/config.yaml") == tmp_path / "elsewhere"


def test_branches_that_would_go_back_to_an_earlier_stage_are_refused(file: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(file.read_text())
    sparse = {"branches": ["original", "discriminative"], "alone": 0.5, "warmup": 0.2}
    tree["model"] |= {"sparse": sparse, "frames": 2, "attention": []}
    old = TrialConfig.parse(tree | {"train": tree["train"] | {"epochs": 4}})
    new = TrialConfig.parse(tree | {"train": tree["train"] | {"epochs": 20}})
    net = torch.nn.Linear(1, 1)
    state = state_of(
        old, net, torch.optim.SGD(net.parameters()), [Epoch(n, {"top1": 0.1}, 1.0) for n in (1, 2, 3, 4)], []
    )
    write_state(state, tmp_path / "checkpoint.pt")

    with pytest.raises(
        UserError, match=r"train\.epochs: cannot be 20 from epoch 4 on: .* go back from random to alone"
    ):
        Resume(file, [new], [tmp_path], tmp_path)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_checkpoint_that_cannot_be_written_is_one_line_and_a_resume_continues(file: Path, tmp_path: Path) -> None:
    # A folder at the path of the temporary file makes the write fail, as a full disk does.
    (tmp_path / ".part-checkpoint.pt").mkdir()

    done = vattn("train", file, "--out", tmp_path)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.match(
        r".*checkpoint\.pt: cannot be written: .*; make room and go on with --resume", done.stderr.splitlines()[-1]
    )
    (tmp_path / ".part-checkpoint.pt").rmdir()
    resumed = vattn("train", file, "--out", tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.medium
def test_a_number_of_workers_that_does_not_divide_the_batch_is_refused(file: Path, tmp_path: Path) -> None:
    assert "train.batch: must be divisible by the 3 workers" in stderr_of_refused(
        file, "--out", tmp_path, "--workers", 3
    )
    assert "must be divisible by the 3 workers" in stderr_of_refused(file, "--out", tmp_path, "--workers", "3-4")
    assert "--workers: must be at least 1 (got 0)" in stderr_of_refused(file, "--out", tmp_path, "--workers", 0)


def test_a_number_of_workers_is_one_or_a_range() -> None:
    assert (worker_range("4"), worker_range("2-8"), worker_range("3-3")) == ((4, 4), (2, 8), (3, 3))
    for text, rule in {
        "0-2": "must be at least 1 (got 0)", "x": "must be a whole number (got 'x')", "": "must be a whole number",
        "2-1": "the second number must be at least the first (got 2-1)", "2-": "must be a whole number (got '2-')",
    }.items():  # fmt: skip
        with pytest.raises(ArgumentTypeError, match=re.escape(rule)):
            worker_range(text)


@pytest.mark.medium
def test_gpus_that_a_worker_cannot_use_are_refused(file: Path, tmp_path: Path) -> None:
    line = stderr_of_refused(file, "--out", tmp_path, "--workers", 2, "--gpus", 0.5)

    assert line == (
        "--gpus: must be 1 or 0 with several workers, because NCCL cannot run two workers of a trial on one GPU; use "
        "--workers 2 --gpus 1 (got 0.5)\n"
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_ends_a_training_of_two_workers_with_status_130_and_a_resume_finishes_it(
    file: Path, tmp_path: Path
) -> None:
    words = ("train", file, "--out", tmp_path, "--workers", 2, "--set", "train.epochs=20")
    process = start(*words)
    deadline = time.monotonic() + 200
    while not (tmp_path / "checkpoint.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)

    assert process.returncode == 130, text
    assert "Traceback" not in text
    resumed = vattn(*words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("train")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "seconds")]
    assert sorted(steps) == list(range(1, 21))

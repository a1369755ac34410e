"""A training with all options of a recipe ends with the same weights, however often it is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.vattn.training.processes import fit_in_processes
from tests.vattn.training.recipe.support import trial, write_unequal_classes
from vattn.config import TrialConfig
from vattn.data import open_clips
from vattn.model import build_model
from vattn.training.evaluation import evaluate
from vattn.training.fit import fit

#: All options, in two trainings, as some exclude each other.
MIXED = {"crop": "resized", "mixup": 0.3, "cutmix": 0.3}
RECIPES: dict[str, TrialConfig] = {
    "one": trial(
        {"stochastic_depth": 0.4}, MIXED, optimizer={"kind": "sgd", "momentum": 0.8, "nesterov": True},
        schedule={"kind": "wsd", "decay": 0.3}, warmup={"epochs": 0.5, "start": 0.2}, decay_norms=False,
        rates={"new": 2, "head": 5, "first": 0.5, "biases": 2}, label_smoothing=0.1, ema=0.9, clip_norm=1, norm="sync",
        balance={"sampling": 0.7, "weights": 0.5}, freeze=[3], recompute="blocks",
    ),
    "other": trial(
        {"stochastic_depth": 0.4}, optimizer={"kind": "adamw", "betas": [0.8, 0.9]}, lr=0.01, norm="partial",
        schedule={"kind": "steps", "at": [1]}, lr_batch=16, ema=0.8, clip_norm=2, accumulate=2, amp="fp16",
        balance={"sampling": 0.5, "weights": 1}, label_smoothing=0.2, freeze=[1, 2], rates={"head": 3},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unequal_classes(tmp_path_factory.mktemp("unequal") / "cache")


def check_same_weights(first: Path, second: Path) -> None:
    states = [torch.load(folder / "model.pt", weights_only=True) for folder in (first, second)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["one", pytest.param("other", marks=pytest.mark.slow)])
def test_a_training_that_is_killed_within_an_epoch_ends_with_the_same_weights(
    cache: Path, tmp_path: Path, name: str
) -> None:
    expected = fit_in_processes(RECIPES[name], cache, tmp_path / "whole", 1)
    fit_in_processes(RECIPES[name], cache, tmp_path / "cut", 1, last=8)  # an epoch has 6 steps

    metrics, steps = fit_in_processes(RECIPES[name], cache, tmp_path / "cut", 1)

    assert metrics == expected[0]
    assert 0 < int(steps) <= 4  # fewer where gradients in half precision were not finite
    check_same_weights(tmp_path / "whole", tmp_path / "cut")


TRAIN = """
import pathlib, sys, torch
from torch import distributed as dist
from vattn.config import TrialConfig
from vattn.training.fit import fit
config, cache, folder, rank, world, meeting = sys.argv[1:]
torch.set_num_threads(1)
if world != "1":
    meeting = pathlib.Path(meeting).as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=int(rank), world_size=int(world))
print("begins", flush=True)
list(fit(TrialConfig.parse(eval(config)), pathlib.Path(cache), pathlib.Path(folder)))
"""


def started(config: TrialConfig, cache: Path, folder: Path, world: int, attempt: int) -> list[subprocess.Popen[str]]:
    """Start a training in ``world`` processes; return them when all have begun."""
    folder.mkdir(exist_ok=True)
    words = [
        [repr(config.tree()), str(cache), str(folder), str(rank), str(world), str(folder / f"meeting{attempt}")]
        for rank in range(world)
    ]
    command = [sys.executable, "-c", TRAIN]
    processes = [subprocess.Popen([*command, *word], stdout=subprocess.PIPE, text=True) for word in words]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
    return processes


def finish(processes: list[subprocess.Popen[str]]) -> None:
    assert [process.wait() for process in processes] == [0] * len(processes)
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_that_is_killed_at_five_random_times_ends_with_the_same_weights(
    cache: Path, tmp_path: Path, name: str, world: int
) -> None:
    config = RECIPES[name]
    longer = config.train.model_copy(update={"epochs": 12})
    config = config.model_copy(update={"train": longer})
    began = time.monotonic()
    finish(started(config, cache, tmp_path / "whole", world, 0))
    lasts = time.monotonic() - began
    seed = int.from_bytes(os.urandom(4))
    print(f"random seed {seed}")
    rng, killed = random.Random(seed), 0
    for attempt in range(1, 6):
        processes = started(config, cache, tmp_path / "cut", world, attempt)
        time.sleep(rng.uniform(0, lasts / 4))
        for process in processes:
            process.send_signal(signal.SIGKILL)
        killed += {process.wait() for process in processes} == {-signal.SIGKILL}
    finish(started(config, cache, tmp_path / "cut", world, 6))

    assert killed >= 2
    check_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_the_averaged_weights_are_evaluated_and_saved_and_training_goes_on_from_the_plain_ones(
    cache: Path, tmp_path: Path
) -> None:
    config = trial({}, ema=0.9)
    *_, last = fit(config, cache, tmp_path / "averaged")
    *_, plain = fit(trial({}), cache, tmp_path / "plain")

    averaged, unchanged = (torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("averaged", "plain"))
    checkpoint = torch.load(tmp_path / "averaged" / "checkpoint.pt", weights_only=True)
    torch.testing.assert_close(checkpoint["model"], unchanged, rtol=0, atol=0)
    torch.testing.assert_close(
        {name: averaged[name] for name in checkpoint["optimizer"]["average"]["values"]},
        checkpoint["optimizer"]["average"]["values"], rtol=0, atol=0,
    )  # fmt: skip
    assert last.metrics["top1_plain"] == plain.metrics["top1"]
    net = build_model(config.model, config.data.num_classes())
    net.load_state_dict(averaged)
    metrics = evaluate(net, open_clips(cache, "val"), config, torch.device("cpu")).metrics
    assert metrics == {name: last.metrics[name] for name in metrics}
    assert metrics["loss"] != plain.metrics["loss"]


@pytest.mark.parametrize("name", ["top1", "loss"])
def test_smoothing_and_class_weights_are_in_the_training_loss_only(cache: Path, tmp_path: Path, name: str) -> None:
    # With a rate of next to nothing the weights stay the same, so the losses differ by the criterion alone.
    runs = {}
    for run, options in {"plain": {}, "smooth": {"label_smoothing": 0.5, "balance": {"weights": 1}}}.items():
        *_, runs[run] = fit(trial({}, epochs=1, lr=1e-12, **options), cache, tmp_path / run)

    assert runs["plain"].metrics[name] == pytest.approx(runs["smooth"].metrics[name], abs=1e-6)
    assert abs(runs["plain"].metrics["train_loss"] - runs["smooth"].metrics["train_loss"]) > 1e-5

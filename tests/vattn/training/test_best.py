"""``best.pt`` has the weights of the best epoch, whenever a training was killed."""

import itertools
from pathlib import Path

import pytest
import torch

from tests.vattn.training.test_checkpoint import CONFIG, cut_off
from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.errors import UserError
from vattn.model import load_model
from vattn.training import best
from vattn.training.checkpoint import FILE, PARTIAL_FILE, Epoch, config_of, finished, go_on_as
from vattn.training.evaluation import evaluate
from vattn.training.fit import fit
from vattn.training.state_file import write_state

EPOCHS = 5


def of(epochs: int = EPOCHS, **train: object) -> TrialConfig:
    tree = CONFIG.tree()
    tree["train"] |= {"epochs": epochs, "checkpoint_minutes": "none"} | train
    return TrialConfig.parse(tree)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(CONFIG.data, tmp_path_factory.mktemp("motion"))


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    list(fit(of(), cache, folder, keep_best=True))
    return folder


def test_the_first_of_the_most_accurate_epochs_is_the_best() -> None:
    done = [Epoch(number, {"top1": top1}, 1.0) for number, top1 in enumerate([0.2, 0.5, 0.5, 0.4], 1)]

    assert best.best(done).number == 2


def test_the_best_weights_have_the_best_accuracy(cache: Path, whole: Path) -> None:
    done = finished(whole, of())
    top1 = max(epoch.metrics["top1"] for epoch in done)
    state = torch.load(whole / "best.pt", weights_only=True)

    net = load_model(of().model, 16, whole / "best.pt")

    metrics = evaluate(net, open_clips(cache, "val"), of(), torch.device("cpu")).metrics
    assert metrics["top1"] == state["top1"] == top1
    assert done[state["epoch"] - 1].metrics["top1"] == top1
    assert not (whole / best.NEXT_FILE).exists()


def test_without_the_option_no_best_weights_are_kept(cache: Path, tmp_path: Path) -> None:
    list(fit(of(1), cache, tmp_path))

    assert not (tmp_path / "best.pt").exists()


@pytest.mark.parametrize("at", [6, 9, 13, 18])
def test_a_training_that_was_cut_off_keeps_the_same_best_weights(
    cache: Path, whole: Path, tmp_path: Path, at: int
) -> None:
    with cut_off(at):
        list(fit(of(), cache, tmp_path, keep_best=True))
    check_is_of_the_checkpoint(tmp_path)

    list(fit(of(), cache, tmp_path, keep_best=True))

    states = [torch.load(folder / "best.pt", weights_only=True) for folder in (tmp_path, whole)]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def check_is_of_the_checkpoint(folder: Path) -> None:
    state, done = torch.load(folder / "best.pt", weights_only=True), finished(folder, of())
    assert (state["epoch"], state["top1"]) == (best.best(done).number, best.best(done).metrics["top1"])


@pytest.mark.parametrize(("checkpoint", "accepted"), [("with its epoch", True), ("before its epoch", False)])
def test_best_weights_count_once_a_checkpoint_has_their_epoch(tmp_path: Path, checkpoint: str, accepted: bool) -> None:
    done = [Epoch(1, {"top1": 0.2}, 1.0), Epoch(2, {"top1": 0.6}, 1.0)]
    write_state(best.entry({"w": torch.zeros(1)}, done[0]), tmp_path / best.FILE)
    write_state(best.entry({"w": torch.ones(1)}, done[1]), tmp_path / best.NEXT_FILE)

    best.settle(tmp_path, done if checkpoint == "with its epoch" else done[:1])

    assert torch.load(tmp_path / best.FILE, weights_only=True)["epoch"] == (2 if accepted else 1)
    assert not (tmp_path / best.NEXT_FILE).exists()


def test_damaged_next_weights_are_left_out(tmp_path: Path) -> None:
    (tmp_path / best.NEXT_FILE).write_bytes(b"PK")

    best.settle(tmp_path, [Epoch(1, {"top1": 0.2}, 1.0)])

    assert not any(tmp_path.iterdir())


# Another length


def test_a_lengthened_training_with_a_constant_rate_is_the_long_one(cache: Path, tmp_path: Path) -> None:
    short, long = (of(epochs, schedule="constant") for epochs in (2, 4))
    list(fit(long, cache, tmp_path / "long", keep_best=True))
    list(fit(short, cache, tmp_path / "grown", keep_best=True))

    go_on_as(tmp_path / "grown", short, long)
    epochs = list(fit(long, cache, tmp_path / "grown", keep_best=True))

    assert [epoch.length for epoch in epochs] == [2, 2, 4, 4]
    for name in ("model.pt", "best.pt"):
        states = [torch.load(tmp_path / run / name, weights_only=True) for run in ("long", "grown")]
        torch.testing.assert_close(*states, rtol=0, atol=0)


def test_a_training_goes_on_within_its_epoch_with_the_rates_of_the_new_length(cache: Path, tmp_path: Path) -> None:
    often = {"checkpoint_minutes": 1e-9, "schedule": "constant"}
    with cut_off(6):
        list(fit(of(2, **often), cache, tmp_path / "cut"))
    list(fit(of(3, **often), cache, tmp_path / "whole"))

    go_on_as(tmp_path / "cut", of(2, **often), of(3, **often))
    go_on_as(tmp_path / "cut", of(2, **often), of(3, **often))  # again, as after an interruption

    assert (tmp_path / "cut" / PARTIAL_FILE).exists()
    list(fit(of(3, **often), cache, tmp_path / "cut"))
    states = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "cut")]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_a_checkpoint_names_the_config_that_wrote_it_and_what_differs(cache: Path, tmp_path: Path) -> None:
    next(fit(of(2), cache, tmp_path))
    assert config_of(tmp_path) == of(2)
    changed = of(2, lr=0.1, weight_decay=0.0)

    with pytest.raises(
        UserError,
        match=r"by another config: train\.lr \(0\.1, and was 0\.05\); train\.weight_decay \(0\.0, and was 0\.0001\)",
    ):
        next(fit(changed, cache, tmp_path))


def test_a_checkpoint_of_an_earlier_version_names_no_config(cache: Path, tmp_path: Path) -> None:
    next(fit(of(2), cache, tmp_path))
    state = torch.load(tmp_path / FILE, weights_only=True)
    del state["config"]
    for row in state["epochs"]:
        del row["length"]
    torch.save(state, tmp_path / FILE)

    assert config_of(tmp_path) is None
    assert [epoch.length for epoch in itertools.islice(fit(of(2), cache, tmp_path), 2)] == [0, 2]


def test_a_checkpoint_of_an_earlier_version_of_another_config_is_refused(cache: Path, tmp_path: Path) -> None:
    next(fit(of(2), cache, tmp_path))
    state = torch.load(tmp_path / FILE, weights_only=True)
    del state["config"]
    torch.save(state, tmp_path / FILE)

    with pytest.raises(UserError, match="was written by another config; train into another folder"):
        next(fit(of(3), cache, tmp_path))

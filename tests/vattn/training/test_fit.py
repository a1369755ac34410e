"""Training gives the same numbers with and without interruptions, and a model without temporal layers ignores order."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.vattn.training.processes import fit_in_processes
from vattn.config import TrainConfig, TrialConfig
from vattn.data import open_clips, prepare
from vattn.errors import UserError
from vattn.model import build_model
from vattn.training.checkpoint import Epoch
from vattn.training.evaluation import Evaluation, evaluate
from vattn.training.fit import fit
from vattn.training.recipe.schedules import ConstantConfig


def trial(attention: Sequence[object], epochs: int = 3, **data: int) -> TrialConfig:
    sizes = {"train_clips": 4, "val_clips": 2, "test_clips": 1, "frames": 8, "size": 32} | data
    return TrialConfig.parse({
        "data": {"kind": "motion", "store": {"size": sizes["size"]}, **sizes},
        "model": {
            "frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
            "attention": list(attention), "head": {"dropout": 0.3},
        },
        "train": {"epochs": epochs, "batch": 16, "lr": 0.05},
    })  # fmt: skip


TSM = [{"kind": "tsm"}]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(trial([]).data, tmp_path_factory.mktemp("motion"))


def numbers(epochs: list[Epoch]) -> list[tuple[int, dict[str, float]]]:
    return [(epoch.number, epoch.metrics) for epoch in epochs]


@pytest.mark.medium
def test_a_run_interrupted_after_any_epoch_ends_with_the_same_weights(cache: Path, tmp_path: Path) -> None:
    whole = list(fit(trial(TSM), cache, tmp_path / "whole"))
    list(itertools.islice(fit(trial(TSM), cache, tmp_path / "cut"), 1))
    list(itertools.islice(fit(trial(TSM), cache, tmp_path / "cut"), 2))

    resumed = list(fit(trial(TSM), cache, tmp_path / "cut"))

    assert numbers(resumed) == numbers(whole)
    states = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "cut")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_a_run_interrupted_while_the_weights_are_written_writes_them_when_resumed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / ".part-model.pt").mkdir()  # a folder in place of the file: writing fails in the last epoch
    with pytest.raises(OSError, match=r"model\.pt: cannot be written: .*Is a directory.*; make room and go on with"):
        list(fit(trial([]), cache, tmp_path))
    (tmp_path / ".part-model.pt").rmdir()

    epochs = list(fit(trial([]), cache, tmp_path))

    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert (tmp_path / "model.pt").exists()


@pytest.mark.medium
@pytest.mark.parametrize(
    ("world", "batch", "last", "left"),
    [
        (1, 16, 6, 8 - 6),  # 4 steps per epoch; the second epoch had 2
        pytest.param(2, 2, 52, 64 - 32 - 16, marks=pytest.mark.slow),  # 32 steps per epoch, a checkpoint every 16
    ],
)
def test_a_run_killed_within_an_epoch_ends_with_the_same_weights(
    cache: Path, tmp_path: Path, world: int, batch: int, last: int, left: int
) -> None:
    config = trial(TSM, epochs=2)
    often, never = (
        config.model_copy(
            update={"train": config.train.model_copy(update={"batch": batch, "checkpoint_minutes": minutes})}
        )
        for minutes in (1e-9, "none")
    )
    expected = fit_in_processes(never, cache, tmp_path / "whole", world)
    assert fit_in_processes(often, cache, tmp_path / "cut", world, last) == []

    metrics, steps = fit_in_processes(often, cache, tmp_path / "cut", world)

    assert (metrics, int(steps)) == (expected[0], left)
    states = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "cut")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_another_seed_gives_another_run(cache: Path, tmp_path: Path) -> None:
    config = trial(TSM, epochs=1)
    reseeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": 1})})

    assert numbers(list(fit(config, cache, tmp_path / "a"))) != numbers(list(fit(reseeded, cache, tmp_path / "b")))


def test_a_folder_of_another_config_is_refused(cache: Path, tmp_path: Path) -> None:
    list(fit(trial(TSM, epochs=1), cache, tmp_path))

    with pytest.raises(UserError, match=r"checkpoint\.pt: was written by another config"):
        next(fit(trial([], epochs=1), cache, tmp_path))


def test_the_evaluated_weights_are_saved(cache: Path, tmp_path: Path) -> None:
    config = trial(TSM, epochs=2)
    *_, last = fit(config, cache, tmp_path)
    net = build_model(config.model, 16)
    net.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))

    metrics = evaluate(net, open_clips(cache, "val"), config, torch.device("cpu")).metrics

    assert metrics == {name: last.metrics[name] for name in metrics}


def test_a_loss_that_is_not_finite_is_an_error_with_a_way_out(cache: Path, tmp_path: Path) -> None:
    config = trial([], epochs=2)
    diverging = config.model_copy(update={"train": config.train.model_copy(update={"lr": 1e30})})

    with pytest.raises(FloatingPointError, match=r"lower train\.lr"):
        list(fit(diverging, cache, tmp_path))


def test_metrics_are_computed_from_the_confusion_matrix() -> None:
    # 10 clips of class 0, of which 9 are correct; 2 of class 1, of which 1 is correct; none of class 2.
    confusion = torch.tensor([[9.0, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.float64)

    metrics = Evaluation(confusion, top5=12.0, loss=6.0).metrics

    assert metrics == pytest.approx({"top1": 10 / 12, "top5": 1.0, "mean_class": (0.9 + 0.5) / 2, "loss": 0.5})


def test_the_learning_rate_follows_half_a_cosine() -> None:
    train = TrainConfig(epochs=4, batch=1, lr=0.2)

    assert [train.lr_at(epoch) for epoch in (0.0, 1.0, 2.0, 4.0)] == pytest.approx(
        [0.2, 0.1 * (1 + math.sqrt(0.5)), 0.1, 0.0]
    )
    assert train.model_copy(update={"schedule": ConstantConfig()}).lr_at(3.5) == 0.2


def _worker(rank: int, config: TrialConfig, cache: Path, folder: Path, meeting: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=2)
    epochs = list(fit(config, cache, folder))
    torch.save(numbers(epochs), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.medium
def test_two_workers_process_each_clip_once_and_agree(cache: Path, tmp_path: Path) -> None:
    config = trial(TSM, epochs=2)

    mp.spawn(_worker, (config, cache, tmp_path, tmp_path / "meeting"), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]

    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    # One process that evaluates all clips with the saved weights gets the same metrics.
    net = build_model(config.model, 16)
    net.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    expected = evaluate(net, open_clips(cache, "val"), config, torch.device("cpu")).metrics
    assert {name: ranks[0][-1][1][name] for name in expected} == pytest.approx(expected)


def within_pairs(confusion: torch.Tensor) -> tuple[float, float]:
    """Return the accuracy among the clips that were classified as a class of their own pair, and their number.

    A pair is a class and its reverse in time.
    """
    blocks = confusion.view(8, 2, 8, 2).diagonal(dim1=0, dim2=2)  # (2, 2, pairs)
    correct = blocks.diagonal(dim1=0, dim2=1).sum()
    return float(correct / blocks.sum()), float(blocks.sum())


@pytest.mark.medium
def test_a_model_without_temporal_layers_cannot_distinguish_a_clip_from_its_reverse(tmp_path: Path) -> None:
    config = trial([], epochs=3, train_clips=12, val_clips=30)
    cache = prepare(config.data, tmp_path)
    list(fit(config, cache, tmp_path / "fit"))
    net = build_model(config.model, 16)
    net.load_state_dict(torch.load(tmp_path / "fit" / "model.pt", weights_only=True))

    share, clips = within_pairs(evaluate(net, open_clips(cache, "val"), config, torch.device("cpu")).confusion)

    assert clips >= 60
    assert share <= 0.5 + 2 * math.sqrt(0.25 / clips)

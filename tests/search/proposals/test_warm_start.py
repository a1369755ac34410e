"""Warm start: the usable trials of an earlier search, when they are used, and that a resume reads them no more."""

import math
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.cli import main
from search.ledger.events import EarlierTrial, Event, Finished, Guarded, Proposed, Reported, WarmStarted
from search.ledger.file import NAME, Ledger
from search.ledger.history import Trial
from search.proposals.warm_start import moved, read_sources, repeats
from search.spec.messages import SpecError
from search.spec.schema import Spec
from tests.search.searches import TREE, finish, searching, spec, state

TSM = [{"kind": "tsm", "stages": [2, 3]}]


def earlier(folder: Path, *models: dict[str, Any], loss: float | None = None, **train: Any) -> Path:
    """Write the ledger of a search that has finished ``models``, with top-1 0.05, 0.1, 0.15 ... in their order."""
    choice = {"choice": [TREE["trial"]["model"] | {"attention": [], "frames": 2} | model for model in models]}
    trial = TREE["trial"] | {"model": choice, "train": {"epochs": 1, "batch": 8, "lr": 0.1} | train}
    with searching(spec().model_copy(update={"trial": trial}), folder) as (ledger, proposer, record):
        while (number := proposer.propose(record)) is not None:
            top1 = 0.05 * (1 + ledger.history.trials[number].params.get("model", 0))
            metrics = {"top1": top1} if loss is None else {"top1": top1, "loss": loss}
            record(Reported(trial=number, epoch=1, metrics=metrics, seconds=1.0))
            record(Finished(trial=number, epoch=1, seconds=1.0))
    return folder


def source(folder: Path, **changes: Any) -> WarmStarted:
    (read,) = read_sources(warm(folder, **changes))
    return read


def warm(*folders: Path, **changes: Any) -> Spec:
    search = TREE["search"] | {"warm_start": [str(f) for f in folders]}
    return spec(search=search, **changes)


def test_an_earlier_trial_is_read_as_choices_in_this_space(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", {}, {"frames": 4, "attention": TSM})

    read = source(folder)

    assert [(trial.trial, trial.params) for trial in read.trials] == [
        (0, {"model.frames": 0, "model.attention": 0, "train.lr": 0.1}),
        (
            1,
            {
                "model.frames": 1, "model.attention": 1, "model.attention/tsm/stages": (0, 1),
                "model.attention/tsm/every": 1, "train.lr": 0.1,
            },
        ),
    ]  # fmt: skip
    assert [trial.metrics["top1"] for trial in read.trials] == [0.05, 0.1]
    assert (read.name, read.left_out, read.differs) == ("study", {}, ("train.epochs",))


def test_unusable_trials_are_counted_by_reason(tmp_path: Path) -> None:
    tam = [{"kind": "tam", "stages": [2]}]
    folder = earlier(tmp_path / "a", {}, {"frames": 8}, {"attention": tam}, {"frames": 4}, {"head": {"dropout": 0.1}})
    limit = spec().cost(spec().trial_config(next(spec().space.enumerate())[1]))["gflops"] * 1.5

    read = source(folder, constraints={"gflops": {"max": limit}}, objectives={"top5": "max", "gflops": "min"})
    assert read.left_out == {"it has no top5": 1, "it is not in this space": 3, "it is over a limit: gflops": 1}
    read = source(folder, constraints={"gflops": {"max": limit}})
    assert [trial.trial for trial in read.trials] == [0]


def test_the_word_of_an_optimizer_and_its_options_are_one_value(tmp_path: Path) -> None:
    words = earlier(tmp_path / "a", {}, optimizer="sgd", schedule="constant")
    options = earlier(tmp_path / "b", {}, optimizer={"kind": "sgd", "momentum": 0.9}, schedule={"kind": "constant"})
    other = earlier(tmp_path / "c", {}, optimizer={"kind": "sgd", "momentum": 0.8}, schedule="constant")

    def params(folder: Path, **train: Any) -> list[dict[str, Any]]:
        trial = TREE["trial"] | {"train": TREE["trial"]["train"] | train}
        return [{k: v for k, v in t.params.items() if "train.o" in k} for t in source(folder, trial=trial).trials]

    by_word = {"optimizer": {"choice": ["adamw", "sgd"]}, "schedule": {"choice": ["cosine", "constant"]}}
    momentum = {"optimizer": {"choice": [{"kind": "sgd", "momentum": {"choice": [0.8, 0.9]}}, "adamw"]}}
    for folder in (words, options):
        assert params(folder, **by_word) == [{"train.optimizer": 1}]
        assert params(folder, **momentum) == [{"train.optimizer": 0, "train.optimizer/sgd/momentum": 1}]
    assert params(other, **by_word) == []
    assert params(other, **momentum) == [{"train.optimizer": 0, "train.optimizer/sgd/momentum": 0}]


def test_a_value_must_be_in_a_range_of_this_search_but_fixed_values_may_differ(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", {}, lr=0.5)

    assert source(folder).left_out == {"it is not in this space": 1}
    assert source(folder, train={"lr": 0.1}).differs == ("train.epochs", "train.lr")


def test_a_network_of_another_size_is_read_at_the_size_of_this_search(tmp_path: Path) -> None:
    small = {"size": 24, "backbone": {"kind": "resnet", "depth": 18, "width": 0.125}}
    folder = earlier(tmp_path / "a", small, small | {"attention": TSM})
    large = {"frames": 8, "backbone": {"kind": "resnet", "depth": 10, "width": 0.5}}

    read = source(folder, model=large)

    assert [trial.params.get("model.attention/tsm/stages") for trial in read.trials] == [None, (0, 1)]
    own = warm(model=large)
    costs = [own.cost(own.trial_config(own.space.replay(trial.params))) for trial in read.trials]
    assert [trial.metrics for trial in read.trials] == [cost | {"top1": 0.05 * n} for n, cost in enumerate(costs, 1)]
    sizes = ("model.backbone.depth", "model.backbone.width", "model.frames", "model.size", "train.epochs")
    assert (read.left_out, read.differs) == ({}, sizes)


def test_a_size_with_a_range_must_be_in_it_and_another_backbone_is_another_network(tmp_path: Path) -> None:
    inflated = {"backbone": {"kind": "i3d_resnet", "depth": 10, "width": 0.25}}
    folder = earlier(tmp_path / "a", {"size": 24}, {"size": 48}, inflated)

    read = source(folder, model={"size": {"choice": [48, 64]}})

    assert ([trial.trial for trial in read.trials], read.left_out) == ([1], {"it is not in this space": 2})


def test_a_size_that_an_option_fixes_is_a_fixed_one(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", {"size": 24}, {"size": 24, "attention": TSM})
    model = TREE["trial"]["model"] | {"frames": 4, "attention": TSM}
    inflated = {"frames": 4, "size": 48, "backbone": {"kind": "i3d_resnet", "depth": 10, "width": 0.5}}

    read = source(folder, trial=TREE["trial"] | {"model": {"choice": [inflated, model | {"size": 48}]}})

    assert [(trial.trial, trial.params["model"]) for trial in read.trials] == [(1, 1)]
    assert read.differs == ("model.frames", "model.size", "train.epochs")


def test_of_trials_with_one_config_in_this_search_the_most_similar_is_used(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", {}, lr={"choice": [0.2, 0.1, 0.3]})

    read = source(folder, train={"lr": 0.1, "epochs": 1})

    (used,) = read.trials
    with closing(Ledger(folder / NAME)) as ledger:
        assert ledger.history.trials[used.trial].config["train"]["lr"] == 0.1
    assert read.left_out == {"another trial has its config, and is more like those here": 2}
    assert read.differs == ()


def test_a_ledger_keeps_all_of_a_source(tmp_path: Path) -> None:
    read = source(earlier(tmp_path / "a", {}, {"attention": TSM}))
    with closing(Ledger(tmp_path / "b" / NAME)) as ledger:
        ledger.append(read)
        (event,) = ledger.replay()

    assert isinstance(event, WarmStarted)
    assert (event.source, event.id, event.name, event.left_out, event.differs) == (
        str(tmp_path / "a"), "a", "study", {}, ("train.epochs",),
    )  # fmt: skip
    assert [(t.trial, t.identity, t.metrics) for t in event.trials] == [
        (t.trial, t.identity, t.metrics) for t in read.trials
    ]
    assert [spec().space.replay(t.params) for t in event.trials] == [spec().space.replay(t.params) for t in read.trials]


def test_a_diverged_metric_that_is_no_objective_does_not_matter(tmp_path: Path) -> None:
    read = source(earlier(tmp_path / "a", {}, loss=math.nan))
    with closing(Ledger(tmp_path / "b" / NAME)) as ledger:
        ledger.append(read)
        (event,) = ledger.replay()

    assert isinstance(event, WarmStarted)
    assert math.isnan(event.trials[0].metrics["loss"])


def test_a_folder_without_a_search_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError) as error:
        read_sources(warm(tmp_path / "empty", tmp_path / "gone"))
    assert [line.partition(": no search")[0] for line in error.value.lines] == [
        f"spec.yaml: search.warm_start[{n}]: {tmp_path / name}" for n, name in enumerate(("empty", "gone"))
    ]

    with pytest.raises(SpecError, match=r"search\.warm_start: names .* twice; name it once"):
        warm(tmp_path, tmp_path)
    written = tmp_path / "spec.yaml"
    written.write_text(yaml.safe_dump(TREE | {"output": str(tmp_path / "out")}))
    for command in ("check", "run"):
        assert main([command, str(written), "--set", "search.warm_start=[gone]"]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(f"{written}: search.warm_start[0]: gone: no search is kept there")
        assert (printed.err.count("\n"), printed.out) == (1, "")


def test_the_earlier_front_is_repeated_at_even_distances_the_best_first() -> None:
    # Nine on a front, one dominated; five of nine are the ends, the middle, and one between each two.
    def point(n: int, top1: float, gflops: float) -> EarlierTrial:
        return EarlierTrial(trial=n, params={}, identity=str(n), metrics={"top1": top1, "gflops": gflops})

    def of(name: str, *trials: EarlierTrial) -> WarmStarted:
        return WarmStarted(source=name, id="", name="", trials=trials, left_out={}, differs=())

    many = of("a", *(point(n, 0.1 * n, float(n)) for n in range(1, 10)), point(10, 0.1, 5.0))
    single = of("b", point(3, 0.9, 1.0))
    both = {"top1": "max", "gflops": "min"}

    assert [trial.trial for _, trial in repeats([many], both)] == [9, 7, 5, 3, 1]
    assert [(s.source, t.trial) for s, t in repeats([many, single], both)] == [
        ("a", 9), ("b", 3), ("a", 7), ("a", 5), ("a", 1),
    ]  # fmt: skip
    assert repeats([], both) == []


def test_moved_accuracies_stay_in_their_bounds() -> None:
    metrics = {"top1": 0.9, "top5": 0.1, "loss": 1.0, "gflops": 0.5}

    assert moved(metrics, {"top1": 0.2, "top5": -0.2, "loss": -2.0}) == {
        "top1": 1.0, "top5": 0.0, "loss": 0.0, "gflops": 0.5,
    }  # fmt: skip
    assert moved(metrics, {"loss": 0.5}) == metrics | {"loss": 1.5}


STAGES = [[2], [3], [4], [2, 3], [2, 4], [3, 4]]
MODELS = [
    {"frames": frames, "attention": attention}
    for frames in (2, 4)
    for attention in ([], *([{"kind": "tsm", "stages": stages}] for stages in STAGES))
]


def rank(trial: Trial) -> int:
    """Return the rank of a model in a search of `MODELS`, 1 (worst) to 14; an unknown model is next to the best."""
    model = trial.config["model"]
    stages = model["attention"][0]["stages"] if model["attention"] else None
    place = 0 if stages is None else 1 + (STAGES.index(stages) if stages in STAGES else 5)
    return 1 + 7 * (model["frames"] == 4) + place


def run_warm(
    folder: Path, top1: Callable[[Trial], float], size: int = 32
) -> tuple[list[Event], dict[int, list[float]]]:
    """Run 24 trials with a warm start from a search of `MODELS`, and check that a resume gives the same state.

    Return the events, and the values of the earlier trials in the study. ``size`` is the side of the frames of the
    earlier search; here it is 32 pixels.
    """
    ready = warm(earlier(folder / "earlier", *(model | {"size": size} for model in MODELS)))
    with searching(ready, folder / "own") as (ledger, proposer, record):
        for read in read_sources(ready):
            record(read)
        for _ in range(24):
            number = proposer.propose(record)
            assert number is not None
            finish(record, number, top1(ledger.history.trials[number]))
        before, seen, events = state(proposer), proposer.screening.seen, list(ledger.replay())
    shutil.rmtree(folder / "earlier")
    with searching(ready, folder / "own") as (ledger, proposer, _):
        assert (state(proposer), proposer.screening.seen) == (before, seen)
        assert read_sources(ready, ledger.history.warm) == []
    return events, {attrs["earlier"]: values for *_, values, attrs in before if "source" in attrs}


@pytest.mark.parametrize("size", [32, 24])
def test_a_warm_search_repeats_the_earlier_front_and_uses_the_other_trials_once_the_rankings_agree(
    tmp_path: Path, size: int
) -> None:
    events, known = run_warm(tmp_path, lambda trial: 0.2 + 0.025 * rank(trial), size)

    (read,) = [event for event in events if isinstance(event, WarmStarted)]
    # TSM costs nothing, so that the front is the best model of each T.
    best = [max(t.trial for t in read.trials if round(t.metrics["top1"] / 0.05) == n) for n in (14, 7)]
    whys = [event.why for event in events if isinstance(event, Proposed)]
    assert whys[0] == {"plain": True}
    assert whys[1:3] == [{"earlier": {"source": str(tmp_path / "earlier"), "trial": trial}} for trial in best]
    assert not any(whys[3:])
    (decision,) = [event for event in events if isinstance(event, Guarded)]
    assert decision.trusted
    # In the study they are at the level of this search: each is moved by the same offset.
    assert known == {
        t.trial: [pytest.approx(t.metrics["top1"] + decision.offset["top1"]), t.metrics["gflops"]] for t in read.trials
    }
    assert len(read.trials) == 14


def test_a_search_with_the_opposite_ranking_is_never_used(tmp_path: Path) -> None:
    events, known = run_warm(tmp_path, lambda trial: 0.8 - 0.025 * rank(trial))

    assert not any(isinstance(event, Guarded) for event in events)
    assert known == {}


def test_a_search_that_agreed_at_first_only_is_dropped_again(tmp_path: Path) -> None:
    events, known = run_warm(tmp_path, lambda trial: 0.2 + 0.025 * rank(trial) * (1 if trial.number < 12 else -1))

    assert [event.trusted for event in events if isinstance(event, Guarded)] == [True, False]
    assert known == {}

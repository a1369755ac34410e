"""Names, parameters and tags of runs: what counts is first, and values are those of the config."""

from dataclasses import replace
from typing import Any

import pytest

from search.ledger.history import History, Trial
from search.report.tracking.texts import param_names, run_name, run_params, short_name, standings, trial_tags
from tests.search.events import event
from tests.search.report.ledgers import Trees, retrainings, trial

OBJECTIVES: Any = {"top1": "max", "gflops": "min"}

#: the searched stages of a T-CNN, and a searched block of sparse attention
SPACE: dict[str, Any] = {
    "data": {"kind": "ucf101"},
    "model": {
        "frames": {"choice": [8, 16]},
        "backbone": {
            "kind": "tcnn",
            "dilations": [
                [1],
                *({"repeat": {"times": {"int": [1, 4]}, "of": {"choice": [1, 2, 4]}}} for _ in range(4)),
            ],
        },
        "attention": {"choice": [[], [{"kind": "tam", "alpha": {"choice": [1, 2]}}]]},
        "sparse": {"choice": ["none", {"branches": ["original"], "delta": {"float": [0.1, 0.3]}}]},
    },
    "train": {"lr": {"float": [0.01, 0.1], "log": True}},
}


def tcnn(sparse: Any, **params: Any) -> Trial:
    """Return a trial of `SPACE` with the dilations of the paper's last stages."""
    stages = [[1, 4, 4, 4], [1, 2], [2, 2, 1], [1, 2]]
    repeats = {f"model.backbone.dilations.{n}.times": len(stage) for n, stage in enumerate(stages, start=1)}
    repeats |= {f"model.backbone.dilations.{n}.{i}": 0 for n, stage in enumerate(stages, 1) for i in range(len(stage))}
    model = {
        "frames": 8, "attention": [], "backbone": {"kind": "tcnn", "dilations": [[1], *stages]}, "sparse": sparse,
    }  # fmt: skip
    config = {"data": {}, "model": model, "train": {"lr": 0.05, "epochs": 2}}
    params = {"model.frames": 0, "model.attention": 0, "model.sparse": 1, "train.lr": 0.05} | repeats | params
    return Trial(3, params, config, "i", "a", {"gflops": 1.834})


def test_a_layout_is_written_by_stages_and_a_block_by_its_values() -> None:
    usual = {"branches": ["original", "discriminative", "complementary"], "window": 3, "peak_filter": "mean"}
    unusual = tcnn(usual | {"branches": ["original"], "delta": 0.25}, **{"model.sparse/1/delta": 0.25})

    assert run_params(unusual, param_names({"trial": SPACE})) == {
        "attention": "no attention", "backbone.dilations": "1,4,4,4 | 1,2 | 2,2,1 | 1,2", "frames": "8",
        "sparse": "branches original delta 0.25", "sparse.1.delta": "0.25", "tam.alpha": "-", "train.lr": "0.05",
    }  # fmt: skip
    assert run_params(tcnn(usual), {})["sparse"] == "default"
    assert run_params(tcnn("none"), {})["sparse"] == "none"
    assert "dilations 1,4,4,4 | 1,2 | 2,2,1 | 1,2" in run_name(unusual, "running", OBJECTIVES)


def test_all_trials_of_a_space_have_the_same_parameters() -> None:
    names = param_names({"trial": SPACE})

    assert next(iter(names)) == "attention"
    assert set(run_params(tcnn("none"), names)) == set(names)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("model.frames", "frames"),
        ("model.attention.tam.alpha", "tam.alpha"),
        ("model.attention.1.alpha", "attention.1.alpha"),
        ("train.lr", "train.lr"),
        ("attention", "attention"),
    ],
)
def test_parameters_have_short_names(name: str, short: str) -> None:
    assert short_name(name) == short


def test_a_name_begins_with_what_counts(events: Trees) -> None:
    ended = History.of(map(event, [events[0], *trial(7, 1.834, 0.5, 0.7125)])).trials[7]

    def named(state: str, objectives: Any = OBJECTIVES) -> str:
        return run_name(ended, state, objectives)

    assert named("finished") == "71.2 % · 1.83 G · tam a2 K3 res2,3 b, T8 · trial 7"
    assert named("stopped").startswith("stopped 71.2 % · 1.83 G · ")
    assert named("failed").startswith("failed · 1.83 G · ")
    assert named("finished", {"params_m": "min", "top1": "max"}).startswith("71.2 % · 2 M · ")
    # A loss is a number, and an unfinished trial has no result yet.
    lossy = replace(ended, reports=[ended.reports[-1].model_copy(update={"metrics": {"loss": 0.25}})])
    assert run_name(lossy, "finished", {"loss": "min", "gflops": "min"}).startswith("0.25 · 1.83 G · ")
    assert run_name(replace(ended, reports=[]), "running", OBJECTIVES).startswith("running · 1.83 G")


def test_tags_say_what_a_training_is(events: Trees) -> None:
    history = History.of(map(event, [events[0], *trial(0, 0.2, 0.5), *retrainings(1, 0, 0.2, 0.75)]))

    assert trial_tags(history.trials[0]) == {"kind": "trial", "mechanism": "tam", "stages": "res2,3"}
    assert trial_tags(history.extras[1])["kind"] == "fresh seed"
    assert trial_tags(history.extras[1])["confirms"] == "0"
    assert trial_tags(tcnn("none")) == {"kind": "trial", "mechanism": "no attention", "backbone": "tcnn"}


def test_ranks_are_those_of_the_fresh_seeds_once_there_are_some(events: Trees) -> None:
    trees = [events[0], *trial(0, 0.2, 0.5), *trial(1, 0.4, 0.75), *trial(2, 0.4, 0.625)]
    searched = History.of(map(event, trees))
    confirmed = History.of(map(event, [*trees, *retrainings(3, 0, 0.2, 0.7), *retrainings(4, 1, 0.4, 0.6)]))

    assert {n: (tags["rank"], tags["front"]) for n, tags in standings(searched, OBJECTIVES).items()} == {
        0: ("3", "yes"), 1: ("1", "yes"), 2: ("2", "no"),
    }  # fmt: skip
    assert {n: (tags["rank"], tags["front"]) for n, tags in standings(confirmed, OBJECTIVES).items()} == {
        0: ("1", "yes"), 1: ("2", "no"), 2: ("none", "no"),
    }  # fmt: skip

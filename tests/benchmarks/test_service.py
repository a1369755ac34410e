"""The comparison of services: times and hypervolumes are worked out by hand."""

import json
from collections.abc import Sequence
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from search.ledger.events import Proposed, Reported, SearchBegan, Started, Stopped
from search.ledger.file import NAME, Ledger
from search.spec.validation import load, parse
from tests.benchmarks.bench_service import (
    QUICKSTART,
    REPORTS,
    Curve,
    System,
    against,
    systems_by_duration,
    tree,
    trial_at,
    trials_of_ledger,
    trials_of_reports,
)
from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.data.layouts.motion import MotionDataConfig, generate
from vattn.training.batches.loader import eval_batches

NETWORK = {"gflops": 0.1, "architecture": "a"}


def search(seed: int, *trials: tuple[float, str, float, float]) -> dict[str, Any]:
    """Return a search of 100 s in a space of up to 2 GFLOPs; a trial is (time of its end, state, top1, GFLOPs)."""
    names = ("at", "state", "top1", "gflops", "training")
    rows = [dict(zip(names, (*trial, 5.0), strict=True)) for trial in trials]
    return {"seed": seed, "seconds": 100, "dearest": 2.0, "trials": rows}


#: 50 % at half of the maximal cost: hypervolume 1/4. Then also 80 % at three quarters: 0.5 / 4 + 0.8 / 4.
SEARCH = search(0, (10, "finished", 0.5, 1.0), (20, "stopped", 0.9, 0.1), (30, "finished", 0.8, 1.5))


def test_only_finished_trials_count_from_their_end_on() -> None:
    curve = Curve(SEARCH)

    assert [curve.at(seconds) for seconds in (9.9, 10, 29.9, 30, 100)] == pytest.approx([0, 0.25, 0.25, 0.325, 0.325])


def test_a_dominated_trial_adds_nothing() -> None:
    curve = Curve(search(0, (10, "finished", 0.5, 1.0), (20, "finished", 0.5, 1.5), (30, "finished", 1.0, 2.0)))

    assert curve.at(100) == pytest.approx(0.25)


def test_a_hypervolume_is_reached_at_the_end_of_the_trial_that_adds_it() -> None:
    curve = Curve(SEARCH)

    assert [curve.reached(volume) for volume in (0.0, 0.25, 0.26, 0.33)] == [10, 10, 30, inf]


def test_the_median_reaches_a_hypervolume_when_half_of_the_seeds_have() -> None:
    def search_that_finishes(seed: int, seconds: float) -> dict[str, Any]:
        return search(seed, (seconds, "finished", 0.5, 1.0))

    system = System([search_that_finishes(0, 10), search_that_finishes(1, 40), search_that_finishes(2, 20)])

    assert system.reached(0.25) == 20


def test_overhead_is_the_time_outside_of_epochs_divided_by_the_number_of_trials() -> None:
    # Two slots for 100 s; three trials trained for 5 s each.
    assert System([SEARCH]).overhead(slots=2) == pytest.approx((200 - 15) / 3)


def test_seeds_are_compared_in_pairs() -> None:
    system = System([SEARCH, search(1, (40, "finished", 0.4, 1.0))])
    peer = System([search(0, (80, "finished", 0.5, 1.0)), search(1, (50, "finished", 0.5, 1.0))])

    lines = list(against("ours", system, "theirs", peer))

    # The peer's final median is 0.25. The system's median is (0.325 + 0.2) / 2 = 0.2625 from 40 s on.
    assert lines[2:] == [
        "| seed 0 | 10 | 80 | 10% | 12% |",
        "| seed 1 | never | 50 | - | - |",
        "| of the medians | 40 | 80 | 40% | 50% |",
    ]


def test_searches_of_different_duration_are_separate() -> None:
    rows = [search(seed) | {"system": name} for name in ("competent", "ours") for seed in range(2)]
    long = search(0) | {"system": "ours", "seconds": 600}

    groups = systems_by_duration([long, *rows])

    assert [(seconds, list(systems)) for seconds, systems in groups.items()] == [
        (100, ["ours", "competent"]), (600, ["ours"]),
    ]  # fmt: skip
    assert list(groups[100]["ours"].curves) == [0, 1]


@pytest.mark.parametrize(
    ("reports", "end", "state", "at"),
    [((1, 2, 3), 3, "finished", 3), ((1, 2), 2, "stopped", 2), ((1, 2), None, "cut", 2), ((1, 2, 8), 8, "cut", 2)],
)
def test_reports_after_the_end_of_the_measurement_do_not_count(
    reports: Sequence[float], end: float | None, state: str, at: float
) -> None:
    timed_reports = [(100 + seconds, 0.1 * n, 0.5) for n, seconds in enumerate(reports, start=1)]

    trials = list(trial_at(timed_reports, end and 100 + end, NETWORK, epochs=3, began=100, until=105))

    assert [(t["state"], t["at"], t["epochs"]) for t in trials] == [(state, at, round(2 * trials[0]["training"]))]
    assert trials[0]["top1"] == pytest.approx(0.1 * trials[0]["epochs"])


def test_a_trial_without_a_report_is_left_out() -> None:
    assert not list(trial_at([(106, 0.1, 0.5)], None, NETWORK, epochs=3, began=100, until=105))


def test_a_ledger_and_the_reports_of_another_service_give_the_same_trials(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / NAME)) as ledger:
        began = {"search": {"budget": {}}, "objectives": {"top1": "max"}}
        ledger.append(SearchBegan(id="s", name="by-hand", spec=began, versions={}))
        config: dict[str, Any] = {"data": {}, "model": {}, "train": {"epochs": 1}}
        ledger.append(Proposed(trial=0, params={}, config=config, identity="i", architecture="a", cost={"gflops": 0.1}))
        ledger.append(Started(trial=0, epoch=0))
        event = ledger.append(Reported(trial=0, epoch=1, metrics={"top1": 0.5}, seconds=2.0))
        ledger.append(Stopped(trial=0, epoch=1, reason="by hand"))
    time = event.time
    lines = [{"time": time, "trial": "x", "top1": 0.5, "seconds": 2.0, **NETWORK}, {"time": time, "trial": "x"}]
    (tmp_path / REPORTS).write_text("".join(json.dumps(line) + "\n" for line in lines))

    readers = (trials_of_ledger, trials_of_reports)
    from_ledger, from_reports = (list(read_trials(tmp_path, 9, time - 7, time + 60)) for read_trials in readers)

    assert (
        from_ledger
        == from_reports
        == [{"at": 7, "state": "stopped", "epochs": 1, "top1": 0.5, "training": 2.0, **NETWORK}]
    )


@pytest.mark.medium
def test_the_other_services_search_exactly_the_same_space() -> None:
    from tests.benchmarks.services import DefineByRun

    spec = load(QUICKSTART)
    suggest, study = DefineByRun(spec, {}), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    trials = [study.ask() for _ in range(300)]
    configs = [json.loads(suggest(trial)["config"]) for trial in trials]

    all_configs = [config for _, config in spec.space.enumerate()]
    assert all(config in all_configs for config in configs)
    values = {(name, value) for trial in trials for name, value in trial.params.items()}
    assert len(values) == sum(domain.count or 0 for domain in spec.space.domains.values())


@pytest.mark.medium
def test_the_stock_service_validates_on_the_same_clips_as_this_project(tmp_path: Path) -> None:
    from tests.benchmarks.services import Videos

    generate(MotionDataConfig(train_clips=1, val_clips=2, test_clips=1), tmp_path / "videos", jobs=1)
    spec = parse(tree(tmp_path / "videos", tmp_path / "search", 0, 60.0, []), tmp_path / "spec.yaml")
    config: TrialConfig = spec.trial_config(spec.space.plain()[1])
    clips = open_clips(prepare(config.data, tmp_path / "search"), "val")

    batches = list(eval_batches(clips, config.data, config.model, batch=8))
    stock = Videos(tmp_path / "videos" / "val", config.model.frames, config.model.size, training=False, seed=0)

    assert torch.equal(torch.cat([images for images, _ in batches]), torch.stack([images for images, _ in stock]))
    assert torch.cat([labels for _, labels in batches]).tolist() == [label for _, label in stock]

import json
from collections.abc import Sequence
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from search.ledger.file import NAME, Ledger
from search.spec.validation import load, parse
from tests.benchmarks.bench_service import (
    QUICKSTART,
    REPORTS,
    Curve,
    System,
    against,
    clocks,
    ended,
    ledger_ends,
    reported_ends,
    tree,
)
from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.data.layouts.motion import MotionDataConfig, generate
from vattn.loader import eval_batches

NETWORK = {"gflops": 0.1, "architecture": "a"}


def search(seed: int, *trials: tuple[float, str, float, float]) -> dict[str, Any]:
    """Return a search of 100 s in a space of up to 2 GFLOPs; a trial is when it ended, how, its top1 and its cost."""
    names = ("at", "state", "top1", "gflops", "training")
    rows = [dict(zip(names, (*trial, 5.0), strict=True)) for trial in trials]
    return {"seed": seed, "seconds": 100, "dearest": 2.0, "trials": rows}


#: At half of the cost 50 %: 1/4. At three quarters 80 %: 0.5 / 4 + 0.8 / 4.
ONE = search(0, (10, "finished", 0.5, 1.0), (20, "stopped", 0.9, 0.1), (30, "finished", 0.8, 1.5))


def test_only_finished_trials_dominate_and_from_their_end_on() -> None:
    curve = Curve(ONE)

    assert [curve.at(seconds) for seconds in (9.9, 10, 29.9, 30, 100)] == pytest.approx([0, 0.25, 0.25, 0.325, 0.325])


def test_what_is_dominated_adds_nothing() -> None:
    curve = Curve(search(0, (10, "finished", 0.5, 1.0), (20, "finished", 0.5, 1.5), (30, "finished", 1.0, 2.0)))

    assert curve.at(100) == pytest.approx(0.25)


def test_a_volume_is_reached_when_the_trial_that_brings_it_ends() -> None:
    curve = Curve(ONE)

    assert [curve.reached(volume) for volume in (0.0, 0.25, 0.26, 0.33)] == [10, 10, 30, inf]


def test_the_median_over_seeds_is_reached_when_most_of_them_are_there() -> None:
    def at(seed: int, seconds: float) -> dict[str, Any]:
        return search(seed, (seconds, "finished", 0.5, 1.0))

    assert System([at(0, 10), at(1, 40), at(2, 20)]).reached(0.25) == 20


def test_time_outside_of_epochs_is_shared_by_all_trials() -> None:
    # Two slots for 100 s; three trials trained for 5 s each.
    assert System([ONE]).outside(slots=2) == pytest.approx((200 - 15) / 3)


def test_seeds_are_compared_in_pairs() -> None:
    ours = System([ONE, search(1, (40, "finished", 0.4, 1.0))])
    theirs = System([search(0, (80, "finished", 0.5, 1.0)), search(1, (50, "finished", 0.5, 1.0))])

    lines = list(against("ours", ours, "theirs", theirs))

    # Of the medians: ours has (0.25 + 0.2) / 2 at 40 s, which is less than 0.25, and no more than (0.325 + 0.2) / 2.
    assert lines[2:] == [
        "| seed 0 | 10 | 80 | 10% | 12% |",
        "| seed 1 | never | 50 | - | - |",
        "| of the medians | 40 | 80 | 40% | 50% |",
    ]


def test_searches_of_unequal_length_are_not_mixed() -> None:
    rows = [search(seed) | {"system": name} for name in ("competent", "ours") for seed in range(2)]
    long = search(0) | {"system": "ours", "seconds": 600}

    met = clocks([long, *rows])

    assert [(seconds, list(systems)) for seconds, systems in met.items()] == [
        (100, ["ours", "competent"]), (600, ["ours"]),
    ]  # fmt: skip
    assert list(met[100]["ours"].curves) == [0, 1]


@pytest.mark.parametrize(
    ("reports", "end", "state", "at"),
    [((1, 2, 3), 3, "finished", 3), ((1, 2), 2, "stopped", 2), ((1, 2), None, "cut", 2), ((1, 2, 8), 8, "cut", 2)],
)
def test_what_comes_behind_the_clock_does_not_count(
    reports: Sequence[float], end: float | None, state: str, at: float
) -> None:
    told = [(100 + seconds, 0.1 * n, 0.5) for n, seconds in enumerate(reports, start=1)]

    trials = list(ended(told, end and 100 + end, NETWORK, epochs=3, began=100, until=105))

    assert [(t["state"], t["at"], t["epochs"]) for t in trials] == [(state, at, round(2 * trials[0]["training"]))]
    assert trials[0]["top1"] == pytest.approx(0.1 * trials[0]["epochs"])


def test_a_trial_without_a_report_is_none() -> None:
    assert not list(ended([(106, 0.1, 0.5)], None, NETWORK, epochs=3, began=100, until=105))


def test_our_ledger_and_their_reports_say_the_same(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / NAME)) as ledger:
        cost, keys = {"gflops": 0.1}, {"params": {}, "config": {}, "identity": "i", "architecture": "a"}
        ledger.append("proposed", trial=0, cost=cost, **keys)
        ledger.append("started", trial=0, epoch=0, gpus=0)
        event = ledger.append("report", trial=0, epoch=1, metrics={"top1": 0.5}, seconds=2.0)
        ledger.append("stopped", trial=0, epoch=1, reason="by hand")
    time = event["time"]
    lines = [{"time": time, "trial": "x", "top1": 0.5, "seconds": 2.0, **NETWORK}, {"time": time, "trial": "x"}]
    (tmp_path / REPORTS).write_text("".join(json.dumps(line) + "\n" for line in lines))

    own, theirs = (list(ends(tmp_path, 9, time - 7, time + 60)) for ends in (ledger_ends, reported_ends))

    assert own == theirs == [{"at": 7, "state": "stopped", "epochs": 1, "top1": 0.5, "training": 2.0, **NETWORK}]


def test_others_search_the_whole_space_and_nothing_else() -> None:
    from tests.benchmarks.services import DefineByRun

    spec = load(QUICKSTART)
    suggest, study = DefineByRun(spec, {}), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    asked = [study.ask() for _ in range(300)]
    configs = [json.loads(suggest(trial)["config"]) for trial in asked]

    everything = [config for _, config in spec.space.enumerate()]
    assert all(config in everything for config in configs)
    values = {(name, value) for trial in asked for name, value in trial.params.items()}
    assert len(values) == sum(domain.count or 0 for domain in spec.space.domains.values())


def test_the_stock_service_validates_on_the_clips_that_ours_sees(tmp_path: Path) -> None:
    from tests.benchmarks.services import Videos

    generate(MotionDataConfig(train_clips=1, val_clips=2, test_clips=1), tmp_path / "videos", jobs=1)
    spec = parse(tree(tmp_path / "videos", tmp_path / "search", 0, 60.0, []), tmp_path / "spec.yaml")
    config: TrialConfig = spec.trial_config(spec.space.plain()[1])
    clips = open_clips(prepare(config.data, tmp_path / "search"), "val")

    ours = list(eval_batches(clips, config.data, config.model, batch=8))
    theirs = Videos(tmp_path / "videos" / "val", config.model.frames, config.model.size, training=False, seed=0)

    assert torch.equal(torch.cat([images for images, _ in ours]), torch.stack([images for images, _ in theirs]))
    assert torch.cat([labels for _, labels in ours]).tolist() == [label for _, label in theirs]

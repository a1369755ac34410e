"""Seconds an epoch are learnt, and what could not end within the budget is not started."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.ledger.file import NAME, Ledger
from search.ledger.history import History
from search.proposals.proposer import Proposer
from search.proposals.time_budget import Pace, Rest
from search.spec.validation import parse

Events = list[dict[str, Any]]


def history(*trials: tuple[float, list[float]], epochs: int = 4, gpus: float = 0.0, end: str = "finished") -> History:
    """Return what trials of these GFLOPs, with epochs of these seconds, add up to; ten seconds were worked at it."""
    found = History()
    found.apply({"event": "search", "time": 0.0, "spec": {"search": {"budget": {}}}})
    for number, (gflops, seconds) in enumerate(trials):
        events: Events = [
            {"event": "proposed", "params": {}, "config": {"train": {"epochs": epochs}}, "identity": f"{number}"}
            | {"architecture": "a", "cost": {"gflops": gflops}},
            {"event": "started", "epoch": 0, "gpus": gpus},
        ]  # fmt: skip
        events += [
            {"event": "report", "epoch": n, "metrics": {"top1": 0.5}, "seconds": each}
            for n, each in enumerate(seconds, 1)
        ]
        events += [] if end == "running" else [{"event": end, "epoch": len(seconds)}]
        for event in events:
            found.apply({"time": 10.0, "trial": number} | event)
    return found


def seconds_an_epoch(found: History, gflops: float) -> float:
    pace = Pace.of(list(found.trials.values()))
    assert pace is not None
    return pace.seconds(gflops)


def too_late(found: History, epochs: int, hours: float | None, gpu_hours: float | None, gpus: float) -> str | None:
    rest = Rest.of(found, hours, gpu_hours, gpus)
    assert rest is not None
    return rest.too_short_for(1.0, epochs)


def test_nothing_is_known_before_the_first_epoch() -> None:
    assert Pace.of(list(history((1.0, [])).trials.values())) is None
    assert Rest.of(history((1.0, [])), 0.01, None, 0.0) is None


def test_a_budget_of_trials_knows_no_time() -> None:
    assert Rest.of(history((1.0, [5.0])), None, None, 1.0) is None


@given(st.floats(0.01, 100), st.floats(0, 1), st.floats(0.05, 20))
def test_a_law_of_powers_is_found_again(scale: float, power: float, gflops: float) -> None:
    seen = history(*((cost, [scale * cost**power] * 3) for cost in (0.1, 0.3, 1.0, 4.0)))
    assert seconds_an_epoch(seen, gflops) == pytest.approx(scale * gflops**power, rel=1e-6)


def test_one_slow_epoch_says_nothing_of_the_others() -> None:
    assert seconds_an_epoch(history((1.0, [2.0, 50.0, 2.0])), 1.0) == pytest.approx(2.0)


def test_from_models_of_one_cost_no_dependence_on_it_is_made_up() -> None:
    assert seconds_an_epoch(history((1.0, [2.0]), (1.0, [4.0])), 100.0) == pytest.approx(math.sqrt(2 * 4))


def test_noise_makes_no_cheaper_model_slower() -> None:
    falling = history((0.1, [9.0]), (1.0, [3.0]), (10.0, [1.0]))
    assert seconds_an_epoch(falling, 100.0) == pytest.approx(3.0)


def test_a_trial_must_end_within_what_is_left_of_the_hours() -> None:
    # 10 of 30 seconds are worked: 4 epochs of 5 s just fit, 5 do not.
    seen = history((1.0, [5.0] * 4))
    assert too_late(seen, 4, 30 / 3600, None, 0.0) is None
    assert too_late(seen, 5, 30 / 3600, None, 0.0) == ("would take about 25 s, and of the budget 20 s are left")


def test_what_runs_has_its_share_of_the_gpu_hours() -> None:
    # Two GPUs for 2 epochs of 5 s are 20 GPU-seconds of 100; the other two epochs of the running trial take 20 more.
    seen = history((1.0, [5.0] * 2), gpus=2.0, end="running")
    assert too_late(seen, 6, None, 100 / 3600, 2.0) is None
    assert too_late(seen, 7, None, 100 / 3600, 2.0) == (
        "would take about 70 GPU-seconds, and of the budget 60 are left"
    )


def test_a_config_that_is_too_late_is_rejected_with_its_reason_but_not_for_good(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "schema": 1,
        "name": "late",
        "trial": {
            "data": {"kind": "motion"},
            "model": {"frames": {"choice": [2, 4, 8]}, "size": 32, "backbone": {"kind": "resnet", "depth": 10}},
            "train": {"epochs": 4, "batch": 8, "lr": 0.1},
        },
        "search": {"budget": {"hours": 1.0}, "sampler": {"kind": "random"}},
    }
    spec = parse(tree, Path("spec.yaml"))
    with closing(Ledger(tmp_path / NAME)) as ledger:
        proposer = Proposer(spec, tmp_path / "study.log", ledger)

        def record(event: str, **fields: Any) -> dict[str, Any]:
            line = ledger.append(event, **fields)
            proposer.apply(line)
            return line

        record("search", spec=spec.tree())
        assert proposer.propose(record) == 0
        record("report", trial=0, epoch=1, metrics={"top1": 0.5}, seconds=901.0)

        assert proposer.propose(record) is None
        assert proposer.late
        assert all(event["late"] for event in ledger.history.rejected if event.get("duplicate_of") is None)
        assert "would take about 3604 s" in str([event["reason"] for event in ledger.history.rejected])

    longer = parse(tree | {"search": tree["search"] | {"budget": {"hours": 2.0}}}, Path("spec.yaml"))
    with closing(Ledger(tmp_path / NAME)) as ledger:
        proposer = Proposer(longer, tmp_path / "study.log", ledger)
        for event in ledger.replay():
            proposer.apply(event)
        assert proposer.propose(ledger.append) == 1

"""The time budget: the fitted time of an epoch, and the trials that do not start because of it."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.ledger.events import Reported
from search.ledger.history import History
from search.proposals.time_budget import EpochTime, RemainingTime
from search.spec.validation import parse
from tests.search.events import history_of
from tests.search.searches import searching


def history(*trials: tuple[float, list[float]], epochs: int = 4, gpus: float = 0.0, end: str = "finished") -> History:
    """Return trials with these GFLOPs and these seconds of their epochs, in a search of ten active seconds."""
    events: list[dict[str, Any]] = [{"event": "search", "time": 0.0}]
    for number, (gflops, seconds) in enumerate(trials):
        of_trial: list[dict[str, Any]] = [
            {"event": "proposed", "config": {"train": {"epochs": epochs}}, "cost": {"gflops": gflops}},
            {"event": "started", "gpus": gpus},
            *(
                {"event": "report", "epoch": n, "metrics": {"top1": 0.5}, "seconds": each}
                for n, each in enumerate(seconds, 1)
            ),
        ]
        of_trial += [] if end == "running" else [{"event": end, "epoch": len(seconds)}]
        events += [{"time": 10.0, "trial": number} | event for event in of_trial]
    return history_of(events)


def seconds_per_epoch(history: History, gflops: float) -> float:
    epoch_time = EpochTime.of(list(history.trials.values()))
    assert epoch_time is not None
    return epoch_time.seconds(gflops)


def too_late(history: History, epochs: int, hours: float | None, gpu_hours: float | None, gpus: float) -> str | None:
    remaining = RemainingTime.of(history, hours, gpu_hours, gpus)
    assert remaining is not None
    return remaining.too_short_for(1.0, epochs)


def test_before_the_first_epoch_no_time_is_predicted() -> None:
    assert EpochTime.of(list(history((1.0, [])).trials.values())) is None
    assert RemainingTime.of(history((1.0, [])), 0.01, None, 0.0) is None


def test_a_budget_of_trials_has_no_time_limit() -> None:
    assert RemainingTime.of(history((1.0, [5.0])), None, None, 1.0) is None


@pytest.mark.medium
@given(st.floats(0.01, 100), st.floats(0, 1), st.floats(0.05, 20))
def test_a_power_law_is_recovered(scale: float, power: float, gflops: float) -> None:
    seen = history(*((cost, [scale * cost**power] * 3) for cost in (0.1, 0.3, 1.0, 4.0)))
    assert seconds_per_epoch(seen, gflops) == pytest.approx(scale * gflops**power, rel=1e-6)


def test_one_slow_epoch_does_not_change_the_prediction() -> None:
    assert seconds_per_epoch(history((1.0, [2.0, 50.0, 2.0])), 1.0) == pytest.approx(2.0)


def test_models_of_one_cost_give_no_dependence_on_cost() -> None:
    assert seconds_per_epoch(history((1.0, [2.0]), (1.0, [4.0])), 100.0) == pytest.approx(math.sqrt(2 * 4))


def test_noise_never_makes_a_model_of_lower_cost_slower() -> None:
    falling = history((0.1, [9.0]), (1.0, [3.0]), (10.0, [1.0]))
    assert seconds_per_epoch(falling, 100.0) == pytest.approx(3.0)


def test_a_trial_must_end_within_the_remaining_hours() -> None:
    # 10 of 30 seconds are spent: 4 epochs of 5 s just fit, 5 do not.
    seen = history((1.0, [5.0] * 4))
    assert too_late(seen, 4, 30 / 3600, None, 0.0) is None
    assert too_late(seen, 5, 30 / 3600, None, 0.0) == ("would take about 25 s, and of the budget 20 s are left")


def test_gpu_hours_are_reserved_for_running_trials() -> None:
    # Two GPUs for 2 epochs of 5 s are 20 GPU-seconds of 100; the other two epochs of the running trial take 20 more.
    seen = history((1.0, [5.0] * 2), gpus=2.0, end="running")
    assert too_late(seen, 6, None, 100 / 3600, 2.0) is None
    assert too_late(seen, 7, None, 100 / 3600, 2.0) == (
        "would take about 70 GPU-seconds, and of the budget 60 are left"
    )


def test_a_config_that_is_too_late_is_rejected_with_the_reason_and_can_be_proposed_again(tmp_path: Path) -> None:
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
    with searching(spec, tmp_path) as (ledger, proposer, record):
        assert proposer.propose(record) == 0
        record(Reported(trial=0, epoch=1, metrics={"top1": 0.5}, seconds=901.0))

        assert proposer.propose(record) is None
        assert proposer.late
        assert all(event.late for event in ledger.history.rejected if event.duplicate_of is None)
        assert "would take about 3604 s" in str([event.reason for event in ledger.history.rejected])

    longer = parse(tree | {"search": tree["search"] | {"budget": {"hours": 2.0}}}, Path("spec.yaml"))
    with searching(longer, tmp_path) as (_, proposer, record):
        assert proposer.propose(record) == 1

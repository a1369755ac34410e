"""Learning rates over a training, by arithmetic."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vattn.config import TrainConfig


def train(**options: Any) -> TrainConfig:
    return TrainConfig.parse({"epochs": 10, "batch": 8, "lr": 0.2} | options)


def rates(config: TrainConfig, *epochs: float) -> list[float]:
    return [config.lr_at(epoch) for epoch in epochs]


def test_steps_are_counted_from_the_start_of_the_training() -> None:
    config = train(schedule={"kind": "steps", "at": [4, 8], "factor": 0.1}, warmup={"epochs": 2, "start": 0.5})

    assert rates(config, 0, 1, 2, 3.99, 4, 7.5, 8) == pytest.approx([0.1, 0.15, 0.2, 0.2, 0.02, 0.02, 0.002])


def test_a_warm_up_rises_to_the_rate_that_the_schedule_has_at_its_end() -> None:
    config = train(schedule={"kind": "steps", "at": [1], "factor": 0.1}, warmup={"epochs": 2, "start": 0})

    assert rates(config, 0, 1, 2, 3) == pytest.approx([0, 0.01, 0.02, 0.02])


def test_a_cosine_spans_what_the_warm_up_leaves() -> None:
    config = train(schedule={"kind": "cosine", "floor": 0.02}, warmup={"epochs": 2, "start": 0.1})

    # Half-way between 2 and 10 it is half-way between peak and floor.
    assert rates(config, 0, 1, 2, 6, 10) == pytest.approx([0.02, 0.11, 0.2, 0.11, 0.02])


def test_wsd_falls_in_a_straight_line_over_the_last_share() -> None:
    config = train(schedule={"kind": "wsd", "decay": 0.4}, warmup={"epochs": 1, "start": 0})

    assert rates(config, 0.5, 1, 5.9, 6, 8, 9, 10) == pytest.approx([0.1, 0.2, 0.2, 0.2, 0.1, 0.05, 0])


def test_the_rate_follows_the_batch_only_where_the_spec_says_so() -> None:
    assert train(schedule="constant", batch=64).lr_at(1) == 0.2
    assert train(schedule="constant", batch=64, lr_batch=16).lr_at(1) == pytest.approx(0.8)
    assert train(batch=64, lr_batch=16, schedule={"kind": "cosine", "floor": 0.7}).lr_at(10) == pytest.approx(0.7)


SCHEDULES = st.sampled_from(
    ["cosine", "constant", {"kind": "wsd", "decay": 0.3}, {"kind": "steps", "at": [3, 7]},
     {"kind": "cosine", "floor": 0.05}]
)  # fmt: skip


@given(schedule=SCHEDULES, epoch=st.floats(0, 9.999), length=st.floats(0, 6), start=st.floats(0, 1))
def test_a_rate_is_between_0_and_the_peak_and_has_no_jump_where_the_warm_up_ends(
    schedule: Any, epoch: float, length: float, start: float
) -> None:
    config = train(schedule=schedule, warmup={"epochs": length, "start": start})

    assert 0 <= config.lr_at(epoch) <= 0.2 * (1 + 1e-12)
    if length > 1e-6:
        assert config.lr_at(length * (1 - 1e-9)) == pytest.approx(config.lr_at(length), rel=1e-6)

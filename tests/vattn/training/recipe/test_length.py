"""A recipe of another length keeps the shape of its schedule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vattn.config import TrainConfig
from vattn.training.recipe.length import with_length

BASE: dict[str, Any] = {"epochs": 9, "batch": 32, "lr": 0.1}


def grown(length: int, **options: Any) -> TrainConfig:
    return TrainConfig.parse(with_length(TrainConfig.parse(BASE | options).tree(), length))


def test_epochs_of_steps_and_warm_up_grow_in_proportion() -> None:
    steps = {"schedule": {"kind": "steps", "at": [50, 75, 90]}, "warmup": {"epochs": 5}, "epochs": 100}

    train = grown(200, **steps)

    assert (train.epochs, train.schedule.tree()["at"], train.warmup.epochs) == (200, [100, 150, 180], 10)
    assert (train.lr, train.batch) == (0.1, 32)


@pytest.mark.parametrize(
    ("at", "before", "epochs", "expected"),
    [
        ([3, 6], 9, 100, [33, 67]),  # 33.3 and 66.7
        ([6, 7, 8], 9, 3, [1, 2, 3]),  # no room for three steps within three epochs
        ([4, 8], 9, 3, [1, 2]),  # 1.3 and 2.7: the last one stays within the training
        ([4, 20], 9, 90, [40, 200]),  # a step after the end stays there
        ([4, 9], 9, 4, [2, 4]),
        ([5], 9, 1, [1]),
    ],
)
def test_steps_stay_apart_and_within_the_training(at: list[int], before: int, epochs: int, expected: list[int]) -> None:
    assert grown(epochs, epochs=before, schedule={"kind": "steps", "at": at}).schedule.tree()["at"] == expected


@given(
    at=st.lists(st.integers(1, 120), min_size=1, max_size=6, unique=True).map(sorted),
    before=st.integers(1, 100), epochs=st.integers(1, 400),
)  # fmt: skip
def test_a_recipe_of_any_length_is_valid_and_has_its_steps_where_there_is_room(
    at: list[int], before: int, epochs: int
) -> None:
    train = grown(epochs, epochs=before, schedule={"kind": "steps", "at": at})

    within, scaled = sum(epoch < before for epoch in at), train.schedule.tree()["at"]
    assert sum(epoch < epochs for epoch in scaled) == min(within, epochs - 1)
    assert len(scaled) == len(at)


@given(epochs=st.integers(9, 300), share=st.floats(0, 1))
def test_rates_are_the_same_at_the_same_share_of_the_training(epochs: int, share: float) -> None:
    for schedule in ("cosine", "constant", {"kind": "wsd", "decay": 0.3}, {"kind": "cosine", "floor": 0.01}):
        short = TrainConfig.parse(BASE | {"schedule": schedule, "warmup": {"epochs": 2}})
        long = grown(epochs, schedule=schedule, warmup={"epochs": 2})

        assert long.lr_at(share * epochs) == pytest.approx(short.lr_at(share * 9), abs=1e-9)


def test_a_recipe_of_an_earlier_version_needs_no_schedule() -> None:
    assert with_length({"epochs": 2, "lr": 0.05}, 30) == {"epochs": 30, "lr": 0.05}
    assert with_length({"epochs": 2, "schedule": "cosine"}, 30) == {"epochs": 30, "schedule": "cosine"}

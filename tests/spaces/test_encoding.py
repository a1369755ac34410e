"""Params as points: how far apart they lie is worked out by hand."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.encoding import Encoding
from spaces.space import Space

TREE = {
    "frames": {"choice": [4, 8, 16]},
    "lr": {"float": [0.01, 1.0], "log": True},
    "width": {"int": [10, 30]},
    "stages": {"subset": [2, 3, 4, 5]},
    "attention": {"choice": [[], [{"kind": "tam", "alpha": {"choice": [1, 2]}, "rate": {"float": [0.0, 2.0]}}]]},
}
ALPHA, RATE = "attention/tam/alpha", "attention/tam/rate"
PARAMS = {"frames": 1, "lr": 0.1, "width": 15, "stages": (0, 2), "attention": 1, ALPHA: 0, RATE: 0.5}


def squared(one: dict, other: dict) -> float:
    encode = Encoding(Space(TREE).domains)
    return float(((encode(one) - encode(other)) ** 2).sum())


@pytest.mark.parametrize(
    ("change", "distance"),
    [
        ({"frames": 0}, 1.0),
        ({"frames": 2}, 1.0),  # options have no order
        ({"lr": 1.0}, 0.5),  # one of two decades
        ({"width": 30}, 0.75),  # 15 of 20
        ({"stages": (0, 1, 2, 3)}, math.sqrt(2)),  # two items more
        ({RATE: 2.0}, 0.75),
    ],
)
def test_values_are_as_far_apart_as_they_differ(change: dict, distance: float) -> None:
    assert squared(PARAMS, PARAMS | change) == pytest.approx(distance**2)


def test_what_is_inactive_lies_in_the_middle_of_its_range() -> None:
    without = {name: value for name, value in PARAMS.items() if name not in (ALPHA, RATE)} | {"attention": 0}

    # Attention itself: 1. Alpha: half of the way between its two options. Rate: 0.25 from 0.5.
    assert squared(PARAMS, without) == pytest.approx(1 + 0.5**2 + 0.25**2)


def test_each_range_has_a_group_of_its_own_and_each_item_of_a_subset_too() -> None:
    encode = Encoding(Space(TREE).domains)

    columns = [int((encode.groups == group).sum()) for group in range(encode.groups.max() + 1)]

    # frames 3; lr, width; four stages; attention 2; alpha 2; rate.
    assert columns == [3, 1, 1, 1, 1, 1, 1, 2, 2, 1]


@given(seed=st.integers(0, 10_000))
def test_a_neighbour_differs_in_one_range_and_in_what_that_makes_active(seed: int) -> None:
    space, rng = Space(TREE), random.Random(seed)
    params, _ = space.sample(rng)

    near, tree = space.neighbour(params, rng)

    assert space.replay(near) == tree
    changed = [name for name in near if name in params and near[name] != params[name]]
    assert len(changed) == 1
    came_or_went = near.keys() ^ params.keys()
    assert came_or_went == ({ALPHA, RATE} if changed == ["attention"] else set())


def test_a_range_of_one_value_has_a_point_and_no_other_neighbour() -> None:
    space = Space({"one": {"int": [3, 3]}})

    assert space.neighbour({"one": 3}, random.Random(0)) == ({"one": 3}, {"one": 3})
    assert np.isfinite(Encoding(space.domains)({"one": 3})).all()

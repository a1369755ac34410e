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


def test_options_that_have_a_range_in_common_share_its_columns() -> None:
    kinds = [
        {"kind": "tam", "stages": {"subset": [2, 3]}, "rank": {"int": [1, 5]}, "form": {"choice": [[1], [2, 3]]}},
        {"kind": "tsm", "stages": {"subset": [2, 3]}, "rank": {"int": [1, 9]}, "form": {"choice": [[4], [2, 3]]}},
    ]
    encode = Encoding(Space({"attention": {"choice": [[kind] for kind in kinds]}}).domains)
    tam = {"attention": 0, "attention/tam/stages": (0,), "attention/tam/rank": 3, "attention/tam/form": 0}
    tsm = {"attention": 1, "attention/tsm/stages": (0,), "attention/tsm/rank": 5, "attention/tsm/form": 0}

    def apart(one: dict, other: dict) -> float:
        return float(((encode(one) - encode(other)) ** 2).sum())

    # Attention 1. Ranks go to 5 and to 9, and forms are lists without names: each is its own, here in the middle or
    # half of the way from it, as that of the other mechanism is where it is inactive.
    assert apart(tam, tsm) == pytest.approx(1 + 0 + 2 * 0.5**2)
    assert apart(tam, tsm | {"attention/tsm/stages": (1,)}) == pytest.approx(1 + 2 + 2 * 0.5**2)
    # attention; two stages; two ranks; two forms.
    assert encode.groups.max() + 1 == 1 + 2 + 2 + 2


def test_items_of_a_subset_share_nothing_as_they_can_stand_side_by_side() -> None:
    items = [{"kind": kind, "rank": {"int": [1, 5]}} for kind in ("tam", "tsm")]
    encode = Encoding(Space({"attention": {"subset": items}}).domains)

    both = {"attention": (0, 1), "attention/tam/rank": 1, "attention/tsm/rank": 5}

    assert encode(both).tolist() == [1.0, 1.0, 0.0, 1.0]


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

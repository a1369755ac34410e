"""Params as vectors: the distances between them are worked out by hand."""

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


def squared_distance(encode: Encoding, a: dict, b: dict) -> float:
    return float(((encode(a) - encode(b)) ** 2).sum())


@pytest.mark.parametrize(
    ("change", "distance"),
    [
        ({"frames": 0}, 1.0),
        ({"frames": 2}, 1.0),  # options have no order
        ({"lr": 1.0}, 0.5),  # one of two decades
        ({"width": 30}, 0.75),  # 15 of 20
        ({"stages": (0, 1, 2, 3)}, math.sqrt(2)),  # two more items
        ({RATE: 2.0}, 0.75),
    ],
)
def test_the_distance_of_two_values_is_their_difference_on_the_scale_of_the_range(
    change: dict, distance: float
) -> None:
    encode = Encoding(Space(TREE).domains)

    assert squared_distance(encode, PARAMS, PARAMS | change) == pytest.approx(distance**2)


def test_an_inactive_range_has_the_middle_of_its_values() -> None:
    encode = Encoding(Space(TREE).domains)
    without = {name: value for name, value in PARAMS.items() if name not in (ALPHA, RATE)} | {"attention": 0}

    # Attention: 1. Alpha: the middle is 1/2 from both options. Rate: 0.5 of 2.0 is 0.25, which is 0.25 from the middle.
    assert squared_distance(encode, PARAMS, without) == pytest.approx(1 + 0.5**2 + 0.25**2)


def test_each_range_and_each_item_of_a_subset_has_a_group_of_its_own() -> None:
    encode = Encoding(Space(TREE).domains)

    columns = [int((encode.groups == group).sum()) for group in range(encode.groups.max() + 1)]

    # frames 3; lr, width; four stages; attention 2; alpha 2; rate.
    assert columns == [3, 1, 1, 1, 1, 1, 1, 2, 2, 1]


def test_options_with_a_range_of_the_same_name_and_domain_share_its_columns() -> None:
    kinds = [
        {"kind": "tam", "stages": {"subset": [2, 3]}, "rank": {"int": [1, 5]}, "form": {"choice": [[1], [2, 3]]}},
        {"kind": "tsm", "stages": {"subset": [2, 3]}, "rank": {"int": [1, 9]}, "form": {"choice": [[4], [2, 3]]}},
    ]
    encode = Encoding(Space({"attention": {"choice": [[kind] for kind in kinds]}}).domains)
    tam = {"attention": 0, "attention/tam/stages": (0,), "attention/tam/rank": 3, "attention/tam/form": 0}
    tsm = {"attention": 1, "attention/tsm/stages": (0,), "attention/tsm/rank": 5, "attention/tsm/form": 0}

    # Attention: 1. Stages are shared. Ranks have different domains, and forms have indices as labels, so neither is
    # shared. Both ranks are the middle, which is also the value of an inactive range. A form is 1/2 from its middle.
    assert squared_distance(encode, tam, tsm) == pytest.approx(1 + 0 + 2 * 0.5**2)
    moved = tsm | {"attention/tsm/stages": (1,)}
    assert squared_distance(encode, tam, moved) == pytest.approx(1 + 2 + 2 * 0.5**2)
    # Attention, two stages, two ranks, two forms.
    assert encode.groups.max() + 1 == 1 + 2 + 2 + 2


def test_items_of_a_subset_share_no_columns_because_both_can_be_active() -> None:
    items = [{"kind": kind, "rank": {"int": [1, 5]}} for kind in ("tam", "tsm")]
    encode = Encoding(Space({"attention": {"subset": items}}).domains)

    both = {"attention": (0, 1), "attention/tam/rank": 1, "attention/tsm/rank": 5}

    assert encode(both).tolist() == [1.0, 1.0, 0.0, 1.0]


@given(seed=st.integers(0, 10_000))
def test_a_neighbour_differs_in_one_range_and_in_the_ranges_that_this_activates(seed: int) -> None:
    space, rng = Space(TREE), random.Random(seed)
    params, _ = space.sample(rng)

    near, tree = space.neighbour(params, rng)

    assert space.replay(near) == tree
    changed = [name for name in near if name in params and near[name] != params[name]]
    assert len(changed) == 1
    added_or_dropped = near.keys() ^ params.keys()
    assert added_or_dropped == ({ALPHA, RATE} if changed == ["attention"] else set())


def test_a_range_of_one_value_has_a_finite_vector_and_itself_as_neighbour() -> None:
    space = Space({"depth": {"int": [3, 3]}})

    assert space.neighbour({"depth": 3}, random.Random(0)) == ({"depth": 3}, {"depth": 3})
    assert np.isfinite(Encoding(space.domains)({"depth": 3})).all()

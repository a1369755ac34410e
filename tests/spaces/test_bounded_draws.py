"""No draw of a different value goes on for ever."""

import math
import random
import time

import pytest

from spaces.compiler import MAX_OPTIONS, labels
from spaces.space import Space, SpaceError


@pytest.mark.parametrize(
    "tree",
    [
        {"float": [0.1, 0.1]},
        {"float": [0.1, 0.1], "log": True},
        {"float": [0.3, math.nextafter(0.3, 1)], "log": True},
        {"int": [3, 3]},
        {"choice": ["a"]},
        {"subset": [1], "min": 1},
    ],
)
def test_a_range_of_one_value_has_itself_as_neighbour(tree: object) -> None:
    space = Space({"x": tree})
    params, _ = space.sample(random.Random(0))
    for seed in range(20):
        neighbour, _ = space.neighbour(params, random.Random(seed))
        assert space.has(neighbour)


def test_a_range_of_floats_with_equal_ends_counts_as_one_value() -> None:
    space = Space({"x": {"float": [0.1, 0.1]}})
    assert space.size() == 1
    assert [tree for _, tree in space.enumerate()] == [{"x": 0.1}]


@pytest.mark.parametrize(
    ("tree", "rule"),
    [
        ({"float": [0, 1], "step": 1e-300}, "divides the range into more than"),
        ({"float": [-1e308, 1e308]}, "too wide"),
        ({"float": [1e-320, 1e308], "log": True}, "too wide"),
        ({"choice": list(range(MAX_OPTIONS + 1))}, "more than 1000"),
        ({"subset": list(range(MAX_OPTIONS + 1))}, "more than 1000"),
        (
            {"repeat": {"times": 1000, "of": {"repeat": {"times": 1000, "of": {"int": [0, 1]}}}}},
            "more than 20000 values",
        ),
    ],
)
def test_what_would_take_hours_is_refused(tree: object, rule: str) -> None:
    began = time.process_time()
    with pytest.raises(SpaceError, match=rule):
        Space({"x": tree})
    assert time.process_time() - began < 60


def test_a_thousand_options_of_one_kind_get_numbered_labels() -> None:
    names = labels([{"kind": "tam", "alpha": n} for n in range(1000)])
    assert names[0] == "tam"
    assert names[-1] == "tam-1000"
    assert len(set(names)) == 1000

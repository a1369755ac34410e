"""Maths of Pareto fronts, against small cases that can be redone on paper."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.analysis.pareto import Direction, Objectives, dominates, front, hypervolume, knee, layers

BOTH: Objectives = {"top1": "max", "gflops": "min"}
DIRECTIONS = list(BOTH.values())
UP: list[Direction] = ["max", "max", "max"]

fast = settings(max_examples=60)
grid = st.integers(0, 6).map(float)
points = st.lists(st.tuples(grid, grid), min_size=1, max_size=12)
boxes = st.lists(st.tuples(grid, grid, grid), min_size=1, max_size=10)


def test_the_front_holds_the_points_that_no_other_dominates() -> None:
    assert front([(0.5, 1.0), (0.8, 2.0), (0.7, 3.0), (0.9, 4.0)], DIRECTIONS) == [0, 1, 3]
    assert front([(0.9, 1.0), (0.8, 1.0)], DIRECTIONS) == [0]
    assert front([(3.0,), (1.0,), (2.0,)], ["min"]) == [1]
    assert front([], DIRECTIONS) == []


def test_of_equal_points_the_first_is_on_the_front() -> None:
    assert front([(0.8, 2.0), (0.9, 2.0), (0.9, 2.0)], DIRECTIONS) == [1]


def test_a_diverged_point_is_on_no_front() -> None:
    assert front([(math.nan, 0.1), (math.inf, 0.1), (0.5, 1.0)], DIRECTIONS) == [2]


@fast
@given(boxes)
def test_a_layer_holds_the_points_that_no_other_of_the_rest_dominates(boxes: list[tuple[float, float, float]]) -> None:
    def ahead(i: int, j: int) -> bool:
        return all(a >= b for a, b in zip(boxes[i], boxes[j], strict=True)) and (boxes[i] != boxes[j] or i < j)

    rest = list(range(len(boxes)))
    for layer in layers(boxes, UP):
        assert layer == [j for j in rest if not any(ahead(i, j) for i in rest)]
        rest = [j for j in rest if j not in layer]
    assert not rest


def test_one_point_dominates_another_if_it_is_nowhere_worse_and_somewhere_better() -> None:
    a, b = {"top1": 0.8, "gflops": 1.0}, {"top1": 0.8, "gflops": 2.0}

    assert dominates(a, b, BOTH)
    assert not dominates(b, a, BOTH)
    assert not dominates(a, a, BOTH)
    assert not dominates(a, {"top1": 0.9, "gflops": 2.0}, BOTH)


def test_area_of_two_steps() -> None:
    # From (0, 4): the point (0.5, 1) covers 0.5 * 3; (0.8, 2) adds (0.8 - 0.5) * (4 - 2).
    assert hypervolume([(0.5, 1.0), (0.8, 2.0)], (0.0, 4.0), DIRECTIONS) == pytest.approx(1.5 + 0.6)


def test_a_point_beyond_the_reference_adds_nothing() -> None:
    assert hypervolume([(0.9, 4.0), (0.9, 5.0)], (0.0, 4.0), DIRECTIONS) == 0.0


def test_length_and_volume_computed_by_hand() -> None:
    assert hypervolume([(0.2,), (0.7,)], (0.1,), ["max"]) == pytest.approx(0.6)
    # Two boxes of 2 x 1 x 1 and 1 x 2 x 2 with 1 x 1 x 1 in common: 2 + 4 - 1.
    assert hypervolume([(2, 1, 1), (1, 2, 2)], (0, 0, 0), UP) == pytest.approx(5.0)


@fast
@given(boxes)
def test_the_volume_is_the_number_of_unit_cubes_that_the_points_cover(boxes: list[tuple[float, float, float]]) -> None:
    cubes = {
        (x, y, z) for a, b, c in boxes for x in range(int(a)) for y in range(int(b)) for z in range(int(c))
    }  # fmt: skip
    assert hypervolume(boxes, (0, 0, 0), UP) == pytest.approx(len(cubes))


@fast
@given(points, st.randoms())
def test_order_changes_neither_front_nor_volume(points: list[tuple[float, float]], random: Any) -> None:
    shuffled = random.sample(points, len(points))

    assert {shuffled[i] for i in front(shuffled, DIRECTIONS)} == {points[i] for i in front(points, DIRECTIONS)}
    assert hypervolume(shuffled, (0, 6), DIRECTIONS) == pytest.approx(hypervolume(points, (0, 6), DIRECTIONS))


@fast
@given(points)
def test_dominated_points_add_no_volume(points: list[tuple[float, float]]) -> None:
    kept = [points[i] for i in front(points, DIRECTIONS)]

    assert hypervolume(kept, (0, 6), DIRECTIONS) == pytest.approx(hypervolume(points, (0, 6), DIRECTIONS))
    for a, b in points:
        assert any(c >= a and d <= b for c, d in kept)


def test_the_knee_is_farthest_from_the_chord() -> None:
    # Scaled: (0, 1), (0.75, 0.75), (0.9, 0.4), (1, 0); their sums are 1, 1.5, 1.3, 1.
    assert knee([(0.0, 0.0), (0.75, 1.0), (0.9, 2.4), (1.0, 4.0)], DIRECTIONS) == 1


def test_if_nothing_lies_beyond_the_chord_the_knee_is_the_better_end() -> None:
    # The middle lies below the line from (0.3, 1) to (0.9, 3), whose point at cost 2 is 0.6.
    assert knee([(0.3, 1.0), (0.5, 2.0), (0.9, 3.0)], DIRECTIONS) == 2


def test_the_knee_of_one_objective_is_its_best_and_of_one_point_that_point() -> None:
    assert knee([(3.0,), (1.0,)], ["min"]) == 1
    assert knee([(0.5, 1.0)], DIRECTIONS) == 0


def test_the_knee_of_three_objectives_is_beyond_the_plane_through_the_ends() -> None:
    ends = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert knee([*ends, (0.5, 0.5, 0.5)], UP) == 3

"""The front, its volume and its picks, against small cases that can be redone on paper."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.analysis.front import covered, front_of, reference
from search.analysis.pareto import Direction, Objectives, front, hypervolume, knee, layers
from search.analysis.pick import pick
from search.ledger.history import History
from search.report.describe import describe, label, searched, shown
from search.report.table import render, table

BOTH: Objectives = {"top1": "max", "gflops": "min"}
DIRECTIONS = list(BOTH.values())
UP: list[Direction] = ["max", "max", "max"]
TAM = {"kind": "tam", "alpha": 2, "beta": 4, "kernel_size": 3, "stages": [2, 3, 4, 5], "position": "b", "every": 1}

fast = settings(deadline=None, max_examples=60)
grid = st.integers(0, 6).map(float)
points = st.lists(st.tuples(grid, grid), min_size=1, max_size=12)
boxes = st.lists(st.tuples(grid, grid, grid), min_size=1, max_size=10)


def events(number: int, top1: list[float], gflops: float, end: str = "finished", **model: Any) -> list[dict[str, Any]]:
    """Return the events of one trial with a validation accuracy per epoch."""
    config = {"model": {"frames": 8, "attention": [TAM]} | model, "train": {"lr": 0.05}}
    proposed = {"params": {"train.lr": 0.05}, "config": config, "identity": f"id{number}", "architecture": "a"}
    result: list[dict[str, Any]] = [{"event": "proposed", **proposed, "cost": {"gflops": gflops, "params_m": 1.0}}]
    result.append({"event": "started", "epoch": 0})
    result += [{"event": "report", "epoch": n, "metrics": {"top1": v}, "seconds": 2.0} for n, v in enumerate(top1, 1)]
    if end != "running":
        result.append({"event": end, "epoch": len(top1), "final": True})
    return [{"time": 0.0, "trial": number} | event for event in result]


def history(*trials: list[dict[str, Any]]) -> History:
    result = History()
    for trial in trials:
        for event in trial:
            result.apply(event)
    return result


def search() -> History:
    """Front: 3 (0.5 at 1), 0 (0.8 at 2), 1 (0.9 at 4); 2 is dominated, 4 was stopped, 5 is running."""
    return history(
        events(0, [0.4, 0.8], 2.0), events(1, [0.9], 4.0), events(2, [0.7], 3.0), events(3, [0.5], 1.0),
        events(4, [0.95], 0.5, end="stopped"), events(5, [0.99], 0.1, end="running"),
    )  # fmt: skip


def test_a_front_goes_from_cheap_to_dear_whichever_objective_comes_first() -> None:
    found = search()
    for trial in found.trials.values():
        for report in trial.reports:
            report["metrics"]["loss"] = 1 - report["metrics"]["top1"]

    orders: list[Objectives] = [BOTH, {"loss": "min", "gflops": "min"}, {"gflops": "min", "loss": "min"}]
    for objectives in orders:
        assert [trial.number for trial in front_of(found, objectives)] == [3, 0, 1]
    assert [trial.number for trial in front_of(found, {"loss": "min"})] == [1]


def test_the_front_is_what_nothing_beats() -> None:
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
def test_a_layer_is_what_nothing_of_the_rest_dominates(boxes: list[tuple[float, float, float]]) -> None:
    def ahead(i: int, j: int) -> bool:
        return all(a >= b for a, b in zip(boxes[i], boxes[j], strict=True)) and (boxes[i] != boxes[j] or i < j)

    rest = list(range(len(boxes)))
    for layer in layers(boxes, UP):
        assert layer == [j for j in rest if not any(ahead(i, j) for i in rest)]
        rest = [j for j in rest if j not in layer]
    assert not rest


def test_area_of_two_steps() -> None:
    # From (0, 4): the point (0.5, 1) covers 0.5 * 3; (0.8, 2) adds (0.8 - 0.5) * (4 - 2).
    assert hypervolume([(0.5, 1.0), (0.8, 2.0)], (0.0, 4.0), DIRECTIONS) == pytest.approx(1.5 + 0.6)


def test_a_point_beyond_the_reference_adds_nothing() -> None:
    assert hypervolume([(0.9, 4.0), (0.9, 5.0)], (0.0, 4.0), DIRECTIONS) == 0.0


def test_length_and_volume_by_hand() -> None:
    assert hypervolume([(0.2,), (0.7,)], (0.1,), ["max"]) == pytest.approx(0.6)
    # Two boxes of 2 x 1 x 1 and 1 x 2 x 2 with 1 x 1 x 1 in common: 2 + 4 - 1.
    assert hypervolume([(2, 1, 1), (1, 2, 2)], (0, 0, 0), UP) == pytest.approx(5.0)


@fast
@given(boxes)
def test_volume_counts_the_unit_cubes_that_a_point_covers(boxes: list[tuple[float, float, float]]) -> None:
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


def test_where_nothing_lies_beyond_the_chord_the_knee_is_the_better_end() -> None:
    # The middle lies below the line from (0.3, 1) to (0.9, 3), whose point at cost 2 is 0.6.
    assert knee([(0.3, 1.0), (0.5, 2.0), (0.9, 3.0)], DIRECTIONS) == 2


def test_the_knee_of_one_objective_is_its_best_and_of_one_point_that_point() -> None:
    assert knee([(3.0,), (1.0,)], ["min"]) == 1
    assert knee([(0.5, 1.0)], DIRECTIONS) == 0


def test_the_knee_of_three_objectives_is_beyond_the_plane_through_the_ends() -> None:
    ends = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert knee([*ends, (0.5, 0.5, 0.5)], UP) == 3


def test_only_finished_trials_are_on_the_front_cheapest_first() -> None:
    assert [trial.number for trial in front_of(search(), BOTH)] == [3, 0, 1]
    assert [trial.number for trial in front_of(search(), {"top1": "max"})] == [1]


def test_picks() -> None:
    found = search()

    # Scaled front: (0, 1), (0.75, 2/3), (1, 0).
    assert pick(found, BOTH, "knee").number == 0
    assert pick(found, BOTH, "best").number == 1
    assert pick(found, BOTH, "gflops<=3").number == 0
    assert pick(found, BOTH, "gflops <= 1e0").number == 3
    assert pick(found, {"gflops": "min", "top1": "max"}, "gflops<=4").number == 1
    assert pick(found, BOTH, "trial=2").number == 2


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("elbow", "must be knee, best, trial=ID or NAME<=X"),
        ("gflops<=0.2", "no finished trial is within it; the least gflops is 1"),
        ("watts<=3", "no metric is named so; there are gflops, params_m, top1"),
        ("gflops<=1e", "'1e' is not a number"),
        ("trial=9", "there is no such trial; finished are 0, 1, 2, 3"),
        ("trial=4", "was stopped early after 1 epochs, with partial metrics; finished are 0, 1, 2, 3"),
        ("trial=5", "is running after 1 epochs"),
    ],
)
def test_a_pick_that_fits_nothing_says_what_there_is(rule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pick(search(), BOTH, rule)


def test_a_pick_before_the_first_finished_trial_says_so() -> None:
    with pytest.raises(ValueError, match=r"no trial is finished yet \(1 running\)"):
        pick(history(events(0, [0.5], 1.0, end="running")), BOTH, "best")


def test_the_reference_is_the_limit_or_a_tenth_beyond_the_most_expensive() -> None:
    found = search().in_state("finished")

    assert reference(found, BOTH, {"gflops": {"max": 5.0}}) == [0.0, 5.0]
    assert reference(found, BOTH, {}) == pytest.approx([0.0, 4.4])
    # From (0, 5): 0.5 * 4 + 0.3 * 3 + 0.1 * 1.
    assert covered(found, BOTH, {"gflops": {"max": 5.0}}) == pytest.approx(3.0)


@fast
@given(points)
def test_without_a_limit_the_volume_of_a_growing_search_never_falls(points: list[tuple[float, float]]) -> None:
    trials = history(*(events(n, [a], b) for n, (a, b) in enumerate(points))).in_state("finished")
    grown = [covered(trials[:n], BOTH, {}) for n in range(len(trials) + 1)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(grown))


def test_a_row_holds_objectives_cost_time_and_words() -> None:
    row = table(front_of(search(), BOTH)[1:2], BOTH)[0]

    assert row == {
        "trial": 0, "top1": 0.8, "gflops": 2.0, "params_m": 1.0, "seconds": 4.0,
        "description": "tam a2 b4 K3 @res2-5 b, T8, lr 0.05", "identity": "id0",
    }  # fmt: skip


def test_a_description_names_the_mechanisms_and_what_was_searched() -> None:
    shift = {
        "kind": "tsm",
        "fold_div": 8,
        "fill": "zero",
        "online": False,
        "stages": [2, 4],
        "position": "a",
        "every": 2,
    }
    plain = history(events(0, [0.5], 1.0, attention=[], frames=4)).trials[0]
    both = history(events(0, [0.5], 1.0, attention=[shift, TAM])).trials[0]

    assert (label(plain), describe(plain)) == ("no attention", "no attention, T4, lr 0.05")
    assert label(both) == "tsm + tam"
    assert describe(both) == "tsm fd8 @res2,4 a every 2 + tam a2 b4 K3 @res2-5 b, T8, lr 0.05"


def test_words_and_switches_are_described_where_they_were_searched() -> None:
    trial = history(
        events(0, [0.5], 1.0, attention=[{"kind": "tsm", "fold": 8, "fill": "zero", "online": False}])
    ).trials[0]

    trial.params = {"model.attention/tsm/fill": 0, "model.attention/tsm/online": 1}

    assert describe(trial) == "tsm f8 fill zero online no, T8"


def test_what_was_searched_is_read_from_the_config() -> None:
    # A ledger has indices of options: the frames' second option is 8, the mechanisms' third is tsm and tam.
    trial = history(
        events(0, [0.5], 1.0, attention=[{"kind": "tsm", "alpha": 7}, TAM], backbone={"kind": "resnet"})
    ).trials[0]
    trial.params = {
        "model.frames": 1,
        "model.backbone": 0,
        "model.attention": 2,
        "model.attention/tsm+tam/tam.alpha": 0,
    }

    assert searched(trial) == {
        "attention": "tsm + tam", "model.frames": 8, "model.backbone": "resnet", "model.attention.tsm+tam.tam.alpha": 2
    }  # fmt: skip

    trial = history(events(0, [0.5], 1.0)).trials[0]
    trial.params = {"model.attention/tam/alpha": 1, "model.attention/tam/stages": [0, 1, 2, 3]}
    expected = {"model.attention.tam.alpha": 2, "model.attention.tam.stages": [2, 3, 4, 5]}
    assert searched(trial) == {"attention": "tam"} | expected


def test_rates_are_shown_in_percent() -> None:
    assert (shown("top1", 0.8125), shown("gflops", 0.12345), shown("loss", math.nan)) == ("81.2 %", "0.1235", "-")


def test_the_printed_front_marks_the_picks() -> None:
    assert render(search(), BOTH).splitlines() == [
        "trial    top1  gflops  params_m        model",
        "    3  50.0 %       1         1        tam a2 b4 K3 @res2-5 b, T8, lr 0.05",
        "    0  80.0 %       2         1  knee  tam a2 b4 K3 @res2-5 b, T8, lr 0.05",
        "    1  90.0 %       4         1  best  tam a2 b4 K3 @res2-5 b, T8, lr 0.05",
    ]
    assert "  best knee  tam" in render(history(events(0, [0.5], 1.0)), BOTH)
    assert render(history(events(0, [], 1.0, end="running")), BOTH) == "no trial is finished yet: 1 running"

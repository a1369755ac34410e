"""Confirmation: what is trained again, and what fresh seeds say, against numbers that can be redone on paper."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.analysis.confirmation import confirmation, plan
from search.analysis.front import front_of
from search.analysis.pareto import Objectives
from search.analysis.pick import pick
from search.ledger.history import History
from search.report.confirmation import as_json, render
from search.report.plot import figure_html, figure_png

BOTH: Objectives = {"top1": "max", "gflops": "min"}
SPEC = {"objectives": BOTH, "constraints": {"gflops": {"max": 10.0}}, "search": {"budget": {"trials": 5}}}

Events = list[dict[str, Any]]


def trained(number: int, top1: float, gflops: float, seed: int = 0, state: str = "finished", **more: Any) -> Events:
    """Return the events of a trial of one epoch; ``more`` goes to its proposal, or as test_top1 to its metrics."""
    metrics = {"top1": top1} | {key: more.pop(key) for key in list(more) if key.startswith("test_")}
    config = {"model": {"frames": 4, "attention": []}, "train": {"epochs": 1, "seed": seed}}
    events: Events = [
        {"event": "proposed", "params": {}, "config": config, "identity": f"{number}", "architecture": "a"}
        | {"cost": {"gflops": gflops}} | more,
        {"event": "started", "epoch": 0, "gpus": 2},
        {"event": "report", "epoch": 1, "metrics": metrics, "seconds": 3.0},
    ]  # fmt: skip
    if state != "running":
        events.append({"event": state, "epoch": 1, "seconds": 3.0, "error": "no memory", "final": True})
    return [{"time": 0.0, "trial": number} | event for event in events]


def history(*trials: Events) -> History:
    found = History()
    found.apply({"event": "search", "time": 0.0, "id": "s", "name": "again", "spec": SPEC})
    for events in trials:
        for event in events:
            found.apply(event)
    return found


#: On the front are 0, 1 and 2. Trial 3 misses it by 0.02 of top1, behind 1; trial 4 by 0.3, behind 2.
SEARCHED = [
    trained(0, 0.50, 1.0), trained(1, 0.70, 2.0), trained(2, 0.80, 4.0), trained(3, 0.68, 3.0), trained(4, 0.50, 5.0),
]  # fmt: skip


def again(first: int, trial: int, gflops: float, values: list[float], test: list[float] | None = None) -> list[Events]:
    """Return trainings of a trial with fresh seeds, numbered from ``first`` on."""
    tested: list[dict[str, Any]] = [{"test_top1": value} for value in test] if test else [{}] * len(values)
    return [
        trained(first + n, value, gflops, seed=1 + n, confirms=trial, **more)
        for n, (value, more) in enumerate(zip(values, tested, strict=True))
    ]


def numbers(found: History, top: int, seeds: int) -> list[tuple[int, int]]:
    return [(trial.number, seed) for trial, seed in plan(found, BOTH, top, seeds)]


@pytest.mark.parametrize(("top", "expected"), [(0, [0, 1, 2]), (1, [0, 1, 2, 3]), (9, [0, 1, 2, 3, 4])])
def test_the_front_and_those_that_miss_it_by_least_are_trained_again(top: int, expected: list[int]) -> None:
    assert numbers(history(*SEARCHED), top, seeds=2) == [(number, seed) for number in expected for seed in (1, 2)]


def test_fresh_seeds_are_seeds_that_no_trial_has() -> None:
    other = trained(5, 0.9, 9.0, seed=7)
    assert {seed for _, seed in numbers(history(*SEARCHED, other), 0, seeds=3)} == {8, 9, 10}


def test_nothing_is_trained_again_while_a_trial_of_the_search_is_unfinished() -> None:
    assert numbers(history(*SEARCHED, trained(5, 0.9, 9.0, state="running")), 3, 2) == []


def test_what_was_proposed_once_is_not_planned_again_though_it_failed_or_runs() -> None:
    one = trained(5, 0.5, 1.0, seed=1, state="failed", confirms=0)
    two = trained(6, 0.7, 2.0, seed=1, state="running", confirms=1)

    assert numbers(history(*SEARCHED, one, two), 0, 2) == [(0, 2), (1, 2), (2, 2), (2, 3)]


def test_retrainings_are_none_of_the_trials_that_a_search_learns_from() -> None:
    found = history(*SEARCHED, *again(5, 0, 1.0, [0.1, 0.2]))

    assert sorted(found.trials) == [0, 1, 2, 3, 4]
    assert found.next_number == 7
    assert found.spent(5, None, None) == 1
    assert found.spent(6, None, None) == pytest.approx(5 / 6)
    # 5 trials of one epoch, 3 s on 2 GPUs each; the confirmation is on top.
    assert found.gpu_seconds == pytest.approx(30.0)
    assert found.spent(None, None, 30 / 3600) >= 1
    assert found.spent(None, None, 31 / 3600) == pytest.approx(30 / 31)


#: Means 0.40, 0.60, 0.55 and 0.66: trial 3 takes the place of 1 and 2 on the front. Residuals are +-0.02 for 0, and
#: +-0.01 for the others: 2 (0.02^2 + 3 * 0.01^2) = 0.0014 with 4 degrees of freedom.
AGAIN = [
    *again(5, 0, 1.0, [0.42, 0.38], [0.30, 0.40]), *again(7, 1, 2.0, [0.61, 0.59], [0.5, 0.5]),
    *again(9, 2, 4.0, [0.56, 0.54], [0.6, 0.6]), *again(11, 3, 3.0, [0.67, 0.65], [0.6, 0.5]),
]  # fmt: skip


def test_the_front_is_that_of_the_fresh_means_once_all_of_it_was_trained_again() -> None:
    last = trained(10, 0.54, 4.0, seed=2, state="running", confirms=2)
    partly, whole = history(*SEARCHED, *AGAIN[:5], last), history(*SEARCHED, *AGAIN)

    assert [trial.number for trial in front_of(partly, BOTH)] == [0, 1, 2]
    assert confirmation(partly, BOTH) is None
    front = front_of(whole, BOTH)
    assert [trial.number for trial in front] == [0, 1, 3]
    assert [trial.metrics["top1"] for trial in front] == pytest.approx([0.40, 0.60, 0.66])
    assert pick(whole, BOTH, "best").number == 3
    assert pick(whole, BOTH, "gflops<=2").metrics["top1"] == pytest.approx(0.60)
    assert pick(whole, BOTH, "trial=2").metrics["top1"] == pytest.approx(0.55)
    assert pick(whole, BOTH, "trial=4").metrics["top1"] == 0.50


def test_as_many_right_clips_are_equal_however_they_are_shared_among_seeds() -> None:
    one, other = [8 / 96, 9 / 96, 11 / 96], [8 / 96, 10 / 96, 10 / 96]
    assert sum(one) / 3 < sum(other) / 3  # in the last bit
    found = history(
        trained(0, 0.1, 1.0), trained(1, 0.2, 2.0), *again(2, 0, 1.0, one), *again(5, 1, 2.0, other),
    )  # fmt: skip

    assert [trial.number for trial in front_of(found, BOTH)] == [0]


def test_intervals_are_students_with_one_spread_for_all() -> None:
    found = confirmation(history(*SEARCHED, *AGAIN), BOTH)

    assert found is not None
    # t(0.975; 4) = 2.776, from tables; the standard error of a mean of two is sqrt(0.0014 / 4 / 2).
    expected = 2.776 * math.sqrt(0.0014 / 4 / 2)
    assert [row.reach["top1"] for row in found.rows] == pytest.approx([expected] * 4, rel=0.03)
    assert [row.trial.number for row in found.rows] == [0, 1, 3, 2]
    assert [row.on_front for row in found.rows] == [True, True, True, False]


def test_optimism_is_what_the_search_showed_of_its_front_less_the_fresh_means() -> None:
    found = confirmation(history(*SEARCHED, *AGAIN), BOTH)

    assert found is not None
    # Trials 0, 1 and 2: (0.50 - 0.40 + 0.70 - 0.60 + 0.80 - 0.55) / 3; the near miss is none that it showed.
    assert found.optimism == pytest.approx(0.45 / 3)


def test_of_two_the_dearer_is_on_the_front_as_often_as_it_is_better() -> None:
    # All residuals are 0.02: S = 4 * 0.02^2 / 2, which the difference of two means of two has too. It is 0.02, so the
    # dearer one is better where a t with 2 degrees of freedom is above -0.02 / sqrt(S).
    two = [trained(0, 0.5, 1.0), trained(1, 0.6, 2.0)]
    found = confirmation(history(*two, *again(2, 0, 1.0, [0.52, 0.48]), *again(4, 1, 2.0, [0.54, 0.50])), BOTH)

    assert found is not None
    x = 0.02 / math.sqrt(4 * 0.02**2 / 2)
    # The distribution function of Student's t with 2 degrees of freedom has a closed form.
    expected = 0.5 + x / (2 * math.sqrt(2 + x * x))
    cheap, dear = (row.probability for row in found.rows)
    assert cheap == 1.0
    assert dear == pytest.approx(expected, abs=0.012)


def test_a_trial_all_of_whose_fresh_seeds_failed_is_no_longer_on_the_front() -> None:
    failed = [trained(5 + n, 0.5, 1.0, seed=1 + n, state="failed", confirms=0) for n in range(2)]
    found = history(*SEARCHED, *failed, *AGAIN[2:])

    assert [trial.number for trial in front_of(found, BOTH)] == [1, 3]


@settings(max_examples=25)
@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=4), min_size=1, max_size=5), st.booleans())
def test_the_best_mean_is_on_the_front_and_probabilities_are_shares(fresh: list[list[float]], by_loss: bool) -> None:
    objectives: Objectives = {"top1": "max", "gflops": "min"}
    searched = [trained(n, 0.5 + n / 100, float(n)) for n in range(len(fresh))]
    first, retrained = len(fresh), []
    for n, values in enumerate(fresh):
        retrained += again(first, n, float(n), values)
        first += len(values)

    found = confirmation(history(*searched, *retrained), objectives)

    assert found is not None
    assert all(0 <= row.probability <= 1 for row in found.rows)
    best = max(found.rows, key=lambda row: row.trial.metrics["top1"])
    assert best.on_front
    assert found.rows[0].probability == 1.0  # the cheapest is never dominated
    assert [row.trial.metrics["top1"] for row in found.rows] == pytest.approx([np.mean(values) for values in fresh])


def test_people_read_means_intervals_probabilities_and_the_test_split() -> None:
    text = render(history(*SEARCHED, *AGAIN), BOTH).splitlines()

    assert text[0].split() == ["trial", "top1", "in", "search", "on", "front", "test", "split", "gflops", "model"]
    assert text[1].split()[:11] == ["0", "40.0", "±", "3.7", "%", "50.0", "%", "100", "%", "35.0", "%"]
    assert text[4].split()[0] == "2"
    assert "behind" in text[4]
    assert text[-1].startswith("optimism: +15.0 points of top1")


def test_data_without_a_test_split_have_no_such_column_and_that_is_said() -> None:
    bare = [*again(5, 0, 1.0, [0.4, 0.5]), *again(7, 1, 2.0, [0.6, 0.6]), *again(9, 2, 4.0, [0.7, 0.7])]
    text = render(history(*SEARCHED, *bare), BOTH)

    assert "test split" not in text.splitlines()[0]
    assert "the data have no test split" in text


def test_machines_read_the_same() -> None:
    tree = json.loads(json.dumps(as_json(history(*SEARCHED, *AGAIN), BOTH)))

    assert [row["trial"] for row in tree["front"]] == [0, 1, 3]
    # As far as the limit of 10: 0.40 from 1 on, 0.20 more from 2 on, and 0.06 from 3 on.
    assert tree["hypervolume"] == pytest.approx(0.40 * 9 + 0.20 * 8 + 0.06 * 7)
    said: Mapping[str, Any] = tree["confirmation"]
    assert said["optimism"] == {"top1": pytest.approx(0.15)}
    first = said["models"][0]
    assert (first["trial"], first["seeds"], first["searched"]["top1"]) == (0, 2, 0.5)
    assert first["test"]["top1"] == pytest.approx(0.35)
    low, high = first["interval"]["top1"]
    assert (low + high) / 2 == pytest.approx(0.4)
    assert as_json(history(*SEARCHED), BOTH)["confirmation"] is None


def test_the_pictures_show_intervals_and_optimism(tmp_path: Path) -> None:
    whole = history(*SEARCHED, *AGAIN)
    figure_png(whole, BOTH, tmp_path / "front.png")
    figure_html(whole, BOTH, tmp_path / "front.html")

    page = (tmp_path / "front.html").read_text()
    assert "optimism +15.0 points of top1" in page
    assert "fresh seeds, 95 % interval" in page
    assert (tmp_path / "front.png").stat().st_size > 10_000

"""The cost of a video in evaluation, as an objective and a limit of searches that choose the views."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from search.analysis.front import front_of
from search.ledger.history import History
from search.report.tables.front import render
from search.spec.schema import Spec
from tests.search.searches import TREE, finish, searching, spec
from vattn.cost import cost

#: One network, with one clip or ten, and crops as in training or larger.
VIEWS = {"clips": {"choice": [1, 10]}, "size": {"choice": ["auto", 64]}}
MODEL = {"frames": 2, "attention": []}


def search_over_views(objectives: Mapping[str, str], views: Mapping[str, Any] = VIEWS, **changes: Any) -> Spec:
    trial = TREE["trial"] | {"data": {"kind": "motion", "views": views}}
    return spec(trial=trial, model=MODEL, train={"lr": 0.1}, objectives=objectives, **changes)


def run(searched: Spec, folder: Path) -> History:
    """Finish all trials of a search; more clips and larger crops are a little better."""
    with searching(searched, folder) as (ledger, proposer, record):
        while (number := proposer.propose(record)) is not None:
            views = ledger.history.trials[number].config["data"]["views"]
            finish(record, number, 0.5 + 0.01 * views["clips"] + (0.001 if views.get("size") == 64 else 0))
        return ledger.history


def chosen(trials: list[Any]) -> list[tuple[int, int | str]]:
    return [(t.config["data"]["views"]["clips"], t.config["data"]["views"]["size"]) for t in trials]


def test_it_moves_the_front_of_a_search_over_views(tmp_path: Path) -> None:
    by_clip = search_over_views({"top1": "max", "gflops": "min"})
    by_video = search_over_views({"top1": "max", "gflops_video": "min"})

    clip, video = run(by_clip, tmp_path / "clip"), run(by_video, tmp_path / "video")

    # Counted for one clip, ten clips of large crops cost what one costs, and dominate all others.
    assert len(clip.trials) == len(video.trials) == 4
    assert chosen(front_of(clip, by_clip.objectives)) == [(10, 64)]
    assert chosen(front_of(video, by_video.objectives)) == [(1, "auto"), (1, 64), (10, "auto"), (10, 64)]
    assert "gflops_video" in render(video, by_video.objectives)


def test_it_is_the_cost_of_a_view_at_the_size_of_the_evaluation_times_the_views(tmp_path: Path) -> None:
    searched = search_over_views({"top1": "max"}, VIEWS | {"crops": 3})
    small = searched.trial_config(next(searched.space.one_at_a_time())[1]).model
    large = small.at(64)

    known = {chosen([t])[0]: t.cost["gflops_video"] for t in run(searched, tmp_path).trials.values()}

    one, four = (cost(model, 16).gflops for model in (small, large))
    assert known == pytest.approx(
        {(1, "auto"): 3 * one, (1, 64): 3 * four, (10, "auto"): 30 * one, (10, 64): 30 * four}
    )


def test_a_config_over_the_limit_is_not_trained(tmp_path: Path) -> None:
    searched = search_over_views({"top1": "max"})
    model = searched.trial_config(next(searched.space.one_at_a_time())[1]).model
    limit = {"gflops_video": {"max": 5 * cost(model, 16).gflops}}

    history = run(search_over_views({"top1": "max"}, constraints=limit), tmp_path)

    # 32 to 64 pixels is four times the cost, ten clips ten times.
    assert set(chosen(list(history.trials.values()))) == {(1, "auto"), (1, 64)}
    above = [rejected.reason for rejected in history.rejected if "above" in rejected.reason]
    assert above
    assert all(reason.startswith("gflops_video") for reason in above)


def test_a_single_view_at_the_size_of_the_training_needs_no_cost_of_its_own() -> None:
    assert "gflops_video" not in search_over_views({"top1": "max", "gflops": "min"}, {}).costs
    assert "gflops_video" in search_over_views({"top1": "max", "gflops": "min"}, {"clips": 2}).costs
    assert "gflops_video" in search_over_views({"top1": "max", "gflops_video": "min"}, {}).costs


@pytest.mark.parametrize("objective", ["gflops", "gflops_video"])
def test_samplers_learn_from_it_only_if_it_is_an_objective(tmp_path: Path, objective: str) -> None:
    searched = search_over_views({"top1": "max", objective: "min"})

    with searching(searched, tmp_path) as (_, proposer, _):
        known = proposer.study._cost_within_limits({"data.views.clips": 1, "data.views.size": 1})

    assert known is not None
    assert list(known) == ["gflops", "params_m", "activation_mb"] + ["gflops_video"] * (objective == "gflops_video")


@pytest.mark.medium
def test_the_frontier_sampler_searches_views_by_it(tmp_path: Path) -> None:
    sampler = {"budget": {"trials": 20}, "sampler": {"kind": "frontier"}}
    searched = search_over_views(
        {"top1": "max", "gflops_video": "min"}, {"clips": {"int": [1, 30]}, "crops": {"choice": [1, 3]}}, search=sampler
    )

    with searching(searched, tmp_path) as (ledger, proposer, record):
        for number in range(20):
            assert proposer.propose(record) == number
            views = ledger.history.trials[number].config["data"]["views"]
            finish(record, number, 0.5 + 0.01 * min(views["clips"] * views["crops"], 10))
        costs = {trial.cost["gflops_video"] for trial in ledger.history.trials.values()}

    assert len(costs) > 10


@pytest.mark.parametrize("searched", [search_over_views({"top1": "max", "gflops": "min"}), spec()])
def test_what_a_cost_depends_on_is_read_without_the_rest_of_a_config(searched: Spec) -> None:
    rng = random.Random(0)
    for _ in range(20):
        params, tree = searched.space.sample(rng)
        config = searched.trial_config(tree)

        assert searched.subject(params) == (config.model, config.data.views)

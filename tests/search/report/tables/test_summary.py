"""The text that ends a run."""

from pathlib import Path

from search.analysis.pareto import Objectives
from search.ledger.history import EXHAUSTED
from search.report.tables.summary import summary
from search.report.wording.program import program
from tests.search.events import history_of
from tests.search.report.ledgers import Trees

BOTH: Objectives = {"top1": "max", "gflops": "min"}


def test_the_summary_has_the_front_failures_the_folder_and_the_next_commands(events: Trees) -> None:
    text = summary(history_of(events), BOTH, Path("runs/by-hand"))

    assert text.splitlines() == [
        "by-hand: 1 running, 2 finished, 1 stopped early, 1 failed",
        "",
        "trial    top1  gflops  params_m             model",
        "    0  50.0 %     0.2         2             no attention, T8",
        "    1  75.0 %     0.4         2  best knee  tam a2 K3 @res2-5 b, T8",
        "",
        "trial 3 failed: out of memory",
        "results   runs/by-hand",
        "picture   runs/by-hand/pareto.html",
        f"next      {program()} report runs/by-hand --out runs/by-hand/report.html",
        f"          {program()} ui runs/by-hand",
        f"          {program()} export runs/by-hand --pick knee --out best.yaml",
        f"          {program()} train best.yaml",
    ]


def test_the_summary_says_why_a_search_ended_before_its_budget_was_spent(events: Trees) -> None:
    early, spent = (
        summary(history_of([*events, {"event": "ended", "reason": reason}]), BOTH, Path("out"))
        for reason in (EXHAUSTED, "budget")
    )

    assert early.splitlines()[1].startswith(
        "ended before its budget was spent: the space has no other config within the limits"
    )
    assert "ended before" not in spent


def test_the_summary_says_which_earlier_searches_are_trusted(events: Trees) -> None:
    offers = [{"event": "warm_start", "source": name} for name in ("first", "again", "third")]
    decisions = [("first", True, 0.8123, 7), ("again", True, 0.7, 8), ("again", False, 0.1, 12)]
    guards = [
        {"event": "guard", "source": name, "trusted": trusted, "correlation": correlation, "trials": trials}
        for name, trusted, correlation, trials in decisions
    ]
    text = summary(history_of([events[0], *offers, *events[1:], *guards]), BOTH, Path("out"))

    assert [line for line in text.splitlines() if line.startswith("earlier search")] == [
        "earlier search first is trusted: rank correlation at equal cost 0.81, over 7 finished trials",
        "earlier search again is no longer trusted: rank correlation at equal cost 0.10, over 12 finished trials",
        "earlier search third is not trusted: too few trials to show that its ranking agrees with this search",
    ]


def test_a_summary_without_a_front_offers_no_export(events: Trees) -> None:
    text = summary(history_of(events[:5]), BOTH, Path("runs/by-hand"))

    assert "no trial is finished yet: 1 running" in text
    assert "export" not in text


def test_a_front_within_noise_is_proposed_for_confirmation(events: Trees) -> None:
    few, many = (
        summary(history_of([events[0] | {"clips": {"val": clips}}, *events[1:]]), BOTH, Path("out"), ["a spec.yaml"])
        for clips in (12, 10_000)
    )

    # 50 and 75 % of 12 clips: 25 points with a standard error of 19.
    (line,) = [line for line in few.splitlines() if line.startswith("noise")]
    assert "1 of 1 steps of the front are not significant: trial 1 over 0 (+25.0 points (" in line
    assert f"{program()} run 'a spec.yaml' --resume --set 'search.confirm={{top: 3, seeds: 2}}'" in few
    assert "best: +25.0 points" in many
    assert "over trial 0, significant; it is significantly better than every other trial of no higher cost" in many
    assert "noise" not in many
    # Only trial 0 has ended.
    first = summary(history_of([events[0] | {"clips": {"val": 50}}, *events[1:6]]), BOTH, Path("out"))
    assert "best: no other trial costs as little" in first

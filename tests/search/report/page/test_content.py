"""What the page says of recorded and constructed searches."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from search.ledger.file import read
from search.ledger.history import History
from search.report.page.build import page
from search.report.page.content import Content, content
from tests.search.confirmed import AGAIN, BOTH, SEARCHED
from tests.search.confirmed import history as confirmed_search
from tests.search.constructed import history, trees
from tests.search.events import history_of
from tests.search.report.ledgers import Trees, with_objectives

ROOT = Path(__file__).resolve().parents[4]
RECORDED = [
    ROOT / "tests/docs/quickstart.jsonl",
    *sorted((ROOT / "tests/search/ledger/recorded").glob("*.jsonl")),
    ROOT / "tests/search/report/why/recorded/ledger.jsonl",
]


def shown(search: History) -> Content:
    return content(search, search.objectives, "runs/x")


def answers(found: Content) -> dict[str, str]:
    return dict(found.answers)


@pytest.mark.medium
@pytest.mark.parametrize("ledger", RECORDED, ids=lambda path: path.stem)
def test_a_ledger_of_any_version_has_a_page_after_each_of_its_events(ledger: Path) -> None:
    events = list(read(ledger))
    for count in {1, 2, 3, 5, len(events) // 3, len(events) // 2, len(events)}:
        search = History.of(events[:count])

        html = page(shown(search))

        data = re.search(r'id="data">(.*?)</script>', html, re.DOTALL)
        assert data is not None
        trials = json.loads(data[1])["trials"]
        assert [trial["n"] for trial in trials] == list(search.trials)
        assert "NaN" not in data[1]


@pytest.mark.parametrize("objectives", [{"loss": "min"}, {"top1": "max", "loss": "min", "params_m": "min"}])
@pytest.mark.parametrize("count", [1, 6, 25])
def test_every_kind_of_search_has_a_page(events: Trees, objectives: dict[str, str], count: int) -> None:
    search = history_of(with_objectives(events, objectives)[:count])

    assert "<h1>by-hand</h1>" in page(shown(search))


def test_no_text_of_a_ledger_can_leave_its_place(events: Trees) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>@@DATA@@"
    events[0]["name"] = hostile
    for tree in events:
        if tree["event"] == "proposed":
            tree["config"]["model"]["attention"] = [{"kind": hostile, "stages": [2]}]
        if tree["event"] == "stopped":
            tree["reason"] = hostile

    html = page(shown(history_of(events)))

    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert html.count("</script>") == 2


def test_the_answer_names_what_won_how_sure_it_is_and_what_made_the_difference() -> None:
    found = answers(shown(history(240, seed=1)))

    assert re.match(r"Trial \d+: TSM in res.* of a resnet of depth 10, 8 frames, width 0\.5, lr ", found["What won"])
    assert "measured on 2,000 clips" in found["How sure"]
    assert re.search(r"attention: tsm over none \+(19|20)\.\d points \(1[5-9]\.\d to 2\d\.\d\) at equal cost",
                     found["What made the difference"])  # fmt: skip


def test_a_confirmed_search_is_judged_by_fresh_seeds() -> None:
    found = shown(confirmed_search(*SEARCHED, *AGAIN))

    assert "by fresh seeds" in answers(found)["What won"]
    assert "too good: +15.0 points of top1" in answers(found)["How sure"]
    assert [row["n"] for row in found.data["confirmed"]] == [0, 1, 2, 3]
    assert not any("fresh seeds" in step.what for step in found.advice)
    assert content(confirmed_search(*SEARCHED), BOTH, "x").advice[0].what.endswith("with fresh seeds.")


def test_advice_follows_from_the_state_of_a_search(events: Trees) -> None:
    running = shown(history_of(events)).advice
    over = [*events[:-1], {"event": "stopped", "trial": 4, "epoch": 1, "reason": "late", "time": 1.8e9}]
    ended = [*over, {"event": "ended", "reason": "budget", "time": 1.8e9}]
    at_limit = shown(history_of([events[0] | {"spec": events[0]["spec"] | {"constraints": {"gflops": {"max": 0.42}}}},
                                 *ended[1:]])).advice  # fmt: skip

    assert running[0].what == "Let the search end."
    assert not any("end" in step.what for step in shown(history_of(ended)).advice)
    assert "gflops 0.4; the limit is 0.42" in next(step.why for step in at_limit if "Allow" in step.what)
    assert all("vattn" in step.command or "search" in step.command for step in running if step.command)


def test_a_search_that_still_improves_should_be_longer() -> None:
    trials: list[list[dict[str, Any]]] = []
    from tests.search.confirmed import trained

    for n in range(12):
        trials.append(trained(n, 0.3 + 0.05 * n, 2.0))
    advice = content(confirmed_search(*trials), BOTH, "x").advice

    assert "added" in next(step.why for step in advice if step.what == "Search longer.")


@pytest.mark.medium
def test_two_thousand_trials_fit_into_eight_megabytes() -> None:
    html = page(shown(history(2000, stopped=0.5, epochs=30)))

    assert len(html.encode()) < 8e6


def test_fronts_by_gflops_and_by_latency_stand_side_by_side() -> None:
    # top1, GFLOPs, ms. By latency, trial 1 is better than both others.
    known = [(0.5, 1.0, 30.0), (0.6, 2.0, 10.0), (0.4, 0.5, 20.0)]
    events = trees(3)
    for tree in events:
        if "cost" in tree:
            _, gflops, milliseconds = known[tree["trial"]]
            tree["cost"] = {"gflops": gflops, "params_m": 1.0, "latency_ms": milliseconds}
        if "metrics" in tree:
            tree["metrics"] = {"top1": known[tree["trial"]][0]}

    found = shown(history_of(events))

    assert found.data["fronts"] == [{"cost": "gflops", "front": [2, 0, 1]}, {"cost": "latency_ms", "front": [1]}]
    html = page(found)
    assert html.index('<figure id="front-gflops-figure"') < html.index('<figure id="front-latency_ms-figure"')
    assert "The front by latency (ms)" in html
    without = shown(history(3))
    assert without.data["fronts"] == []
    assert 'class="pair"' not in page(without)

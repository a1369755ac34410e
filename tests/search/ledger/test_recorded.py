"""Ledgers that version 0.1.0 wrote are read by this version.

``earlier`` is a search without scheduler; ``rich`` has a warm start from it, an interruption, bases, halving and
confirmations; ``interrupted`` was stopped before its end. Expected values are computed from the lines themselves.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from search.analysis.front import front_of
from search.ledger.events import parse_event
from search.ledger.file import history, read
from search.report.why.facts import why
from search.report.why.text import render
from search.spec.schema import Spec
from search.spec.validation import parse
from vattn.canonical import architecture_id, trial_id
from vattn.config import TrialConfig

LEDGERS = sorted((Path(__file__).parent / "recorded").glob("*.jsonl"))
Lines = list[dict[str, Any]]

each_ledger = pytest.mark.parametrize("path", LEDGERS, ids=lambda path: path.stem)


def lines(path: Path, *kinds: str) -> Lines:
    """Return the lines of a ledger as plain mappings; of some kinds only, if named."""
    trees = [json.loads(line) for line in path.read_text().splitlines()]
    return [tree for tree in trees if not kinds or tree["event"] in kinds]


def spec_of(path: Path) -> Spec:
    return parse(lines(path, "search")[0]["spec"], Path("spec.yaml"))


def test_the_recorded_ledgers_hold_every_kind_of_event_but_a_failure() -> None:
    kinds = {line["event"] for path in LEDGERS for line in lines(path)}

    assert kinds == {
        "search", "resumed", "ended", "warm_start", "guard", "rejected", "proposed", "inherits", "started", "report",
        "stopped", "finished",
    }  # fmt: skip


@each_ledger
def test_each_line_is_an_event_and_is_written_again_as_it_was(path: Path) -> None:
    for line in path.read_text().splitlines():
        event = parse_event(json.loads(line))

        assert event.event == json.loads(line)["event"]
        assert json.dumps(event.line(), separators=(",", ":")) == line
    assert len(list(read(path))) == len(lines(path))


@each_ledger
def test_the_events_add_up_to_states_epochs_and_seconds(path: Path) -> None:
    search = history(path)

    proposed = {line["trial"]: line for line in lines(path, "proposed")}
    ends = {line["trial"]: line["event"] for line in lines(path, "stopped", "finished")}
    started = {line["trial"] for line in lines(path, "started")}
    for number, line in proposed.items():
        trial = search.trial(number)
        reports = [report for report in lines(path, "report") if report["trial"] == number]
        assert trial.state == ends.get(number, "running" if number in started else "proposed")
        assert trial.epoch == len(reports)
        assert trial.seconds == pytest.approx(sum(report["seconds"] for report in reports))
        assert trial.metrics == line["cost"] | (reports[-1]["metrics"] if reports else {})
        assert (number in search.extras) == ("confirms" in line or line.get("base", False))
    assert search.next_number == len(proposed)
    assert len(search.rejected) == len(lines(path, "rejected"))
    assert {trial.number: trial.source for trial in search.trials.values() if trial.inherits} == {
        line["trial"]: line["source"] for line in lines(path, "inherits") if line["trial"] in search.trials
    }
    # The search is active from its first event to its last, without the pause before a resume.
    pauses = [after["time"] - before["time"] for before, after in pairwise(lines(path)) if after["event"] == "resumed"]
    assert search.active == pytest.approx(lines(path)[-1]["time"] - lines(path)[0]["time"] - sum(pauses))
    assert search.ended is not None
    assert search.ended.reason == lines(path, "ended")[-1]["reason"]


def expected_front(path: Path) -> list[int]:
    """Return the front by plain comparisons: of the means over fresh seeds if there are any, else of the search."""
    costs = {line["trial"]: line["cost"]["gflops"] for line in lines(path, "proposed")}
    last = {line["trial"]: line["metrics"]["top1"] for line in lines(path, "report")}
    extras = {line["trial"]: line for line in lines(path, "proposed") if "confirms" in line or line.get("base")}
    finished = {line["trial"] for line in lines(path, "finished")}
    points = {number: last[number] for number in finished - extras.keys()}
    fresh: dict[int, list[float]] = {}
    for number, line in extras.items():
        if "confirms" in line:
            fresh.setdefault(line["confirms"], []).append(last[number])
    if fresh:
        points = {number: round(fmean(values), 12) for number, values in fresh.items()}

    def beaten(number: int) -> bool:
        """Return whether another trial is nowhere worse and somewhere better, or equal with a smaller number."""
        own = (-points[number], costs[number])
        rivals = [(-points[rival], costs[rival], rival) for rival in points if rival != number]
        return any(
            error <= own[0] and cost <= own[1] and ((error, cost) != own or rival < number)
            for error, cost, rival in rivals
        )

    return sorted((number for number in points if not beaten(number)), key=lambda number: costs[number])


@each_ledger
def test_the_front_is_that_of_plain_comparisons(path: Path) -> None:
    search = history(path)

    front = front_of(search, search.objectives)

    assert search.objectives == {"top1": "max", "gflops": "min"}
    assert [trial.number for trial in front] == expected_front(path)


def recorded_values(tree: Any, recorded: Any) -> Any:
    """Return a tree without the options that were added after ``recorded`` was, and with its words for mappings.

    That the options of a word are its defaults is seen by the identities.
    """
    if isinstance(tree, dict) and isinstance(recorded, str):
        return tree["kind"]
    if isinstance(tree, dict) and isinstance(recorded, dict):
        return {key: recorded_values(value, recorded[key]) for key, value in tree.items() if key in recorded}
    if isinstance(tree, list) and isinstance(recorded, list):
        return [recorded_values(*pair) for pair in zip(tree, recorded, strict=True)]
    return tree


@each_ledger
def test_each_recorded_config_keeps_its_identities_and_its_cost(path: Path) -> None:
    spec = spec_of(path)

    recorded = lines(path, "search")[0]["spec"]
    assert recorded_values(spec.tree(), recorded) == recorded
    for line in lines(path, "proposed"):
        config = TrialConfig.parse(line["config"])
        assert recorded_values(config.tree(), line["config"]) == line["config"]
        assert (trial_id(config), architecture_id(config.model)) == (line["identity"], line["architecture"])
        assert spec.cost(config) == pytest.approx(line["cost"])
        if line["params"] and "confirms" not in line:
            assert spec.trial_config(spec.space.replay(line["params"])) == config
    for line in lines(path, "rejected"):
        assert trial_id(spec.trial_config(spec.space.replay(line["params"]))) == line["identity"]


@each_ledger
def test_an_identity_is_trained_once(path: Path) -> None:
    # A base may have the config of a trial, and is then trained once for both.
    trials = Counter(line["identity"] for line in lines(path, "proposed") if not line.get("base"))

    assert max(trials.values()) == 1


def test_earlier_trials_of_a_warm_start_have_the_identities_that_their_own_search_recorded() -> None:
    by_name = {path.stem: path for path in LEDGERS}
    recorded = {line["trial"]: line["identity"] for line in lines(by_name["earlier"], "proposed")}

    for name in ("rich", "interrupted"):
        (warm,) = history(by_name[name]).warm.values()
        assert {trial.trial: trial.identity for trial in warm.trials} == recorded
        assert warm.id == lines(by_name["earlier"], "search")[0]["id"]


@each_ledger
def test_why_has_a_text_for_each_trial(path: Path) -> None:
    events = list(read(path))

    for line in lines(path, "proposed"):
        text = render(why(events, line["trial"]))
        assert f"trial {line['trial']}" in text
        assert len(text.splitlines()) > 3

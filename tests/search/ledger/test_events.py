"""Each event is read from a line of a ledger and is written as the same line."""

import json
from typing import Any

import pytest

from search.ledger.events import parse_event
from tests.search.events import event

WARM_START: dict[str, Any] = {
    "event": "warm_start", "time": 1.0, "source": "runs/earlier", "id": "s0", "name": "earlier",
    "trials": [{"trial": 3, "params": {"stages": [0, 1]}, "identity": "f" * 16, "metrics": {"top1": 0.5}}],
    "left_out": {"it has no top1": 2}, "differs": ["data.size"],
}  # fmt: skip


def test_an_event_is_written_without_the_fields_that_were_not_given(events: list[dict[str, Any]]) -> None:
    for tree in [*events, WARM_START]:
        assert json.loads(json.dumps(parse_event(tree).line())) == tree


def test_the_metrics_of_a_diverged_training_are_kept() -> None:
    diverged = {"top1": 0.5, "loss": float("nan")}
    report = event({"event": "report", "trial": 0, "epoch": 1, "metrics": diverged})
    warm_start = WARM_START | {"trials": [WARM_START["trials"][0] | {"metrics": diverged}]}

    for line in (report.line(), warm_start):
        assert "NaN" in json.dumps(parse_event(json.loads(json.dumps(line))).line())


def test_a_field_of_a_later_version_is_ignored() -> None:
    later = {"event": "ended", "time": 1.0, "reason": "budget", "by": "somebody"}
    warm_start = WARM_START | {"trials": [WARM_START["trials"][0] | {"by": "somebody"}], "by": "somebody"}

    assert parse_event(later).line() == {"event": "ended", "time": 1.0, "reason": "budget"}
    assert json.dumps(parse_event(warm_start).line()) == json.dumps(WARM_START)


def test_an_unknown_kind_or_a_missing_field_is_refused() -> None:
    for tree in ({"event": "paused", "time": 1.0}, {"event": "ended", "time": 1.0}, {"time": 1.0}, 7):
        with pytest.raises(ValueError, match="validation error"):
            parse_event(tree)

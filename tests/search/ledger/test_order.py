"""A ledger that contradicts itself is refused with the line, and can be repaired."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.commands.repair import repair
from search.ledger.events import Resumed
from search.ledger.file import Ledger, damage, read
from vattn.errors import UserError

Events = list[dict[str, Any]]


def written(folder: Path, events: Events, tail: str = "") -> Path:
    path = folder / "ledger.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return path


def first(events: Events, kind: str, trial: int | None = None) -> int:
    """The index of the first event of a kind, of one trial if it is given."""
    return next(i for i, e in enumerate(events) if e["event"] == kind and trial in (None, e.get("trial")))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        list(read(path))
    return str(refused.value)


def test_a_line_of_another_search_is_named(tmp_path: Path, events: Events) -> None:
    path = written(tmp_path, [*events[:3], events[0] | {"id": "other"}, *events[3:]])
    assert "line 4: begins another search, other" in refusal(path)


def test_an_event_of_an_unknown_trial_is_named(tmp_path: Path, events: Events) -> None:
    unknown = events[first(events, "report")] | {"trial": 99}
    assert "line 3: is about trial 99, which was not proposed" in refusal(
        written(tmp_path, [*events[:2], unknown, *events[2:]])
    )


def test_a_trial_that_is_proposed_twice_or_out_of_order_is_named(tmp_path: Path, events: Events) -> None:
    assert "proposes trial 0 a second time" in refusal(written(tmp_path, [*events[:2], events[1]]))
    assert "proposes trial 7 after 1 trials" in refusal(written(tmp_path, [*events[:2], events[1] | {"trial": 7}]))


def test_epochs_that_are_missing_are_named(tmp_path: Path, events: Events) -> None:
    at = first(events, "report", 0)
    assert "reports epoch 2 of trial 0 after 0 epochs" in refusal(written(tmp_path, events[:at] + events[at + 1 :]))


def test_a_trial_that_ends_twice_is_named(tmp_path: Path, events: Events) -> None:
    at = first(events, "finished", 0)
    assert "ends trial 0 a second time" in refusal(written(tmp_path, [*events[: at + 1], *events[at:]]))


def test_a_good_ledger_needs_no_repair(tmp_path: Path, events: Events, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, events)
    before = path.read_bytes()

    repair(str(tmp_path), cut=True)

    assert path.read_bytes() == before
    assert "all lines are good" in capsys.readouterr().out


def test_a_repair_shows_first_and_cuts_only_when_told(
    tmp_path: Path, events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, events[:4], tail="\x1b[2Jnot json\n" + json.dumps(events[4]) + "\n")
    before = path.read_bytes()

    repair(str(tmp_path), cut=False)
    shown = capsys.readouterr().out
    assert path.read_bytes() == before
    assert "line 5: is not an event as JSON" in shown
    assert "\x1b" not in shown
    assert "--yes" in shown

    repair(str(tmp_path), cut=True)
    assert [event.line() for event in read(path)] == events[:4]
    assert path.with_name("ledger.jsonl.cut").read_bytes() == before[len(path.read_bytes()) :]


def test_a_repair_cuts_a_torn_tail_and_a_resume_appends(tmp_path: Path, events: Events) -> None:
    path = written(tmp_path, events, tail='{"event": "rep')
    found = damage(path)
    assert found
    assert found.is_torn

    repair(str(tmp_path), cut=True)

    ledger = Ledger(path)
    ledger.append(Resumed())
    ledger.close()
    assert len(list(read(path))) == len(events) + 1


def test_a_second_repair_keeps_what_the_first_one_cut(tmp_path: Path, events: Events) -> None:
    for tail in ("first", "second"):
        written(tmp_path, events, tail=tail)
        repair(str(tmp_path), cut=True)

    assert (tmp_path / "ledger.jsonl.cut").read_text() == "first"
    assert (tmp_path / "ledger.jsonl.cut-2").read_text() == "second"


def test_a_running_search_is_not_repaired(tmp_path: Path, events: Events) -> None:
    path = written(tmp_path, events)
    ledger = Ledger(path)
    with path.open("a") as file:
        file.write("torn")

    with pytest.raises(UserError, match="another process is running this search"):
        repair(str(tmp_path), cut=True)

    ledger.close()
    assert path.read_text().endswith("torn")


def test_a_ledger_without_a_good_first_line_cannot_be_repaired(tmp_path: Path, events: Events) -> None:
    written(tmp_path, events[1:])
    with pytest.raises(UserError, match="line 1: comes before the search began; nothing can be saved"):
        repair(str(tmp_path), cut=True)

"""A ledger survives whatever ends the process that writes it, and can be read back as it was."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.ledger.events import Ended, Resumed, parse_event
from search.ledger.file import Ledger, history, read
from tests.search.room import room_for
from vattn.errors import UserError

Events = list[dict[str, Any]]


def written(folder: Path, events: Events, tail: str = "") -> Path:
    path = folder / "ledger.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return path


def lines(path: Path) -> Events:
    """The events of a ledger as they are written."""
    return [event.line() for event in read(path)]


def test_an_incomplete_last_line_is_no_event_and_is_cut_off(tmp_path: Path, events: Events) -> None:
    path = written(tmp_path, events, tail='{"event": "report", "tri')
    assert lines(path) == events

    ledger = Ledger(path)
    resumed = ledger.append(Resumed())
    ledger.close()

    assert lines(path) == [*events, resumed.line()]


def test_an_unreadable_line_in_the_middle_is_named(tmp_path: Path, events: Events) -> None:
    for unreadable in ("{torn", "{}", "7", '{"event": "ended"}', '{"event": "ended", "time": 1.0}'):
        path = written(tmp_path, events[:1], tail=unreadable + "\n" + json.dumps(events[1]) + "\n")
        with pytest.raises(ValueError, match=r"ledger\.jsonl: line 2: is not an event"):
            list(read(path))


def test_an_event_of_another_version_is_not_called_damaged(tmp_path: Path, events: Events) -> None:
    for line in ({"event": "moved", "time": 1.0}, {"event": "report", "time": 1.0, "trial": 0}):
        path = written(tmp_path, [*events[:1], line])
        with pytest.raises(UserError, match="line 2: is not an event that this version knows; read the file with the"):
            list(read(path))


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "new" / "ledger.jsonl")

    with pytest.raises(ValueError, match="another process is running this search"):
        Ledger(tmp_path / "new" / "ledger.jsonl")

    first.close()
    Ledger(tmp_path / "new" / "ledger.jsonl").close()


def test_a_full_disk_is_reported_with_the_name_of_the_file_and_leaves_complete_lines(
    tmp_path: Path, events: Events
) -> None:
    ledger = Ledger(written(tmp_path, events))
    before = ledger.path.read_bytes()
    message = r"ledger\.jsonl: cannot be written: .*; make room and go on with --resume"
    with room_for(len(before) + 20), pytest.raises(OSError, match=message):  # half of the line has room
        ledger.append(Ended(reason="budget"))

    assert ledger.path.read_bytes() == before
    ended = ledger.append(Ended(reason="budget"))
    ledger.close()
    assert lines(ledger.path) == [*events, ended.line()]


def test_a_reader_sees_an_appended_event_at_once(tmp_path: Path, events: Events) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")

    for event in events:
        ledger.append(parse_event(event))

    assert history(ledger.path).trials == ledger.history.trials
    assert [line | {"time": 0} for line in lines(ledger.path)] == [event | {"time": 0} for event in events]
    ledger.close()

"""A ledger survives whatever ends the process that writes it, and can be read back as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from search.ledger.events import Ended, Resumed, parse_event
from search.ledger.file import Ledger, ReplacedError, history, read
from tests.search.room import room_for
from vattn.errors import StorageError, UserError

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
    message = r"ledger\.jsonl: cannot be written: .*; make room$"
    with room_for(len(before) + 20), pytest.raises(OSError, match=message):  # half of the line has room
        ledger.append(Ended(reason="budget"))

    assert ledger.path.read_bytes() == before
    ended = ledger.append(Ended(reason="budget"))
    ledger.close()
    assert lines(ledger.path) == [*events, ended.line()]


def test_a_line_that_cannot_be_cut_off_at_once_is_never_in_the_middle(tmp_path: Path, events: Events) -> None:
    ledger = Ledger(written(tmp_path, events))
    # As after a write that failed, on a disk that then did not let the line be cut off.
    ledger._is_torn = True
    with ledger.path.open("a") as file:
        file.write('{"event": "rep')

    ended = ledger.append(Ended(reason="budget"))

    assert lines(ledger.path) == [*events, ended.line()]


def test_a_ledger_whose_disk_is_gone_is_written_again_when_it_is_back(tmp_path: Path, events: Events) -> None:
    folder, away = tmp_path / "disk", tmp_path / "away"
    folder.mkdir()
    ledger = Ledger(written(folder, events))
    folder.rename(away)
    folder.mkdir()  # an empty mount point

    for _ in range(2):
        with pytest.raises(StorageError, match=r"ledger\.jsonl: is not there; is its disk mounted\?") as gone:
            ledger.append(Ended(reason="budget"))
        assert not isinstance(gone.value, ReplacedError)
    assert not list(folder.iterdir())
    assert ledger.history.ended is None

    # The same content is the same ledger, also in a copy of the folder.
    folder.rmdir()
    shutil.copytree(away, folder)
    ended = ledger.append(Ended(reason="budget"))

    assert lines(folder / "ledger.jsonl") == [*events, ended.line()]
    assert lines(away / "ledger.jsonl") == events
    with pytest.raises(UserError, match="another process is running this search"):
        Ledger(folder / "ledger.jsonl")


@pytest.mark.parametrize("other", ["shorter", "other", "longer", "running"])
def test_another_ledger_in_its_place_is_refused(other: str, tmp_path: Path, events: Events) -> None:
    ledger = Ledger(written(tmp_path, events))
    ledger.path.rename(tmp_path / "away.jsonl")
    changed = {"shorter": events[:-1], "other": [*events[:-1], events[-1] | {"time": 1.0}]}
    written(tmp_path, changed.get(other, events if other == "running" else [*events, events[-1]]))
    running = Ledger(ledger.path) if other == "running" else None

    with pytest.raises(ReplacedError, match=r"ledger\.jsonl: .*(another ledger|another process is running)"):
        ledger.append(Ended(reason="budget"))
    if running:
        running.close()


def test_a_ledger_that_was_removed_is_not_waited_for(tmp_path: Path, events: Events) -> None:
    ledger = Ledger(written(tmp_path, events))
    ledger.path.unlink()

    with pytest.raises(ReplacedError, match="was removed while the search ran"):
        ledger.append(Ended(reason="budget"))


def test_a_reader_sees_an_appended_event_at_once(tmp_path: Path, events: Events) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")

    for event in events:
        ledger.append(parse_event(event))

    assert history(ledger.path).trials == ledger.history.trials
    assert [line | {"time": 0} for line in lines(ledger.path)] == [event | {"time": 0} for event in events]
    ledger.close()

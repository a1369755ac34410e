"""The ledger survives what kills its writer, and adds up to the same again."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.ledger.file import Ledger, history, read
from search.ledger.history import History
from tests.search.room import room_for

Events = list[dict[str, Any]]


def written(folder: Path, events: Events, tail: str = "") -> Path:
    path = folder / "ledger.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return path


def test_a_ledger_adds_up(tmp_path: Path, events: Events) -> None:
    found = history(written(tmp_path, events))

    assert {number: trial.state for number, trial in found.trials.items()} == {
        0: "finished", 1: "finished", 2: "stopped", 3: "failed", 4: "running",
    }  # fmt: skip
    assert found.trials[1].metrics == {"gflops": 0.4, "params_m": 2.0, "top1": 0.75, "loss": 0.25, "train_loss": 0.5}
    assert (found.trials[1].epoch, found.trials[1].seconds) == (2, 6.0)
    assert [trial.number for trial in found.in_state("finished", "stopped")] == [0, 1, 2]
    assert len(found.rejected) == 1
    # 25 events, 2 seconds apart; the pause before the resume, 2 seconds, is not active.
    assert found.active == pytest.approx(46.0)


def test_a_trial_that_failed_for_now_waits_with_what_it_has(tmp_path: Path, events: Events) -> None:
    found = history(written(tmp_path, events[:23]))
    assert (found.trials[4].state, found.trials[4].epoch, found.trials[4].end) == ("proposed", 1, None)


def test_an_epoch_that_is_reported_twice_counts_once(tmp_path: Path, events: Events) -> None:
    again = {"event": "report", "time": 1.8e9, "trial": 1, "epoch": 2, "metrics": {"top1": 0.0}, "seconds": 3.0}

    found = history(written(tmp_path, [*events, again]))

    assert (found.trials[1].metrics["top1"], found.trials[1].seconds) == (0.75, 6.0)


def test_a_resume_takes_back_the_end(events: Events) -> None:
    found = History()
    for event in [*events, {"event": "ended", "time": 1.8e9, "reason": "interrupted"}]:
        found.apply(event)
    assert found.ended is not None

    found.apply({"event": "resumed", "time": 1.9e9, "budget": {"trials": 9}})

    assert found.ended is None
    assert found.budget == {"trials": 9}


def test_a_torn_last_line_is_not_an_event_and_is_cut_off(tmp_path: Path, events: Events) -> None:
    path = written(tmp_path, events, tail='{"event": "report", "tri')
    assert list(read(path)) == events

    ledger = Ledger(path)
    ledger.append("resumed")
    ledger.close()

    assert [event["event"] for event in read(path)] == [event["event"] for event in events] + ["resumed"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, events: Events) -> None:
    for damaged in ("{torn", "{}", "7", '{"event": "ended"}'):
        path = written(tmp_path, events[:1], tail=damaged + "\n" + json.dumps(events[1]) + "\n")
        with pytest.raises(ValueError, match=r"ledger\.jsonl: line 2: is not an event"):
            list(read(path))


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "new" / "ledger.jsonl")

    with pytest.raises(ValueError, match="another process is running this search"):
        Ledger(tmp_path / "new" / "ledger.jsonl")

    first.close()
    Ledger(tmp_path / "new" / "ledger.jsonl").close()


def test_a_full_disk_is_told_by_the_name_of_the_file_and_leaves_whole_lines(tmp_path: Path, events: Events) -> None:
    ledger = Ledger(written(tmp_path, events))
    before = ledger.path.read_bytes()
    told = r"ledger\.jsonl: cannot be written: .*; make room and go on with --resume"
    with room_for(len(before) + 20), pytest.raises(OSError, match=told):  # half of the line has room
        ledger.append("ended", reason="budget")

    assert ledger.path.read_bytes() == before
    ledger.append("ended", reason="budget")
    ledger.close()
    assert [event["event"] for event in read(ledger.path)] == [event["event"] for event in events] + ["ended"]


def test_what_is_appended_is_there_for_a_reader_at_once(tmp_path: Path, events: Events) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")

    for event in events:
        fields = {key: value for key, value in event.items() if key not in ("event", "time")}
        ledger.append(event["event"], **fields)

    on_disk = list(read(ledger.path))
    assert history(ledger.path).trials == ledger.history.trials
    assert [event | {"time": 0} for event in on_disk] == [event | {"time": 0} for event in events]
    ledger.close()

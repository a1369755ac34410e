"""What another process says of a search: from its ledger, and from its last sign of life."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.ledger.file import NAME as LEDGER
from search.report.outside.beat import NAME, STALE, Beat, new_beat, read, remove, write
from search.report.outside.status import searches_under, status_of
from tests.search.report.ledgers import Trees


def written(output: Path, trees: Trees, beat: Beat | None = None) -> Path:
    """Write a ledger as if its last event happened now, and a sign of life."""
    output.mkdir(parents=True)
    shift = time.time() - trees[-1]["time"] if trees else 0
    lines = [json.dumps(tree | {"time": tree["time"] + shift}) + "\n" for tree in trees]
    (output / LEDGER).write_text("".join(lines))
    if beat is not None:
        write(output, beat)
    return output


def shown(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_running_search_shows_progress_and_what_it_waits_for(
    tmp_path: Path, events: Trees, capsys: pytest.CaptureFixture[str]
) -> None:
    since = time.time() - 45
    beat = new_beat("searches", "GPU", "4 GPUs wanted, 0 of 8 free; 3 other jobs", since, "http://10.0.0.1:1/metrics")
    output = written(tmp_path / "by-hand", events, beat)

    assert main(["status", str(output)]) == 0
    text = capsys.readouterr().out
    tree = shown(capsys, "status", output)

    assert "by-hand: running, 0:00:4" in text  # 25 events, 2 s apart, of which 2 s before the resume do not count
    assert "4 of 6 trials done (1 running, 2 finished, 1 stopped early, 1 failed)" in text
    assert "best       top1 75.0 % (trial 1)" in text
    assert "waits      4 GPUs wanted, 0 of 8 free; 3 other jobs (for 0:00:4" in text
    assert tree["state"] == "running"
    assert tree["trials"] == {"running": 1, "finished": 2, "stopped": 1, "failed": 1}
    assert tree["best"] == {"name": "top1", "value": 0.75, "trial": 1}
    assert tree["hypervolume"] == pytest.approx(0.55)  # see the fixture
    assert tree["waits_for"]["why"] == "GPU"
    assert 45 <= tree["waits_for"]["seconds"] < 60
    assert tree["process"]["pid"] == os.getpid()


def test_nothing_runs_in_a_search_whose_process_was_killed(tmp_path: Path, events: Trees) -> None:
    killed = new_beat("searches")._replace(pid=dead_pid())
    silent = new_beat("searches")._replace(host="another", time=time.time() - STALE - 1)

    for name, beat in (("killed", killed), ("silent", silent), ("none", None)):
        status = status_of(written(tmp_path / name, events, beat))
        assert status.state == "lost"
        assert not status.history.running()
        assert status.left is None


def test_a_process_on_another_machine_is_alive_while_it_gives_signs(tmp_path: Path, events: Trees) -> None:
    beat = new_beat("searches")._replace(host="another", pid=dead_pid(), time=time.time() - STALE / 2)

    assert status_of(written(tmp_path / "run", events, beat)).state == "running"


@pytest.mark.parametrize(("reason", "state"), [("budget", "ended"), ("interrupted", "interrupted")])
def test_the_end_in_the_ledger_is_the_state_once_no_process_lives(
    tmp_path: Path, events: Trees, reason: str, state: str
) -> None:
    end = {"event": "ended", "reason": reason, "time": events[-1]["time"]}

    assert status_of(written(tmp_path / "run", [*events, end])).state == state
    # A process that has just resumed it, and has written no event yet.
    assert status_of(written(tmp_path / "again", [*events, end], new_beat("prepares data"))).state == "running"


def test_a_search_that_prepares_its_data_is_starting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = written(tmp_path / "new", [], new_beat("prepares data"))

    assert main(["status", str(output)]) == 0
    assert f"process    {os.getpid()} on " in capsys.readouterr().out
    assert status_of(output).state == "starting"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"time": "now"}', '{"time": 1}', "null", "\x00" * 9])
def test_a_damaged_sign_of_life_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)

    assert read(tmp_path) is None


def test_no_sign_of_life_is_written_where_the_ledger_has_disappeared(tmp_path: Path) -> None:
    write(tmp_path, new_beat("searches"))
    write(tmp_path / "gone", new_beat("searches"))
    remove(tmp_path / "gone")

    assert list(tmp_path.iterdir()) == []


def test_the_list_has_all_searches_below_a_folder_damaged_ones_too(
    tmp_path: Path, events: Trees, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "b" / "deep", events, new_beat("searches", "CPU", "2 CPUs wanted"))
    written(tmp_path / "a", [*events, {"event": "ended", "reason": "budget", "time": events[-1]["time"]}])
    written(tmp_path / "c", events)
    (tmp_path / "c" / LEDGER).write_text("{}\n")
    written(tmp_path / "a" / "trials" / "0001", events)  # a copy inside a search is not a search

    rows = shown(capsys, "list", tmp_path)
    assert main(["list", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert [(row["name"], row["state"]) for row in rows] == [
        ("by-hand", "ended"), ("by-hand", "running"), ("c", "unreadable"),
    ]  # fmt: skip
    assert "line 1" in rows[2]["problem"]
    assert rows[1]["best"]["trial"] == 1
    assert len(lines) == 4
    # 25 events, 2 s apart
    assert re.search(r"running \(waits\)  4 of 6 trials  top1 75.0 % \(trial 1\)  (48|49|5\d) s  ", lines[2])
    assert list(searches_under(tmp_path)) == [tmp_path / "a", tmp_path / "b" / "deep", tmp_path / "c"]


def test_without_a_name_the_status_is_that_of_the_newest_search(
    tmp_path: Path, events: Trees, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 2
    assert "there is no search below runs; name the output folder of one" in capsys.readouterr().err
    for age, name in enumerate(["new", "old"]):
        ledger = written(Path("runs") / name, events) / LEDGER
        os.utime(ledger, (time.time() - 100 * age, time.time() - 100 * age))

    assert shown(capsys, "status")["output"] == "runs/new"


def test_a_watch_ends_when_no_process_runs_the_search(
    tmp_path: Path, events: Trees, capsys: pytest.CaptureFixture[str]
) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"])
    try:
        output = written(tmp_path / "run", events, new_beat("searches")._replace(pid=process.pid))
        process.wait()

        assert main(["status", str(output), "--watch"]) == 0
    finally:
        process.kill()
    assert "no process runs it" in capsys.readouterr().out

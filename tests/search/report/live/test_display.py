"""What a user reads while a search runs, in a terminal and in a log."""

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from search.report.display import Display
from search.report.summary import final
from search.report.time_left import seconds_left
from search.report.words import clock, first_line, program

from search.analysis.pareto import Objectives
from search.ledger.history import EXHAUSTED, History
from search.report import progress

Events = list[dict[str, Any]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def folded(events: Events) -> History:
    history = History()
    for event in events:
        history.apply(event)
    return history


def now(events: Events) -> Events:
    """Return the events as they would be if they happened just now."""
    return [event | {"time": time.time() + n / 1000} for n, event in enumerate(events)]


def test_a_log_has_a_line_for_each_end_of_a_trial_and_no_control_codes(events: Events) -> None:
    screen = io.StringIO()
    shown = Display(screen)

    for event in now(events):
        shown.apply(event)
    shown.close()

    lines = screen.getvalue().splitlines()
    assert lines[:5] == [
        "trial 0 finished: top1 50.0 %, gflops 0.2; no attention, T8 [1 of 6 trials]",
        "trial 2 stopped after epoch 1 of 2: top1 12.5 %, gflops 0.8; tam a2 K3 @res2-5 b, T8 [2 of 6 trials]",
        "trial 3 failed: out of memory",
        "trial 1 finished: top1 75.0 %, gflops 0.4; tam a2 K3 @res2-5 b, T8 [4 of 6 trials]",
        "trial 4 failed: a worker died; it is tried again",
    ]
    assert lines[5].startswith("resumed: by-hand: 0:00:0")
    assert "4 of 6 trials done (1 waiting, 2 finished, 1 stopped early, 1 failed)" in lines[5]
    assert len(lines) == 6
    assert "\x1b" not in screen.getvalue()


def test_after_a_confirmation_trials_of_a_raised_budget_count_as_trials(events: Events) -> None:
    proposed = next(event for event in events if event["event"] == "proposed")
    for trial in folded(events).unfinished():
        events.append({"event": "failed", "trial": trial.number, "error": "by hand", "final": True})
    for number, kind in ((5, {"confirms": 0}), (6, {})):
        events += [proposed | {"trial": number} | kind, {"event": "finished", "trial": number, "epoch": 2}]
    screen = io.StringIO()
    shown = Display(screen)

    for event in now(events):
        shown.apply(event)
    shown.close()

    assert [line.rpartition(" [")[2] for line in screen.getvalue().splitlines()[-2:]] == [
        "1 of 1 fresh seeds]", "6 of 6 trials]",
    ]  # fmt: skip


def test_a_replay_is_silent(events: Events) -> None:
    screen = io.StringIO()
    shown = Display(screen)

    for event in events:
        shown.apply(event)
    shown.close()

    assert screen.getvalue() == ""


def test_a_log_has_a_heartbeat_while_nothing_ends(events: Events) -> None:
    screen = io.StringIO()
    shown = Display(screen, heartbeat=0.05)

    for event in now(events[:5]):
        shown.apply(event)
    deadline = time.monotonic() + 10
    while not screen.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    shown.close()

    line = screen.getvalue().splitlines()[0]
    assert re.match(r"by-hand: 0:00:\d\d elapsed, about 0:00:\d\d left, 0 of 6 trials done \(1 running\); ", line)
    assert line.endswith("trial 0 epoch 2/2 top1 50.0 %, gflops 0.2")


def test_a_terminal_shows_the_front_and_what_runs(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Terminal()
    shown = Display(screen)

    for event in now(events):
        shown.apply(event)
    deadline = time.monotonic() + 10
    while "running" not in screen.getvalue() and time.monotonic() < deadline:
        time.sleep(0.05)
    shown.close()

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(r"front so far\s+trial\s+top1\s+gflops\s+params_m\s+model", text)
    assert re.search(r"1\s+75.0 %\s+0.4\s+2\s+tam a2 K3 @res2-5 b, T8", text)
    assert re.search(r"4\s+1/2\s+37.5 %\s+0.5\s+2\s+sta a2 K3", text)


def test_time_left_follows_the_pace_and_the_length_of_ended_trials(events: Events) -> None:
    # Ended are 4 trials with 2 + 2 + 1 + 0 = 5 epochs, 1.25 each. Of 6 trials one is still to be proposed, 1.25 epochs,
    # and the one running needs 0.25: 1.5 epochs of 3 s, one after the other, as one trial is running.
    assert seconds_left(folded(events), 60.0) == pytest.approx(4.5)


def test_a_trial_longer_than_most_still_needs_its_own_epochs(events: Events) -> None:
    # Until trial 1 ends, one trial of 2 epochs and one of 1 have ended, 1.5 each; 3 are to be proposed. Trial 1 has had
    # 1 epoch, so it needs half a one more: 5 in all, of 3 s. After another epoch, 2 of its 3, it would need that one.
    longer = [
        event | ({"config": {"train": {"epochs": 3}}} if event["event"] == "proposed" else {}) for event in events
    ]
    assert seconds_left(folded(longer[:14]), 60.0) == pytest.approx(3 * (3 * 1.5 + 0.5))
    second = events[17]
    assert second["trial"] == 1
    assert seconds_left(folded([*longer[:14], second]), 60.0) == pytest.approx(3 * (3 * 1.5 + 1))


def test_time_left_is_at_most_the_budget(events: Events) -> None:
    events[0]["spec"] = events[0]["spec"] | {"search": {"budget": {"trials": 6, "hours": 61 / 3600}}}
    assert seconds_left(folded(events), 60.0) == pytest.approx(1.0)


def test_time_left_is_unknown_before_the_first_epoch(events: Events) -> None:
    assert seconds_left(folded(events[:3]), 60.0) is None


def test_the_summary_names_front_failures_folder_and_next_commands(events: Events) -> None:
    text = final(folded(events), {"top1": "max", "gflops": "min"}, Path("runs/by-hand"))

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
        f"next      {program()} ui runs/by-hand",
        f"          {program()} export runs/by-hand --pick knee --out best.yaml",
        f"          {program()} train best.yaml",
    ]


def test_the_program_is_named_as_it_can_be_called_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "venv" / "bin" / "vattn"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == str(script)

    monkeypatch.chdir(tmp_path)
    assert program() == "venv/bin/vattn"

    script.unlink()
    assert program() == "python -m search"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "vattn"


def test_an_end_before_the_budget_is_spent_is_told(events: Events) -> None:
    goals: Objectives = {"top1": "max", "gflops": "min"}
    early, spent = (
        final(folded([*events, {"event": "ended", "time": 99.0, "reason": reason}]), goals, Path("out"))
        for reason in (EXHAUSTED, "budget")
    )

    assert early.splitlines()[1].startswith(
        "ended before its budget was spent: nothing new within the limits was found"
    )
    assert "ended before" not in spent


def test_the_summary_tells_which_earlier_searches_were_believed(events: Events) -> None:
    warm = [{"event": "warm_start", "time": 1.0, "source": name, "trials": []} for name in ("first", "again", "third")]
    verdicts = [("first", True, 0.8123, 7), ("again", True, 0.7, 8), ("again", False, 0.1, 12)]
    guards = [
        {"event": "guard", "time": 2.0, "source": name, "trusted": trusted, "correlation": found, "trials": trials}
        for name, trusted, found, trials in verdicts
    ]
    text = final(folded([events[0], *warm, *events[1:], *guards]), {"top1": "max", "gflops": "min"}, Path("out"))

    assert [line for line in text.splitlines() if line.startswith("earlier search")] == [
        "earlier search first was believed after 7 finished trials here (rank correlation at equal cost 0.81)",
        "earlier search again was no more believed after 12 finished trials here (rank correlation at equal cost 0.10)",
        "earlier search third was not believed: nothing showed in time that its ranks are those of the trials here",
    ]


def test_a_summary_without_a_front_offers_no_export(events: Events) -> None:
    text = final(folded(events[:5]), {"top1": "max", "gflops": "min"}, Path("runs/by-hand"))

    assert "no trial is finished yet: 1 running" in text
    assert "export" not in text


def test_progress_in_a_log_is_a_line_now_and_then_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    for done in range(1, 101):
        progress.progress("motion", done, 100)

    assert capsys.readouterr().err.splitlines() == ["motion: 1 of 100", "motion: 100 of 100"]


def test_clock_and_first_line() -> None:
    assert (clock(3725.4), clock(59.6)) == ("1:02:05", "0:01:00")
    assert first_line("Traceback (most recent call last):\n  File ...\nValueError: too big\n") == "ValueError: too big"
    assert first_line("out of memory\nmore") == "out of memory"

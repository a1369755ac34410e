"""What a user reads while a search runs, in a terminal and in a log."""

import io
import re
import time

import pytest

from search.report.live.display import Display
from tests.search.events import event, history_of
from tests.search.report.ledgers import Trees


class Terminal(io.StringIO):
    """A screen that is a terminal."""

    def isatty(self) -> bool:
        return True


def as_of_now(trees: Trees) -> Trees:
    """Return the events as if they happened just now."""
    return [tree | {"time": time.time() + n / 1000} for n, tree in enumerate(trees)]


def show(screen: io.StringIO, trees: Trees) -> None:
    display = Display(screen)
    for tree in trees:
        display.apply(event(tree))
    display.close()


def test_a_log_has_a_line_for_each_end_of_a_trial_and_no_control_codes(events: Trees) -> None:
    screen = io.StringIO()

    show(screen, as_of_now(events))

    lines = screen.getvalue().splitlines()
    assert lines[:5] == [
        "trial 0 finished: top1 50.0 %, gflops 0.2; no attention, T8 [1 of 6 trials]",
        "trial 2 stopped after epoch 1 of 2: top1 12.5 %, gflops 0.8; tam a2 K3 @res2-5 b, T8 [2 of 6 trials]",
        "trial 3 failed: out of memory",
        "trial 1 finished: top1 75.0 %, gflops 0.4; tam a2 K3 @res2-5 b, T8 [4 of 6 trials]",
        "trial 4 failed: a worker died; retrying",
    ]
    assert lines[5].startswith("resumed: by-hand: 0:00:0")
    assert "4 of 6 trials done (1 waiting, 2 finished, 1 stopped early, 1 failed)" in lines[5]
    assert len(lines) == 6
    assert "\x1b" not in screen.getvalue()


def test_a_log_has_a_line_for_each_earlier_search_and_each_decision_to_trust_it(events: Trees) -> None:
    screen = io.StringIO()
    offer = {"event": "warm_start", "source": "runs/a", "left_out": {"of another space": 2}, "differs": ["train.lr"]}
    guards = [{"event": "guard", "source": "runs/a", "trusted": trusted} for trusted in (True, False)]

    show(screen, as_of_now([events[0], offer, *guards]))

    assert screen.getvalue().splitlines() == [
        "earlier search runs/a: 0 of 2 finished trials can be used; 2 left out: of another space; settings that "
        "differ: train.lr",
        "earlier search runs/a: its ranking agrees with this search (rank correlation at equal cost 0.90, over 6 "
        "finished trials); its trials are used now",
        "earlier search runs/a: its ranking no longer agrees with this search (rank correlation at equal cost 0.90, "
        "over 6 finished trials); its trials are not used any more",
    ]


def test_after_a_confirmation_trials_of_a_raised_budget_count_as_trials(events: Trees) -> None:
    proposed = next(tree for tree in events if tree["event"] == "proposed")
    for trial in history_of(events).unfinished():
        events.append({"event": "failed", "trial": trial.number, "error": "by hand", "final": True})
    for number, kind in ((5, {"confirms": 0}), (6, {})):
        events += [proposed | {"trial": number} | kind, {"event": "finished", "trial": number, "epoch": 2}]
    screen = io.StringIO()

    show(screen, as_of_now(events))

    assert [line.rpartition(" [")[2] for line in screen.getvalue().splitlines()[-2:]] == [
        "1 of 1 fresh seeds]", "6 of 6 trials]",
    ]  # fmt: skip


def test_a_replay_is_silent(events: Trees) -> None:
    screen = io.StringIO()

    show(screen, events)

    assert screen.getvalue() == ""


def test_a_log_has_a_heartbeat_while_no_trial_ends(events: Trees) -> None:
    screen = io.StringIO()
    display = Display(screen, heartbeat=0.05)

    for tree in as_of_now(events[:5]):
        display.apply(event(tree))
    deadline = time.monotonic() + 60
    while not screen.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    display.close()

    line = screen.getvalue().splitlines()[0]
    assert re.match(r"by-hand: 0:00:\d\d elapsed, about 0:00:\d\d left, 0 of 6 trials done \(1 running\); ", line)
    assert line.endswith("trial 0 epoch 2/2 top1 50.0 %, gflops 0.2")


def test_a_terminal_shows_the_front_and_the_running_trials(events: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Terminal()
    display = Display(screen)

    for tree in as_of_now(events):
        display.apply(event(tree))
    deadline = time.monotonic() + 60
    while "running" not in screen.getvalue() and time.monotonic() < deadline:
        time.sleep(0.05)
    display.close()

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(r"front so far\s+trial\s+top1\s+gflops\s+params_m\s+model", text)
    assert re.search(r"1\s+75.0 %\s+0.4\s+2\s+tam a2 K3 @res2-5 b, T8", text)
    assert re.search(r"4\s+1/2\s+37.5 %\s+0.5\s+2\s+sta a2 K3", text)

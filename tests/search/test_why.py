"""What is told of a trial, on ledgers in which the right answer can be seen."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.why import answer, render

Events = list[dict[str, Any]]


def told(events: Events, number: int) -> str:
    """Return what a reader sees, with line breaks inside of a sentence undone."""
    return " ".join(render(answer(events, number)).split())


def without(events: Events, *numbers: int) -> Events:
    return [event for event in events if event.get("trial") not in numbers]


def test_a_winner_is_told_with_what_it_adds_and_what_its_neighbours_lack(events: Events) -> None:
    # From (0, 1): the front 0 (0.5 at 0.2), 1 (0.75 at 0.4) covers 0.4 + 0.25 * 0.6 = 0.55; without 1, 0.4.
    found = answer(events, 1)

    assert found["front"] == {
        "on": True, "size": 2, "share": pytest.approx(0.15 / 0.55), "picks": ["best", "knee"],
        "neighbours": {"cheaper": {"trial": 0, "state": "finished", "values": {"top1": 0.5, "gflops": 0.2}}},
    }  # fmt: skip
    text = told(events, 1)
    assert "trial 1 of by-hand: finished after 2 of 2 epochs, 0:00:06 of training, on the front, picked as" in text
    assert "one of its 2 points; 27.3% of the hypervolume is its alone" in text
    assert "the next cheaper one is trial 0: top1 50.0 % (-25.0 points), gflops 0.2 (-50%)" in text
    assert "earlier trial 0 has no attention, not tam a2 K3 @res2-5 b: top1 50.0 % (-25.0 points)" in text


def test_a_dominated_trial_is_told_what_beats_it_and_what_it_would_need(events: Events) -> None:
    # A trial 5 of 0.45 at 0.5 is behind 0 (0.5 at 0.2) and 1 (0.75 at 0.4).
    text = told([*events, *trial(5, 0.5, 0.1, 0.45)], 5)

    assert "finished after 2 of 2 epochs, 0:00:06 of training, not on the front tam" in text
    assert "not on it: trial 1 (top1 75.0 %, gflops 0.4), trial 0 (top1 50.0 %, gflops 0.2) are ahead" in text
    assert "it would need top1 above 75.0 % (+30.0 points), or gflops below 0.2 (-60%)" in text


def test_what_it_would_need_is_enough_and_no_less_is(events: Events) -> None:
    for top1, gflops, is_on in ((0.751, 0.5, True), (0.75, 0.5, False), (0.45, 0.199, True), (0.45, 0.2, False)):
        found = answer([*events, *trial(5, gflops, 0.1, top1)], 5)
        assert found["front"]["on"] is is_on, (top1, gflops)


def test_of_two_equal_trials_the_later_is_told_to_be_behind_the_first(events: Events) -> None:
    found = answer([*events, *trial(5, 0.4, 0.1, 0.75)], 5)["front"]

    assert ([one["trial"] for one in found["ahead"]], found["needs"]) == ([1], {"top1": 0.75, "gflops": 0.4})


def test_a_diverged_trial_is_told_so(events: Events) -> None:
    assert "not on it: a value of it is not a finite number" in told([*events, *trial(5, 0.5, 0.1, float("nan"))], 5)


def test_a_stopped_trial_is_told_who_was_ahead_at_that_moment(events: Events) -> None:
    # When trial 2 (0.125 at 0.8) was stopped after epoch 1, 0 (0.25 at 0.2) and 1 (0.5 at 0.4) had come so far; trial 4
    # (0.375 at 0.5) came later.
    found = answer(events, 2)

    assert [one["trial"] for one in found["end"]["ahead"]] == [1, 0]
    assert found["end"]["of"] == 3
    assert [one["trial"] for one in found["reports"][0]["ahead"]] == [1, 4, 0]
    text = told(events, 2)
    assert "trial 2 of by-hand: stopped early after 1 of 2 epochs" in text
    assert "end stopped: below the front" in text
    assert "it had top1 12.5 %; ahead of it were trial 1 (top1 50.0 %, gflops 0.4), trial 0 (top1 25.0 %" in text
    assert "1 12.5 % 3 of 3: 1, 4, 0, at a rung" in text


def test_a_failed_trial_is_told_the_last_line_of_its_error(events: Events) -> None:
    events = [
        event | {"error": 'Traceback (most recent call last):\n  File "x.py"\nMemoryError: no more'}
        if event["event"] == "failed" else event for event in events
    ]  # fmt: skip

    assert "end failed: MemoryError: no more" in told(events, 3)


def test_a_running_trial_is_told_how_often_it_was_taken_up_again(events: Events) -> None:
    text = told(events, 4)

    assert "trial 4 of by-hand: running after 1 of 2 epochs" in text
    assert "was taken up again once, after: a worker died" in text
    assert "front" not in text.replace("of its cost", "")


def test_a_trial_that_waits_says_so(events: Events) -> None:
    text = told(events[:9], 2)

    assert text.startswith("trial 2 of by-hand: waiting to be started tam")
    assert "epochs" not in text


def test_what_was_rejected_is_told_of_the_proposal_that_followed_and_of_its_twin(events: Events) -> None:
    twin = {"event": "rejected", "time": 1.8e9, "reason": "is trial 1 again", "duplicate_of": 1, "cost": {}}

    assert "rejected just before it: 1 x over the limit" in told(events, 2)
    assert "rejected" not in told(events, 1)
    assert "proposed again 2 times later, and rejected as the same trial" in told([*events, twin, twin], 1)


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ({"plain": True}, "as the plainest config of the space, a baseline"),
        ({}, "proposed by the sampler tpe; it knew of trials: 1 finished nearest"),
        ({"chance": True}, "by chance: what the sampler tpe proposed was known or over a limit too often"),
        ({"earlier": {"source": "runs/a", "trial": 7}}, "on the front of an earlier search: runs/a, trial 7"),
        (
            {"predicted_error": 0.241, "spread": math.log(1.25), "probability_of_front": 0.612, "pool": 1500},
            "by the sampler tpe: an error of 24.1% was expected, 1.25 times up or down, on the front with probability "
            "61%, the best of 1,500 candidates; it knew",
        ),
        ({"initial": True, "part": 3, "parts": 8, "by": "gflops"}, "over the range of gflops: part 3 of 8; it knew"),
        ({"neglected": "a/tsm"}, "only what has a/tsm was weighed, the option that had been tried least"),
        ({"seen_by": 3.25}, "by the sampler tpe: seen_by 3.25; it knew"),
    ],
)
def test_who_proposed_a_trial_for_what_reason_is_told(events: Events, why: dict[str, Any], words: str) -> None:
    events = [event | {"why": why} if event["event"] == "proposed" else event for event in events]

    assert words in told(events, 1)


def test_earlier_searches_that_were_believed_are_told(events: Events) -> None:
    guards = [
        {"event": "guard", "time": 1.7e9, "source": source, "trusted": trusted}
        for source, trusted in (("a", True), ("b", True), ("a", False))
    ]
    of_six = told([*events[:6], *guards, *events[6:]], 1)

    assert "it knew of trials: 1 finished, and of earlier searches: b" in of_six
    assert "earlier searches" not in told([*events[:6], *guards, *events[6:]], 0)


def test_a_long_training_is_told_in_few_lines(events: Events) -> None:
    long = [event | {"config": event["config"] | {"train": {"epochs": 100}}} if "config" in event else event
            for event in trial(5, 0.5, *(n / 200 for n in range(100)))]  # fmt: skip

    lines = render(answer([*events, *long], 5)).splitlines()

    # The first, the last, three evenly between, and the rungs: 1, 3, 9, 27, 81.
    rows = [int(line.split()[0]) for line in lines if re.match(r" +\d+ +[\d.]+ %", line)]
    assert rows == [1, 3, 9, 26, 27, 51, 75, 81, 100]
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 112


def trial(number: int, gflops: float, *top1s: float) -> Events:
    """Return the events of one more finished trial, with TAM."""
    config = {
        "data": {}, "train": {"epochs": 2, "lr": 0.05},
        "model": {
            "frames": 8,
            "attention": [{"kind": "tam", "alpha": 2, "kernel_size": 3, "stages": [2, 3], "position": "b", "every": 1}],
        },
    }  # fmt: skip
    made: Events = [
        {"event": "proposed", "params": {"model.frames": 1, "model.attention": 0}, "config": config,
         "identity": f"{number:016x}", "architecture": "b" * 16, "cost": {"gflops": gflops, "params_m": 2.0}},
        {"event": "started", "epoch": 0},
    ]  # fmt: skip
    for epoch, top1 in enumerate(top1s, start=1):
        made.append({"event": "report", "epoch": epoch, "metrics": {"top1": top1}, "seconds": 3.0})
    made.append({"event": "finished", "epoch": len(top1s), "seconds": 6.0})
    return [{"time": 1.8e9, "trial": number} | event for event in made]


def test_the_command_answers_in_words_and_for_machines(
    tmp_path: Path, events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    assert main(["why", str(tmp_path), "1"]) == 0
    assert capsys.readouterr().out.startswith("trial 1 of by-hand: finished")
    assert main(["why", str(tmp_path), "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["front"]["picks"] == ["best", "knee"]
    assert main(["why", str(tmp_path), "7"]) == 2
    assert capsys.readouterr().err == "trial 7: no such trial in by-hand; there are 0 to 4\n"
    assert main(["why", str(tmp_path / "gone"), "1"]) == 2
    assert "no search is kept there" in capsys.readouterr().err

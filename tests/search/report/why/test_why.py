"""What is told of a trial, on ledgers in which the right answer can be seen."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.report.why.facts import answer
from search.report.why.text import render

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
        "confirmed": False, "by": "search", "values": {"top1": 0.75, "gflops": 0.4},
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
        ({"predicted_error": 0.241, "spread": 0.004}, "of 24.1% was expected, 1.004 times up or down; it knew"),
        (
            {"initial": True, "part": 3, "parts": 8, "by": "params_m"},
            "one of the first, which are spread over small and large models, by params_m: part 3 of 8; it knew",
        ),
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


@pytest.fixture
def confirmed(events: Events) -> Events:
    """Of 0 and 1, the search's front, and of its near miss 5 fresh seeds come to 0.4, 0.4 and 0.6; 6 has none."""
    return [
        *without(events, 4), *trial(4, 0.9, 0.1, 0.2), *trial(5, 0.5, 0.1, 0.45), *trial(6, 0.6, 0.1, 0.3),
        *again(7, 0, 0.2, 0.42, 0.38), *again(9, 1, 0.4, 0.41, 0.39), *again(11, 5, 0.5, 0.61, 0.59),
    ]  # fmt: skip


def test_a_trial_on_a_confirmed_front_is_told_by_its_fresh_seeds(confirmed: Events) -> None:
    # From (0, 1): the front 0 (0.4 at 0.2), 5 (0.6 at 0.5) covers 0.32 + 0.2 * 0.5 = 0.42; without 5, 0.32.
    found, text = answer(confirmed, 5), told(confirmed, 5)

    assert found["front"]["share"] == pytest.approx(0.1 / 0.42)
    assert found["again"]["fresh"]["mean"]["top1"] == pytest.approx(0.6)
    assert "of training, on the confirmed front, picked as best and knee tam" in text
    assert "in the search: top1 45.0 %, gflops 0.5" in text
    # Squared residuals are 2 (0.02^2 + 2 * 0.01^2) = 0.0012 with 3 degrees of freedom: 3.182 sqrt(0.0004 / 2) = 0.045.
    again = (
        r"it was trained again, as trials 11, 12; with 2 fresh seeds it has top1 60\.0 ± 4\.[3-7] % on average, 45\.0 %"
    )
    assert re.search(rf"again {again} in the search ± is a 95% interval; by that spread of seeds, it belongs to", text)
    assert "on the test split, by which nothing was chosen: top1 50.0 % on average" in text
    assert "one of its 2 points; 23.8% of the hypervolume is its alone" in text
    assert "the next cheaper one is trial 0: top1 40.0 % (-20.0 points), gflops 0.2 (-60%)" in text
    # The cheapest of all is on the front whatever the others are worth.
    assert "it belongs to the front with probability 100%" in told(confirmed, 0)


def test_a_trial_that_fresh_seeds_put_behind_is_compared_with_their_front(confirmed: Events) -> None:
    text = told(confirmed, 1)

    assert "not on the confirmed front" in text
    assert "not on it: by fresh seeds trial 0 (top1 40.0 %, gflops 0.2) is ahead" in text
    assert "it would need top1 above its own 40.0 %, or gflops below 0.2 (-50%)" in text


def test_a_trial_without_fresh_seeds_is_told_so_and_compared_as_the_search_did(confirmed: Events) -> None:
    text = told(confirmed, 6)

    assert "not on the confirmed front tam" in text
    assert "it was not trained again with fresh seeds: all its numbers are of one training, in the search" in text
    assert "nor on the front of the search, where trial 1 (top1 75.0 %, gflops 0.4), trial 0 (top1 50.0 %" in text
    assert "to be on that, it would need top1 above 75.0 % (+45.0 points), or gflops below 0.2 (-67%)" in text


def test_a_trial_whose_fresh_seeds_failed_is_told_so(confirmed: Events) -> None:
    failed: Events = [
        event | {"event": "failed", "error": "no memory", "final": True} if event["event"] == "finished" else event
        for event in confirmed if event.get("trial") in (9, 10)
    ]  # fmt: skip
    text = told([*without(confirmed, 9, 10), *failed], 1)

    assert (
        "again it was trained again, as trials 9, 10, of which 2 failed: 0 of 2 fresh seeds are finished front" in text
    )
    assert "not on it: none of its fresh seeds was finished" in text


def test_until_the_whole_front_was_trained_again_it_is_told_as_the_searchs(confirmed: Events) -> None:
    under_way = [event for event in confirmed if (event["event"], event.get("trial")) != ("finished", 10)]
    text = told(under_way, 1)

    assert "of training, on the front, picked as" in text
    assert "as trials 9, 10: 1 of 2 fresh seeds are finished; until all of the front was trained again, it is" in text
    assert "the next cheaper one is trial 0: top1 50.0 % (-25.0 points)" in text


def test_a_near_miss_waits_for_its_fresh_seeds_behind_a_confirmed_front(confirmed: Events) -> None:
    text = told(confirmed[:-1], 5)

    assert "not on the confirmed front" in text
    assert "again it was trained again, as trials 11, 12: 1 of 2 fresh seeds are finished front not on it, nor" in text


def test_a_retraining_is_told_with_what_it_came_to_and_what_it_is_for(confirmed: Events) -> None:
    text = told(confirmed, 12)

    assert text.startswith(
        "trial 12 of by-hand: finished after 1 of 2 epochs, 0:00:03 of training trial 5 again, seed 2:"
    )
    assert "@res2,3 b, T8 top1 59.0 %, gflops 0.5, params_m 2; on the test split: top1 49.0 %" in text
    assert "proposed to confirm trial 5: the same training with a seed that none of the search had epochs" in text
    assert "again trial 5 was trained again, as trials 11, 12; with 2 fresh seeds it has top1 60.0 ±" in text
    assert "front not" not in text
    assert "nearest" not in text
    with pytest.raises(ValueError, match="trial 13: no such trial in by-hand; there are 0 to 12"):
        answer(confirmed, 13)


def test_a_base_is_told_with_what_tells_it_from_others_and_its_heirs_with_its_weights(events: Events) -> None:
    def wide(made: Events, params: dict[str, Any]) -> Events:
        proposal = made[0]
        model = proposal["config"]["model"] | {"backbone": {"width": 0.25}}
        return [proposal | {"params": params, "config": proposal["config"] | {"model": model}}, *made[1:]]

    base, heir = wide(trial(5, 0.5, 0.1, 0.45), {}), wide(trial(6, 0.6, 0.2, 0.5), {"model.backbone.width": 1})
    base[0] |= {"base": True, "config": base[0]["config"] | {"model": base[0]["config"]["model"] | {"attention": []}}}
    heir[1:1] = [{"event": "inherits", "time": 1.8e9, "trial": 6, "source": 5, "reason": "the same without"}]
    found = [*events, *base, *heir]

    text = told(found, 5)
    assert (
        "finished after 2 of 2 epochs, 0:00:06 of training base of others: no attention, T8, width 0.25 top1 45" in text
    )
    assert "proposed as a base: what other trials are without their mechanisms" in text
    assert "weights trial 6 began with its weights epochs" in text
    words = "it began with those of trial 5 (base of others: no attention, T8, width 0.25): the same without nearest"
    assert words in told(found, 6)


def test_a_trial_that_found_no_weights_is_told_why(events: Events) -> None:
    none = {
        "event": "inherits",
        "time": 1.7e9,
        "trial": 1,
        "source": None,
        "reason": "no finished trial has this backbone",
    }

    assert "weights it began without those of another: no finished trial has" in told(
        [*events[:7], none, *events[7:]], 1
    )
    assert "weights" not in told(events, 1)


def by(events: Events, objectives: dict[str, str]) -> Events:
    """Return the same search with other objectives."""
    return [events[0] | {"spec": events[0]["spec"] | {"objectives": objectives}}, *events[1:]]


def test_a_loss_is_no_rate(events: Events) -> None:
    # Losses are 0.5 at 0.2 and 0.25 at 0.4: the better one is the dearer one.
    why = {"predicted_error": 2.748, "spread": 0.004}
    events = [event | {"why": why} if event["event"] == "proposed" else event for event in events]
    text = told(by(events, {"loss": "min", "gflops": "min"}), 1)

    assert "a loss of 2.748 was expected" in text
    assert "the next cheaper one is trial 0: loss 0.5 (+100%), gflops 0.2 (-50%)" in text


def test_without_a_cost_among_the_objectives_nothing_is_told_of_one(events: Events) -> None:
    text = told(by(events, {"top1": "max"}), 1)

    assert "epochs top1 ahead, of all others that came as far" in text
    assert "front its only point" in text
    assert "cost" not in text


def test_what_is_equal_or_nearly_so_is_not_told_as_a_change_of_zero(events: Events) -> None:
    equal = told([*events, *trial(5, 0.4, 0.1, 0.45)], 5)
    nearly = told([*events, *trial(5, 0.40001, 0.1, 0.7498)], 5)

    assert "top1 75.0 % (+30.0 points), gflops 0.4 (equal)" in equal
    assert "it would need top1 above 75.0 % (+0.02 points), or gflops below 0.4 (-0.002%)" in nearly


def again(number: int, of: int, gflops: float, *top1s: float) -> Events:
    """Return trainings of a trial with fresh seeds, numbered from ``number`` on; on the test split 0.1 below."""
    made: Events = []
    for seed, top1 in enumerate(top1s, start=1):
        events = trial(number + seed - 1, gflops, top1)
        config = events[0]["config"]
        events[0] |= {"confirms": of, "config": config | {"train": config["train"] | {"seed": seed}}}
        events[2]["metrics"]["test_top1"] = top1 - 0.1
        made += events
    return made


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

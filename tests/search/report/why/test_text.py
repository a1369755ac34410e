"""What a reader learns about a trial, on ledgers in which the right answer can be seen."""

import re
from pathlib import Path
from typing import Any

import pytest

from search.ledger.file import read
from search.report.why.facts import why
from search.report.why.parts import OnFront
from search.report.why.text import render
from tests.search.events import event
from tests.search.report.ledgers import Trees, trial, without

RECORDED = Path(__file__).parent / "recorded" / "ledger.jsonl"


def text_of(trees: Trees, number: int) -> str:
    """Return what a reader sees, without line breaks and columns."""
    return " ".join(render(why(map(event, trees), number)).split())


def test_a_stopped_trial_shows_what_dominated_it_at_that_moment(events: Trees) -> None:
    # When trial 2 (0.125 at 0.8) was stopped after epoch 1, 0 (0.25 at 0.2) and 1 (0.5 at 0.4) had reached that epoch;
    # trial 4 (0.375 at 0.5) reached it later.
    answer = why(map(event, events), 2)

    assert answer.end.stop is not None
    assert [ahead.trial for ahead in answer.end.stop.standing.dominated_by] == [1, 0]
    assert answer.end.stop.standing.num_compared == 3
    assert answer.reports[0].standing is not None
    assert [ahead.trial for ahead in answer.reports[0].standing.dominated_by] == [1, 4, 0]
    text = text_of(events, 2)
    assert "trial 2 of by-hand: stopped early after 1 of 2 epochs" in text
    assert "end stopped: below the front" in text
    assert "moment: top1 12.5 %; dominated by trial 1 (top1 50.0 %, gflops 0.4), trial 0 (top1 25.0 %" in text
    assert "1 12.5 % 3 of 3: 1, 4, 0 (rung)" in text


def test_a_failed_trial_shows_the_last_line_of_its_error(events: Trees) -> None:
    trees = [
        tree | {"error": 'Traceback (most recent call last):\n  File "x.py"\nMemoryError: no more'}
        if tree["event"] == "failed" else tree for tree in events
    ]  # fmt: skip

    assert "end failed: MemoryError: no more" in text_of(trees, 3)


def test_a_running_trial_shows_how_often_it_was_restarted(events: Trees) -> None:
    text = text_of(events, 4)

    assert "trial 4 of by-hand: running after 1 of 2 epochs" in text
    assert "restarted once, after: a worker died" in text
    assert "front" not in text


def test_a_trial_that_has_not_started_is_waiting(events: Trees) -> None:
    text = text_of(events[:9], 2)

    assert text.startswith("trial 2 of by-hand: waiting tam")
    assert "epochs" not in text


def test_a_long_training_is_shown_in_few_lines(events: Trees) -> None:
    long = [tree | {"config": tree["config"] | {"train": {"epochs": 100}}} if "config" in tree else tree
            for tree in trial(5, 0.5, *(n / 200 for n in range(100)))]  # fmt: skip

    lines = render(why(map(event, [*events, *long]), 5)).splitlines()

    # The first, the last, three evenly between, and the rungs: 1, 3, 9, 27, 81.
    rows = [int(line.split()[0]) for line in lines if re.match(r" +\d+ +[\d.]+ %", line)]
    assert rows == [1, 3, 9, 26, 27, 51, 75, 81, 100]
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 112


def test_no_line_ends_before_a_percent_sign() -> None:
    events = list(read(RECORDED))

    lines = [line for number in range(19) for line in render(why(events, number)).splitlines()]

    assert any(" %" in line for line in lines)
    assert not any(line.lstrip().startswith("%") or "\N{NO-BREAK SPACE}" in line for line in lines)


def test_a_trial_on_a_confirmed_front_is_compared_by_its_fresh_seeds(confirmed: Trees) -> None:
    # From (0, 1): the front 0 (0.4 at 0.2), 5 (0.6 at 0.5) covers 0.32 + 0.2 * 0.5 = 0.42; without 5, 0.32.
    answer, text = why(map(event, confirmed), 5), text_of(confirmed, 5)

    assert isinstance(answer.front, OnFront)
    assert answer.front.share == pytest.approx(0.1 / 0.42)
    assert answer.retrainings is not None
    assert answer.retrainings.result is not None
    assert answer.retrainings.result.trial.metrics["top1"] == pytest.approx(0.6)
    assert "of training, on the confirmed front, picked as best and knee tam" in text
    assert "in the search: top1 45.0 %, gflops 0.5" in text
    # Squared residuals are 2 (0.02^2 + 2 * 0.01^2) = 0.0012 with 3 degrees of freedom: 3.182 sqrt(0.0004 / 2) = 0.045.
    means = (
        r"trained again with 2 fresh seeds \(trials 11, 12\): mean top1 60\.0 ± 4\.[3-7] % \(45\.0 % in the search\)"
    )
    assert re.search(rf"retrained {means} ± is half of the 95 % interval; probability to be on the front, from", text)
    assert "on the test split, which was not used for any choice: mean top1 50.0 %" in text
    assert "one of 2 trials on the front; 23.8 % of the hypervolume is covered by this trial alone" in text
    assert "next at lower cost: trial 0, top1 40.0 % (-20.0 points), gflops 0.2 (-60 %)" in text
    # No mean of the others can dominate the trial of the lowest cost.
    assert "probability to be on the front, from the same spread of seeds: 100 %" in text_of(confirmed, 0)


def test_a_trial_that_fresh_seeds_put_behind_is_compared_with_their_front(confirmed: Trees) -> None:
    text = text_of(confirmed, 1)

    assert "not on the confirmed front" in text
    assert "not on it: by fresh seeds, trial 0 (top1 40.0 %, gflops 0.2) is at least as good in every objective" in text
    assert "it would need top1 above its own 40.0 %, or gflops below 0.2 (-50 %)" in text


def test_a_trial_without_fresh_seeds_is_compared_by_the_metrics_of_the_search(confirmed: Trees) -> None:
    text = text_of(confirmed, 6)

    assert "not on the confirmed front tam" in text
    assert "not trained again with fresh seeds: all its numbers are of one training, that of the search" in text
    assert (
        "nor on the front by the metrics of the search: trial 1 (top1 75.0 %, gflops 0.4), trial 0 (top1 50.0 %" in text
    )
    assert "of the search, it would need top1 above 75.0 % (+45.0 points), or gflops below 0.2 (-67 %)" in text


def test_a_trial_whose_fresh_seeds_failed_is_not_on_the_confirmed_front(confirmed: Trees) -> None:
    failed: Trees = [
        tree | {"event": "failed", "error": "no memory", "final": True} if tree["event"] == "finished" else tree
        for tree in confirmed if tree.get("trial") in (9, 10)
    ]  # fmt: skip
    text = text_of([*without(confirmed, 9, 10), *failed], 1)

    assert "retrained trained again with 2 fresh seeds (trials 9, 10), of which 2 failed: 0 of 2 finished front" in text
    assert "not on it: none of its trainings with fresh seeds finished" in text


def test_until_the_whole_front_is_trained_again_it_is_that_of_the_search(confirmed: Trees) -> None:
    under_way = [tree for tree in confirmed if (tree["event"], tree.get("trial")) != ("finished", 10)]
    text = text_of(under_way, 1)

    assert "of training, on the front, picked as" in text
    assert "(trials 9, 10): 1 of 2 finished; the front is that of the search until all of it has been trained" in text
    assert "next at lower cost: trial 0, top1 50.0 % (-25.0 points)" in text


def test_a_near_miss_waits_for_its_fresh_seeds_behind_a_confirmed_front(confirmed: Trees) -> None:
    text = text_of(confirmed[:-1], 5)

    assert "not on the confirmed front" in text
    assert "retrained trained again with 2 fresh seeds (trials 11, 12): 1 of 2 finished front not on it, nor" in text


def test_a_retraining_shows_its_own_result_and_that_of_all_fresh_seeds(confirmed: Trees) -> None:
    text = text_of(confirmed, 12)

    assert text.startswith(
        "trial 12 of by-hand: finished after 1 of 2 epochs, 0:00:03 of training trial 5 again, seed 2:"
    )
    assert "@res2,3 b, T8 top1 59.0 %, gflops 0.5, params_m 2; on the test split: top1 49.0 %" in text
    assert (
        "proposed to confirm trial 5: the same training with a fresh seed, which no trial of the search has epochs"
    ) in text
    assert "retrained trial 5 was trained again with 2 fresh seeds (trials 11, 12): mean top1 60.0 ±" in text
    assert "front not" not in text
    assert "similar" not in text
    with pytest.raises(ValueError, match="trial 13: no such trial in by-hand; there are 0 to 12"):
        why(map(event, confirmed), 13)


def test_a_base_shows_what_distinguishes_it_and_its_heirs_show_whose_weights_they_have(events: Trees) -> None:
    def wide(trees: Trees, params: dict[str, Any]) -> Trees:
        proposal = trees[0]
        model = proposal["config"]["model"] | {"backbone": {"width": 0.25}}
        return [proposal | {"params": params, "config": proposal["config"] | {"model": model}}, *trees[1:]]

    base, heir = wide(trial(5, 0.5, 0.1, 0.45), {}), wide(trial(6, 0.6, 0.2, 0.5), {"model.backbone.width": 1})
    base[0] |= {"base": True, "config": base[0]["config"] | {"model": base[0]["config"]["model"] | {"attention": []}}}
    heir[1:1] = [{"event": "inherits", "time": 1.8e9, "trial": 6, "source": 5, "reason": "the same without"}]
    trees = [*events, *base, *heir]

    text = text_of(trees, 5)
    assert (
        "finished after 2 of 2 epochs, 0:00:06 of training base of others: no attention, T8, width 0.25 top1 45" in text
    )
    assert "proposed as a base: the model of other trials without mechanisms, trained first" in text
    assert "weights trial 6 started with its weights epochs" in text
    words = "with the weights of trial 5 (base of others: no attention, T8, width 0.25): the same without similar"
    assert words in text_of(trees, 6)


def test_a_trial_that_found_no_weights_shows_the_reason(events: Trees) -> None:
    reason = "no finished trial has this backbone"
    none = {"event": "inherits", "time": 1.7e9, "trial": 1, "source": None, "reason": reason}

    text = text_of([*events[:7], none, *events[7:]], 1)

    assert "weights started from scratch: no finished trial has" in text
    assert "weights" not in text_of(events, 1)

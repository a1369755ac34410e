"""What a trial adds to the front, and what keeps it off, on ledgers in which the right answer can be seen."""

from dataclasses import replace

import pytest

from search.report.why.facts import why
from search.report.why.parts import OffFront, OnFront, TrialValues
from search.report.why.text import render
from tests.search.events import event
from tests.search.report.ledgers import Trees, trial, with_objectives


def place(trees: Trees, number: int) -> OnFront | OffFront:
    front = why(map(event, trees), number).front
    assert front is not None
    return front


def text_of(trees: Trees, number: int) -> str:
    """Return what a reader sees, without line breaks and columns."""
    return " ".join(render(why(map(event, trees), number)).split())


def test_a_trial_on_the_front_shows_its_share_and_its_neighbours(events: Trees) -> None:
    # From (0, 1): the front 0 (0.5 at 0.2), 1 (0.75 at 0.4) covers 0.4 + 0.25 * 0.6 = 0.55; without 1, 0.4.
    front = place(events, 1)
    assert isinstance(front, OnFront)
    assert front.share == pytest.approx(0.15 / 0.55)
    assert replace(front, share=0.0) == OnFront(
        is_confirmed=False, compared_by="search", values={"top1": 0.75, "gflops": 0.4},
        size=2, share=0.0, picks=["best", "knee"],
        lower_cost=TrialValues(0, "finished", {"top1": 0.5, "gflops": 0.2}), higher_cost=None,
    )  # fmt: skip
    text = text_of(events, 1)
    assert "trial 1 of by-hand: finished after 2 of 2 epochs, 0:00:06 of training, on the front, picked as" in text
    assert "one of 2 trials on the front; 27.3 % of the hypervolume is covered by this trial alone" in text
    assert "next at lower cost: trial 0, top1 50.0 % (-25.0 points), gflops 0.2 (-50 %)" in text
    assert "earlier trial 0 has no attention instead of tam a2 K3 @res2-5 b: top1 50.0 % (-25.0 points)" in text


def test_a_dominated_trial_shows_what_dominates_it_and_what_it_would_need(events: Trees) -> None:
    # A trial 5 of 0.45 at 0.5 is behind 0 (0.5 at 0.2) and 1 (0.75 at 0.4).
    text = text_of([*events, *trial(5, 0.5, 0.1, 0.45)], 5)

    assert "finished after 2 of 2 epochs, 0:00:06 of training, not on the front tam" in text
    assert (
        "not on it: trial 1 (top1 75.0 %, gflops 0.4), trial 0 (top1 50.0 %, gflops 0.2) are at least as good in "
        "every objective"
    ) in text
    assert "it would need top1 above 75.0 % (+30.0 points), or gflops below 0.2 (-60 %)" in text


def test_a_trial_is_on_the_front_exactly_beyond_what_it_would_need(events: Trees) -> None:
    for top1, gflops, is_on in ((0.751, 0.5, True), (0.75, 0.5, False), (0.45, 0.199, True), (0.45, 0.2, False)):
        front = place([*events, *trial(5, gflops, 0.1, top1)], 5)
        assert isinstance(front, OnFront) is is_on, (top1, gflops)


def test_of_two_equal_trials_the_first_keeps_the_second_off_the_front(events: Trees) -> None:
    front = place([*events, *trial(5, 0.4, 0.1, 0.75)], 5)

    assert isinstance(front, OffFront)
    assert ([ahead.trial for ahead in front.ahead], front.needs) == ([1], {"top1": 0.75, "gflops": 0.4})


def test_a_diverged_trial_is_off_the_front_for_its_value(events: Trees) -> None:
    text = text_of([*events, *trial(5, 0.5, 0.1, float("nan"))], 5)

    assert "not on it: an objective is not a finite number" in text


def test_a_better_loss_at_higher_cost_is_compared_in_percent(events: Trees) -> None:
    # Losses are 0.5 at 0.2 and 0.25 at 0.4.
    text = text_of(with_objectives(events, {"loss": "min", "gflops": "min"}), 1)

    assert "next at lower cost: trial 0, loss 0.5 (+100 %), gflops 0.2 (-50 %)" in text


def test_without_a_cost_among_the_objectives_the_text_mentions_none(events: Trees) -> None:
    text = text_of(with_objectives(events, {"top1": "max"}), 1)

    assert "epochs top1 dominated by (of the other trials that reached this epoch)" in text
    assert "front the only trial on the front" in text
    assert "cost" not in text


def test_equal_and_nearly_equal_values_are_not_shown_as_a_change_of_zero(events: Trees) -> None:
    equal = text_of([*events, *trial(5, 0.4, 0.1, 0.45)], 5)
    nearly = text_of([*events, *trial(5, 0.40001, 0.1, 0.7498)], 5)

    assert "top1 75.0 % (+30.0 points), gflops 0.4 (equal)" in equal
    assert "it would need top1 above 75.0 % (+0.02 points), or gflops below 0.4 (-0.002 %)" in nearly

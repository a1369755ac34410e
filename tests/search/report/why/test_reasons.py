"""Why a trial was proposed, in words."""

import math
from typing import Any

import pytest

from search.report.why.facts import why
from search.report.why.text import render
from tests.search.events import event
from tests.search.report.ledgers import Trees, with_objectives, with_reason


def text_of(trees: Trees, number: int) -> str:
    """Return what a reader sees, without line breaks and columns."""
    return " ".join(render(why(map(event, trees), number)).split())


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ({"plain": True}, "proposed as the plainest config of the space, a baseline; trials known"),
        ({}, "proposed by the tpe sampler; trials known by then: 1 finished similar"),
        ({"chance": True}, "sampled at random: too many proposals by tpe were duplicates or over a limit; trials"),
        ({"earlier": {"source": "runs/a", "trial": 7}}, "from the front of an earlier search: runs/a, trial 7"),
        (
            {"predicted_error": 0.241, "spread": math.log(1.25), "probability_of_front": 0.612, "pool": 1500},
            # 0.251 / 1.25 ** 1.96 - 0.01 and 0.251 * 1.25 ** 1.96 - 0.01.
            "by the tpe sampler: predicted error 24 % (15 to 38 %), "
            "probability to be on the front 61 %, the best of 1,500 candidates; trials known",
        ),
        ({"expected_gain": 0.0123, "learnt_from": 9}, "hypervolume improvement 0.0123, model fitted to 9 trials;"),
        (
            {"initial": True, "part": 3, "parts": 8, "by": "gflops"},
            ": initial design, part 3 of 8 of the gflops range;",
        ),
        ({"predicted_error": 0.241, "spread": 0.004}, "predicted error 24.1 % (23.9 to 24.3 %); trials"),
        ({"initial": True, "part": 3, "parts": 8, "by": "params_m"}, "part 3 of 8 of the params_m range; trials"),
        ({"neglected": "a/tsm"}, "chosen among candidates with a/tsm, the option that had been tried least; trials"),
        ({"seen_by": 3.25}, "by the tpe sampler: seen_by 3.25; trials known"),
    ],
)
def test_the_reason_of_a_proposal_is_put_into_words(events: Trees, reason: dict[str, Any], words: str) -> None:
    assert words in text_of(with_reason(events, reason), 1)


def test_the_error_of_a_loss_is_the_loss(events: Trees) -> None:
    events = with_reason(events, {"predicted_error": 2.748, "spread": 0.004})

    text = text_of(with_objectives(events, {"loss": "min", "gflops": "min"}), 1)

    assert "predicted loss 2.75 (2.73 to 2.77)" in text


def test_rejected_proposals_are_listed_at_the_next_trial_and_duplicates_at_their_first(events: Trees) -> None:
    duplicate = {"event": "rejected", "time": 1.8e9, "reason": "is trial 1 again", "duplicate_of": 1, "cost": {}}

    assert "rejected just before it: 1 x over the limit" in text_of(events, 2)
    assert "rejected" not in text_of(events, 1)
    text = text_of([*events, duplicate, duplicate], 1)
    assert "proposed again 2 times later, and rejected as a duplicate" in text


def test_trusted_earlier_searches_are_listed(events: Trees) -> None:
    guards = [
        {"event": "guard", "time": 1.7e9, "source": source, "trusted": trusted}
        for source, trusted in (("a", True), ("b", True), ("a", False))
    ]
    trees = [*events[:6], *guards, *events[6:]]

    assert "trials known by then: 1 finished; trusted earlier searches: b similar" in text_of(trees, 1)
    assert "earlier searches" not in text_of(trees, 0)

"""Early stopping, on histories in which the right decision can be seen."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from search.ledger.history import History
from search.schedulers.frontier import Frontier
from search.schedulers.halving import Halving

HALVING = Halving(min_epochs=2, reduction=3, objectives={"top1": "max", "gflops": "min"})


def search(*trials: tuple[float, Sequence[float]]) -> History:
    """A history of trials of two epochs, given by their GFLOPs and their top-1 after each so far."""
    events = []
    for number, (gflops, top1s) in enumerate(trials):
        about = {"params": {}, "config": {"train": {"epochs": 2}}, "identity": str(number), "architecture": ""}
        events.append({"event": "proposed", "trial": number, "cost": {"gflops": gflops}, **about})
        for epoch, top1 in enumerate(top1s, start=1):
            metrics = {"top1": top1}
            events.append({"event": "report", "trial": number, "epoch": epoch, "metrics": metrics, "seconds": 1.0})
    found = History()
    for event in events:
        found.apply({"time": 0.0} | event)
    return found


def test_the_worst_at_its_cost_stops_at_a_rung() -> None:
    # The front is trial 0 alone: it is both better and cheaper. Of three, one goes on.
    found = search((1.0, [0.1, 0.5]), (2.0, [0.3, 0.4]), (3.0, [0.2, 0.2]))

    assert HALVING.verdict(found, 0) is None
    assert HALVING.verdict(found, 1) == "rung of epoch 2: behind 1 of 3 trials, of which the best 1 go on"
    assert HALVING.verdict(found, 2) is not None


def test_what_nobody_beats_at_its_own_cost_goes_on_however_weak_it_is() -> None:
    # Each dearer trial is better: all are on the front, though only a third would have to be kept.
    found = search((1.0, [0.1, 0.1]), (2.0, [0.2, 0.2]), (3.0, [0.9, 0.9]))

    assert [HALVING.verdict(found, number) for number in range(3)] == [None] * 3


def test_layers_are_kept_until_they_hold_enough() -> None:
    # Six trials at one cost, so each is a layer of its own; ceil(6 / 3) = 2 go on.
    found = search(*((1.0, [0.0, top1]) for top1 in (0.1, 0.6, 0.3, 0.2, 0.5, 0.4)))

    assert [HALVING.verdict(found, number) is None for number in range(6)] == [False, True, False, False, True, False]


def test_between_rungs_nobody_stops() -> None:
    # Rungs are epochs 2, 6, 18; what was reported later does not count at an earlier one.
    for epochs, is_rung in ((1, False), (2, True), (3, False), (6, True), (12, False), (18, True)):
        found = search((1.0, [0.9] * 20), (1.0, [0.8] * 20), (1.0, [0.1] * epochs))
        assert (HALVING.verdict(found, 2) is not None) == is_rung, epochs


def test_a_rung_compares_with_what_others_had_there() -> None:
    # Trials 0 and 1 are far ahead now, but were behind after two epochs.
    found = search((1.0, [0.1, 0.1, 0.9]), (1.0, [0.1, 0.2, 0.9]), (1.0, [0.3, 0.3]))

    assert HALVING.verdict(found, 2) is None


def test_what_diverged_stops_even_where_all_did() -> None:
    # None of three is on any front, so the best third cannot be filled.
    found = search((1.0, [0.1, math.nan]), (2.0, [0.2, math.nan]), (3.0, [0.3, math.inf]))

    reasons = [HALVING.verdict(found, number) for number in range(3)]

    assert reasons == ["rung of epoch 2: behind 0 of 3 trials, of which the best 1 go on"] * 3


def test_too_few_trials_tell_nothing() -> None:
    # A third of two is less than one.
    assert HALVING.verdict(search((1.0, [0.9, 0.9]), (1.0, [0.0, 0.0])), 1) is None


FRONTIER = Frontier(min_epochs=1, probability=0.1, objectives={"top1": "max", "gflops": "min"}, measured="top1")
#: eight that ran to their end, each with the error e after one epoch, and half of that, more or less a bit, after two
DONE = [
    (1.0, [1 - e, 1 - e * (0.5 + wobble)])
    for e, wobble in zip((0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7), (0.02, -0.02) * 4, strict=True)
]


def halfway(gflops: float, top1: float, why: dict[str, Any] | None = None) -> History:
    """A history of `DONE` and one more trial, number 8, after its first epoch."""
    found = search(*DONE, (gflops, [top1]))
    for number in range(8):
        found.apply({"event": "finished", "time": 0.0, "trial": number, "epoch": 2, "seconds": 2.0})
    found.trials[8].why = why or {}
    return found


def test_what_its_first_epoch_puts_out_of_reach_of_the_front_stops() -> None:
    # The best of no more cost has an error of 0.3 * 0.52 = 0.156; 0.65 halves to 0.33, twice as much.
    reason = FRONTIER.verdict(halfway(1.0, 1 - 0.65), 8)

    assert reason is not None
    assert reason.startswith("epoch 1: a chance of 2.")
    assert "to end better than trial 0, which costs no more; at least 10.00% is asked" in reason


@pytest.mark.parametrize(("gflops", "error"), [(1.0, 0.25), (1.0, 0.32), (0.9, 0.65)])
def test_what_may_become_the_best_at_its_own_cost_goes_on(gflops: float, error: float) -> None:
    assert FRONTIER.verdict(halfway(gflops, 1 - error), 8) is None


def test_what_the_sampler_tried_in_spite_of_small_hopes_is_not_stopped_for_them() -> None:
    # The chance of 2.4 % of the test above is below a tenth of 1, and not below a tenth of 0.02.
    assert FRONTIER.verdict(halfway(1.0, 1 - 0.65, {"probability_of_front": 1.0}), 8) is not None
    assert FRONTIER.verdict(halfway(1.0, 1 - 0.65, {"probability_of_front": 0.02}), 8) is None


def test_an_epoch_that_does_not_tell_the_end_stops_nobody() -> None:
    # The same ends, but the first and the last have changed places: a rank correlation of 1 - 6 * 98 / 504 = -1/6.
    ends = [DONE[i][1][1] for i in (7, 1, 2, 3, 4, 5, 6, 0)]
    found = search(*((1.0, [top1s[0], end]) for (_, top1s), end in zip(DONE, ends, strict=True)), (1.0, [0.01]))
    for number in range(8):
        found.apply({"event": "finished", "time": 0.0, "trial": number, "epoch": 2, "seconds": 2.0})

    assert FRONTIER.verdict(found, 8) is None


def test_a_finished_trial_that_diverged_stops_nobody() -> None:
    loss = Frontier(min_epochs=1, probability=0.1, objectives={"loss": "min", "gflops": "min"}, measured="loss")

    def judged(diverged: float) -> str | None:
        found = halfway(1.0, 1 - 0.25)
        for trial in found.trials.values():
            for report in trial.reports:
                report["metrics"] = {"loss": 1 - report["metrics"]["top1"]}
        found.trials[4].reports[-1]["metrics"]["loss"] = diverged
        return loss.verdict(found, 8)

    assert judged(math.nan) is None
    assert judged(math.inf) is None
    assert judged(0.01) is not None


def test_before_its_first_epochs_nobody_stops() -> None:
    late = Frontier(min_epochs=2, probability=0.1, objectives=FRONTIER.objectives, measured="top1")

    assert late.verdict(halfway(1.0, 0.01), 8) is None
    assert FRONTIER.verdict(halfway(1.0, 0.01), 8) is not None


def test_while_too_few_have_finished_nobody_stops() -> None:
    found = search(*DONE, (1.0, [0.01]))

    assert FRONTIER.verdict(found, 8) is None

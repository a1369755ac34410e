"""Early stopping, on histories in which the right decision can be seen."""

from collections.abc import Sequence

from search.ledger import History
from search.scheduler import Halving

HALVING = Halving(min_epochs=2, reduction=3, objectives={"top1": "max", "gflops": "min"})


def search(*trials: tuple[float, Sequence[float]]) -> History:
    """A history of trials given by their GFLOPs and their top-1 after each epoch."""
    events = []
    for number, (gflops, top1s) in enumerate(trials):
        about = {"params": {}, "config": {}, "identity": str(number), "architecture": ""}
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


def test_too_few_trials_tell_nothing() -> None:
    # A third of two is less than one.
    assert HALVING.verdict(search((1.0, [0.9, 0.9]), (1.0, [0.0, 0.0])), 1) is None

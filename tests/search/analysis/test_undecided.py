"""What a search could not decide, on searches whose truth is known."""

from pathlib import Path
from typing import Any

import pytest

from search.analysis.undecided import MIN_FINISHED, undecided
from search.ledger.history import History
from search.report.tables.summary import summary
from search.report.wording.undecided import describe_undecided
from tests.search.constructed import events, history, trees
from tests.search.events import event

SCRAMBLED = [0.5, 0.1, 0.4, 0.2, 0.6, 0.3]


def scrambled(trials: int) -> History:
    """Return a search with stops after epoch 4, in which that epoch has another order than the end."""
    changed: list[dict[str, Any]] = []
    for tree in trees(trials, stopped=0.3):
        if tree["event"] == "report" and tree["epoch"] == 4:
            tree = tree | {"metrics": {"top1": SCRAMBLED[tree["trial"] % len(SCRAMBLED)]}}
        changed.append(tree)
    return History.of(map(event, changed))


def test_options_without_an_effect_are_ties_and_those_with_one_are_not() -> None:
    search = history(80)

    ties = {(choice.name, frozenset((gain.option, gain.against))) for choice, gain in undecided(
        search, search.objectives, "top1").ties}  # fmt: skip

    # The accuracy is a formula of the cost and of the mechanism: TSM adds 0.2 and TAM 0.1, and nothing else counts.
    assert ("attention", frozenset(("tsm", "none"))) not in ties
    assert ("attention", frozenset(("tsm", "tam"))) not in ties
    assert any(name.endswith(("alpha", "beta")) for name, _ in ties)


def test_an_epoch_whose_order_is_not_that_of_the_end_is_named_with_its_stops() -> None:
    search = scrambled(40)

    (weak,) = undecided(search, search.objectives, "top1").epochs

    assert weak.epoch == 4
    assert weak.stopped == len(search.in_state("stopped"))
    assert weak.finished == len(search.in_state("finished"))
    assert abs(weak.correlation) < 0.5
    assert not undecided(history(40, stopped=0.3), search.objectives, "top1").epochs


def test_nothing_is_said_of_a_search_with_few_finished_trials() -> None:
    few = History.of(e for e in events(MIN_FINISHED - 1))

    assert not undecided(few, few.objectives, "top1")


def test_the_end_on_the_screen_names_what_is_undecided() -> None:
    search = scrambled(40)

    lines = summary(search, search.objectives, Path("out")).splitlines()

    (first,) = [n for n, line in enumerate(lines) if line.startswith("undecided ")]
    said = describe_undecided(undecided(search, search.objectives, "top1"), "top1")
    assert [line[10:] for line in lines[first : first + len(said)]] == said
    assert "after epoch 4 would have ended well: its order says little about the end" in said[-1]
    assert said[0].count("whether") == 1


@pytest.mark.parametrize("ties", [3, 4, 5, 9])
def test_only_some_pairs_are_named(ties: int) -> None:
    search = history(60)
    found = undecided(search, search.objectives, "top1")
    some = type(found)((list(found.ties) * 9)[:ties], [])

    lines = describe_undecided(some, "top1")

    assert len(lines) == min(ties, 4) + (ties > 4)
    assert (lines[-1] == f"and {ties - 4} more pair{'s' * (ties > 5)} of options") is (ties > 4)

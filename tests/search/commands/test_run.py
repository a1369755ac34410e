"""When a search is complete, decided on its history alone."""

from typing import Any

import pytest

from search.commands.run import is_complete
from tests.search.events import event, history_of
from tests.search.searches import spec


@pytest.mark.parametrize(
    ("applied", "budget", "exhausted", "complete"),
    [
        (1, {"trials": 5}, False, False),  # interrupted before the first proposal
        (6, {"trials": 1}, False, True),
        (6, {"trials": 2}, False, False),  # interrupted between two trials
        (6, {"trials": 2}, True, True),
        (5, {"trials": 1}, False, False),  # trained to the end, but not said to be finished
        (6, {"hours": 10 / 3600}, False, True),  # six events, two seconds apart
        (6, {"hours": 11 / 3600}, False, False),
    ],
)
def test_a_search_is_complete_when_nothing_is_left_to_do(
    events: list[dict[str, Any]], applied: int, budget: dict[str, float], exhausted: bool, complete: bool
) -> None:
    history = history_of(events[:applied])

    assert is_complete(spec(search={"budget": budget}), history, exhausted) is complete


def test_a_search_is_not_complete_before_its_front_is_confirmed(events: list[dict[str, Any]]) -> None:
    search = {"budget": {"trials": 1}, "confirm": {"top": 1, "seeds": 2}}
    confirmed, history = spec(search=search), history_of(events[:6])
    assert not is_complete(confirmed, history, exhausted=False)

    # The one trial that there is, trained again twice.
    for number in (1, 2):
        for tree in [*events[1:4], *events[4:6]]:
            confirms = {"confirms": 0} if tree["event"] == "proposed" else {}
            history.apply(event(tree | {"trial": number} | confirms))
            assert is_complete(confirmed, history, exhausted=False) is (number == 2 and tree["event"] == "finished")

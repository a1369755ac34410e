"""When a search is complete, decided on its history alone."""

from typing import Any

import pytest

from search.commands.run import is_complete
from search.ledger.history import History
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
    found = History()
    for event in events[:applied]:
        found.apply(event)

    assert is_complete(spec(search={"budget": budget}), found, exhausted) is complete


def test_a_search_is_not_complete_before_its_front_is_confirmed(events: list[dict[str, Any]]) -> None:
    search = {"budget": {"trials": 1}, "confirm": {"top": 1, "seeds": 2}}
    confirmed, history = spec(search=search), History()
    for event in events[:6]:
        history.apply(event)
    assert not is_complete(confirmed, history, exhausted=False)

    # The one trial that there is, trained again twice.
    for number in (1, 2):
        for event in [*events[1:4], *events[4:6]]:
            history.apply(event | {"trial": number} | ({"confirms": 0} if event["event"] == "proposed" else {}))
            assert is_complete(confirmed, history, exhausted=False) is (number == 2 and event["event"] == "finished")

"""The main job: Ray Tune trains what the study proposes; the ledger hears of everything first."""

from search.ledger.events import Event, Reported, Resumed
from search.ledger.history import History
from search.schedulers.base import Scheduler


def undecided(events: list[Event]) -> dict[int, int]:
    """Return the trials whose report was the last thing that a process wrote: it died before it judged them.

    And the number of events until then. Whether the next process came to judge one is not written where it went on.
    """
    undecided_after: dict[int, int] = {}
    last: Event | None = None
    for count, event in enumerate([*events, Resumed()]):
        if isinstance(event, Resumed) and isinstance(last, Reported):
            undecided_after[last.trial] = count
        elif isinstance(event, Reported):
            undecided_after.pop(event.trial, None)
        last = event
    return undecided_after


def overdue(events: list[Event], scheduler: Scheduler) -> dict[int, str]:
    """Return the reason for each trial that should have stopped when it was left undecided, by what was known then."""
    found: dict[int, str] = {}
    for number, count in undecided(events).items():
        then = History.of(events[:count])
        if number in then.trials and (reason := scheduler.verdict(then, number)):
            found[number] = reason
    return found

"""Decisions on early stopping that a process could not take before it died."""

from collections.abc import Sequence

from search.ledger.events import Event, Paused, Reported, Resumed
from search.ledger.history import History
from search.schedulers import Scheduler


def undecided(events: Sequence[Event]) -> dict[int, int]:
    """Return the trials whose last report may not have been judged, each with the number of events up to the report.

    These are trials whose report is the last event that a process wrote, and which have not reported since: the ledger
    does not show whether a later process judged a report, if the trial continued.
    """
    events_until: dict[int, int] = {}
    last: Event | None = None
    for count, event in enumerate([*events, Resumed()]):
        if isinstance(event, Resumed) and isinstance(last, Reported):
            events_until[last.trial] = count
        elif isinstance(event, Reported):
            events_until.pop(event.trial, None)
        if not isinstance(event, Paused):
            last = event
    return events_until


def overdue(events: Sequence[Event], scheduler: Scheduler) -> dict[int, str]:
    """Return each undecided trial that should have stopped at its report, with the reason.

    The scheduler judges by the history up to that report, as an uninterrupted search would have done.
    """
    reasons: dict[int, str] = {}
    for number, count in undecided(events).items():
        history = History.of(events[:count])
        if number in history.trials and (reason := scheduler.verdict(history, number)):
            reasons[number] = reason
    return reasons

"""Early stopping: a pure decision on the history of a search, so that a replayed ledger decides the same."""

from typing import Protocol

from search.ledger.history import History


class Scheduler(Protocol):
    """Decides after each epoch of a trial."""

    def verdict(self, history: History, number: int) -> str | None:
        """Return why the trial should stop after its last reported epoch, or None."""

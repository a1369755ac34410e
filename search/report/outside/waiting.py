"""What a running search waits for, once nothing has happened for some time."""

from collections.abc import Callable
from typing import NamedTuple

from cluster.load import Shortage
from search.ledger.history import History, Trial

#: seconds without an event of the ledger after which a search says what it waits for
PATIENCE = 30.0
#: trials that are named
_NAMED = 3


class Waiting(NamedTuple):
    """What a search waits for."""

    why: str
    """in one word, for metrics: training, GPU, CPU, process, data or files"""
    text: str
    """in words"""

    @property
    def needs_help(self) -> bool:
        """Whether this may never end by itself."""
        return self.why not in ("training", "data")


def waits_for(history: History, lacks: Callable[[], Shortage | None]) -> Waiting | None:
    """Return what a search without progress waits for; None if nothing is left that could start.

    Args:
        history: the search.
        lacks: returns why no further training can start, or None where that is not known. It is called only if no
            training is running.
    """
    if running := history.running():
        more = f" and {len(running) - _NAMED} more" if len(running) > _NAMED else ""
        return Waiting("training", ", ".join(map(_epoch, running[:_NAMED])) + more)
    if not history.unfinished():
        return None
    shortage = lacks()
    return Waiting(*shortage) if shortage else Waiting("process", "no cluster answers")


def _epoch(trial: Trial) -> str:
    return f"trial {trial.number}, epoch {trial.epoch + 1} of {trial.epochs}"

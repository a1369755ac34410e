"""MLflow: a search as one run with a child run a trial, rebuilt from the ledger wherever something is missing.

The only file that knows MLflow. It is a projection: nothing reads back what it writes, except to see what is there.
"""

import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from search.ledger.events import Event
from search.ledger.history import History
from search.report.tracking.projection import WRITE_INTERVAL, RunWriter
from search.report.tracking.store import LATER, store_of, tracking_uri, warn


class Tracker:
    """Writes a search to MLflow from a thread of its own, so that the search never waits for a database.

    Feed it every event of the ledger, replayed ones too: what MLflow has already is not written again. Where MLflow
    cannot be reached, one warning is logged, and the search goes on; what is missing is written when MLflow is back,
    or by the next replay.
    """

    def __init__(self, output: Path, uri: str = "auto", experiment: str = "auto") -> None:
        """Write to the experiment called ``experiment`` (auto: the search's name) at ``uri`` (see `tracking_uri`)."""
        self._output, self._uri, self._experiment = output, uri, experiment
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def apply(self, event: Event) -> None:
        """Take in one event; returns at once."""
        self._events.put(event)

    def close(self, timeout: float = 120.0) -> None:
        """Write what is left, for at most ``timeout`` seconds."""
        self._events.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        """Fold events and write what changed, in batches: a burst of events costs one write a trial."""
        written: RunWriter | None = None
        history, events, changed, open_, warned, retry = History(), 0, set[int](), True, False, 0.0
        while open_:
            batch = [self._events.get()]
            while not self._events.empty():
                batch.append(self._events.get())
            for event in batch:
                if event is None:
                    open_ = False
                else:
                    history.apply(event)
                    events += 1
                    changed |= {event["trial"]} if "trial" in event else set()
            if not history.search or (open_ and time.monotonic() < retry):
                continue
            try:
                if written is None:
                    written = RunWriter(store_of(history, self._output, self._uri, self._experiment), history)
                written.update(history, changed, events, closing=not open_)
                changed, warned = set(), False
            except Exception as error:  # whatever goes wrong here, a search is worth more than its display
                retry, written = time.monotonic() + WRITE_INTERVAL, None
                changed = {*history.trials, *history.extras}
                if not warned:
                    warn(tracking_uri(self._uri, self._output), error, f"the search goes on, and {LATER}")
                warned = True


def catch_up(output: Path, uri: str, experiment: str, events: Iterable[Event]) -> bool:
    """Write what MLflow lacks of a search at which no process is at work; return whether it has all now.

    ``output``, ``uri`` and ``experiment`` are as for `Tracker`; ``events`` are all of the ledger. Where nothing is
    missing, our own database costs no import of MLflow. Where MLflow cannot be reached, one warning is logged.
    """
    history, known = History(), list(events)
    for event in known:
        history.apply(event)
    store = store_of(history, output, uri, experiment)
    try:
        if not store.holds(history.began.id, len(known)):
            written = RunWriter(store, history)
            if not written.holds(len(known)):
                written.update(history, {*history.trials, *history.extras}, len(known), closing=True)
    except Exception as error:  # as for `Tracker`
        warn(store.uri, error, LATER)
        return False
    return True

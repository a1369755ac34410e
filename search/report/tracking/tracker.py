"""A search written to MLflow: while it runs, from a thread; afterwards, what is missing."""

import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from search.ledger.events import Event, TrialEvent
from search.ledger.file import NAME
from search.ledger.history import History
from search.report.tracking.runs import WRITE_INTERVAL, RunWriter
from search.report.tracking.store import LATER, Store, store_of, tracking_uri, warn
from vattn.errors import StorageError


class Tracker:
    """Writes a search to MLflow from its own thread, so that the search never waits for a database.

    `apply` it to every event of the ledger, replayed ones too: what MLflow has already is not written again. Where
    MLflow cannot be reached, one warning is logged and the search continues; what is missing is written when MLflow
    can be reached again, or by the next replay. Another warning is logged if something is missing at the end.
    """

    def __init__(self, output: Path, uri: str = "auto", experiment: str = "auto") -> None:
        """Write to the experiment called ``experiment`` (auto: the search's name) at ``uri`` (see `tracking_uri`)."""
        self._output, self._uri, self._experiment = output, uri, experiment
        # MLflow would make a new database where the disk of the folder is gone.
        ledger = output / NAME
        self._needed = ledger if Store(output, uri, experiment).is_own and ledger.is_file() else None
        self._events: queue.Queue[Event | str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def apply(self, event: Event) -> None:
        """Queue one event; return at once."""
        self._events.put(event)

    def wait_for(self, text: str) -> None:
        """Queue what the search waits for, which a tag shows; "" while it makes progress. Return at once."""
        self._events.put(text)

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until nothing is being written, for at most ``timeout`` seconds: MLflow computes in this process."""
        with self._events.all_tasks_done:
            self._events.all_tasks_done.wait_for(lambda: not self._events.unfinished_tasks, timeout)

    def close(self, timeout: float = 120.0) -> None:
        """Write what is left, for at most ``timeout`` seconds."""
        self._events.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        """Apply events and write what changed, in batches: a burst of events costs one write for each trial."""
        writer: RunWriter | None = None
        history, events, changed, is_open, has_warned, retry = History(), 0, set[int](), True, False, 0.0
        waits = ""
        batch: list[Event | str | None] = []
        while is_open:
            for _ in batch:  # of the turn before, which `settle` waits for
                self._events.task_done()
            batch = [self._events.get()]
            while not self._events.empty():
                batch.append(self._events.get())
            for event in batch:
                if event is None:
                    is_open, waits = False, ""
                elif isinstance(event, str):
                    waits = event
                else:
                    history.apply(event)
                    events += 1
                    changed |= {event.trial} if isinstance(event, TrialEvent) else set()
            if not history.search or (is_open and time.monotonic() < retry):
                continue
            try:
                if self._needed and not self._needed.is_file():
                    raise StorageError(f"{self._needed} is not there")
                if writer is None:
                    writer = RunWriter(store_of(history, self._output, self._uri, self._experiment), history)
                writer.update(history, changed, events, closing=not is_open, waits=waits)
                changed, has_warned = set(), False
            except Exception as error:  # no error of MLflow may end a search
                retry, writer = time.monotonic() + WRITE_INTERVAL, None
                changed = {*history.trials, *history.extras}
                if not has_warned or not is_open:
                    goes_on = "the search continues, and " if is_open else ""
                    warn(tracking_uri(self._uri, self._output), error, f"{goes_on}{LATER}")
                has_warned = True


def catch_up(output: Path, uri: str, experiment: str, events: Iterable[Event]) -> bool:
    """Write what MLflow lacks of a search that no process is running; return whether it is complete now.

    ``output``, ``uri`` and ``experiment`` are those of `Tracker`; ``events`` are all events of the ledger. Where
    nothing is missing in the search's own database, MLflow is not imported. Where MLflow cannot be reached, one
    warning is logged.
    """
    all_events = list(events)
    history = History.of(all_events)
    store = store_of(history, output, uri, experiment)
    try:
        if not store.holds(history.began.id, len(all_events), len(history.started())):
            writer = RunWriter(store, history)
            if not writer.holds(history, len(all_events)):
                writer.update(history, {*history.trials, *history.extras}, len(all_events), closing=True)
    except Exception as error:  # as in `Tracker`
        warn(store.uri, error, LATER)
        return False
    return True

"""Watches a running search: says what it waits for, gives signs of life, publishes metrics, sends messages."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from cluster.devices import SHARE_STEP
from cluster.load import Load, current_load, metrics_address, shortage, usage
from cluster.placement import Resources
from search.analysis.front import covered
from search.analysis.states import tally
from search.ledger.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Guarded,
    MemorySaved,
    Proposed,
    Rejected,
    Resumed,
    Stopped,
)
from search.ledger.history import History
from search.report.outside.beat import INTERVAL, new_beat, remove, write
from search.report.outside.metrics import Gauges, Values
from search.report.outside.notify import Notifier, safe
from search.report.outside.status import best_of
from search.report.outside.waiting import PATIENCE, Waiting, waits_for
from search.report.wording.states import describe_done
from search.spec.schema import Spec

#: seconds of a wait that may never end by itself after which `notify` is sent a message
HELP_AFTER = 600.0

#: decisions that metrics count
_DECISIONS: dict[type, str] = {Proposed: "proposed", Rejected: "rejected", Stopped: "stopped", Guarded: "guarded"}


class Monitor:
    """Watches a search from its own thread; `apply` it to every event of the ledger, replayed ones too.

    Use it as a context: a message to ``notify`` says how the context ended.

    Args:
        output: the folder of the search.
        spec: the search.
    """

    def __init__(self, output: Path, spec: Spec) -> None:
        self._output, self._spec = output.resolve(), spec
        self._notifier = None if spec.notify == "none" else Notifier(spec.notify)
        self._history, self._lock = History(), threading.Lock()
        self._progress, self._since = time.monotonic(), time.time()
        self._waiting: Waiting | None = None
        self._forced: Waiting | None = None
        self._helped = False
        self._stuck: Callable[[], str] = lambda: ""
        self._listeners: list[Callable[[str], None]] = []
        self._gauges: Gauges | None = None
        self._metrics = ""
        self._counts: Counter[str] = Counter()
        self._survived: Counter[str] = Counter()
        self._ended_last = False
        self._hypervolume = (0, 0.0)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="monitor", daemon=True)
        #: what the search does: "prepares data" or "searches"
        self.phase = "prepares data"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._closed.set()
        self._thread.join(INTERVAL)
        remove(self._output)
        if self._notifier:
            self._notifier.send(self._end(error))
            self._notifier.close()

    def apply(self, event: Event) -> None:
        """Apply one event: the search makes progress."""
        with self._lock:
            self._history.apply(event)
            self._count(event)
            self._progress, self._since = time.monotonic(), event.time
            self._forced = None
            self._helped = False

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with what the search waits for whenever that changes; "" while it makes progress."""
        self._listeners.append(listener)

    def waits(self, why: str, text: str) -> None:
        """Say that the search waits for something that the events do not show, until the next event."""
        self._forced = Waiting(why, text)

    def watch(self, stuck: Callable[[], str]) -> None:
        """Ask ``stuck`` at each beat which files do not answer; it returns "" if they do."""
        self._stuck = stuck

    @property
    def waiting(self) -> str:
        """What the search waits for, in words; "" while it makes progress."""
        return self._waiting.text if self._waiting else ""

    def _count(self, event: Event) -> None:
        if kind := _DECISIONS.get(type(event)):
            self._counts[kind] += 1
        match event:
            case MemorySaved():
                self._counts["memory"] += 1
            case Failed(final=False, cause=cause):
                self._survived[cause or "process"] += 1
            case Resumed() if not self._ended_last:  # its driver was lost; an interruption is no fault
                self._survived["driver"] += 1
        self._ended_last = isinstance(event, Ended)

    def _work(self) -> None:
        while True:
            try:
                self._beat()
            except Exception:  # nothing that watches a search may end it; the next beat tries again
                self._waiting = None
            if self._closed.wait(INTERVAL):
                return

    def _beat(self) -> None:
        before = self.waiting
        # Not under the lock: an event must not wait for a cluster that does not answer.
        load = _load() if self.phase == "searches" else None
        with self._lock:
            idle = time.monotonic() - self._progress
            stuck = self._stuck()
            forced = Waiting("files", stuck) if stuck else self._forced
            self._waiting = forced or (self._look(load) if idle >= PATIENCE and load else None)
            if load and self._history.search:
                if self._gauges is None:
                    self._gauges, self._metrics = Gauges(self._history.name), metrics_address()
                self._gauges.publish(self._values(idle, load))
            why, text = self._waiting or ("", "")
            beat = new_beat(self.phase, why, text, self._since, self._metrics)
            asks_for_help = bool(self._waiting and self._waiting.needs_help and idle >= HELP_AFTER and not self._helped)
            self._helped = self._helped or asks_for_help
        if text != before:
            for listener in self._listeners:
                listener(text)
        write(self._output, beat)  # after the rest: a disk that does not answer holds it up
        if self._notifier and asks_for_help:
            self._notifier.send(self._message("help", f"waits: {text}"))

    def _look(self, load: Load) -> Waiting | None:
        return waits_for(self._history, lambda: shortage(load, self._wanted(load)))

    def _wanted(self, load: Load) -> Resources:
        """Return what one training reserves; with ``gpus: auto``, the least share of a GPU where there is one."""
        wanted = self._spec.resources
        has_gpu = any(node.get("GPU") for node in load.total)
        gpus = wanted.gpus if wanted.gpus != "auto" else SHARE_STEP if has_gpu else 0.0
        return Resources(workers=wanted.fewest, cpus=wanted.cpus, gpus=gpus)

    def _values(self, idle: float, load: Load) -> Values:
        history, counts = self._history, self._counts
        running, finished = history.running(), history.in_state("finished")
        if len(finished) != self._hypervolume[0]:
            self._hypervolume = len(finished), covered(finished, history.objectives, history.constraints)
        gpus = sum(trial.starts[-1].gpus for trial in running if trial.starts)
        retrainings = sum(trial.confirms is not None for trial in history.extras.values())
        decisions = {kind: counts[kind] for kind in _DECISIONS.values()} | {"retrained": retrainings}
        return {
            "vattn_trials": {state: float(count) for state, count in tally(history).items()},
            "vattn_hypervolume": {"": self._hypervolume[1]},
            "vattn_utilisation": {"": usage(load, self._wanted(load), len(running), gpus)},
            "vattn_waiting_seconds": {self._waiting.why: idle} if self._waiting else {},
            "vattn_decisions": {kind: float(count) for kind, count in decisions.items()},
            "vattn_out_of_memory": {"": float(counts["memory"])},
            "vattn_faults_survived": {cause: float(count) for cause, count in self._survived.items()},
        }

    def _end(self, error: BaseException | None) -> dict[str, Any]:
        """Return the message about the end of the context."""
        ended = self._history.ended
        if error is not None and not isinstance(error, KeyboardInterrupt):
            return self._message("failed", f"failed: {safe(str(error) or type(error).__name__)}")
        if error is not None or ended is None or ended.reason == "interrupted":
            return self._message("interrupted", "interrupted; go on with --resume")
        if not any(isinstance(trial.end, Finished) for trial in self._history.trials.values()):
            return self._message("failed", f"no trial finished: {safe(ended.reason)}")
        return self._message("ended", f"ended: {safe(ended.reason)}")

    def _message(self, event: str, text: str) -> dict[str, Any]:
        """Return a message: no config, no file of the user, no address is part of it."""
        with self._lock:
            history = self._history
            name = history.name if history.search else self._spec.name
            best = best_of(history) if history.search else ""
            done = describe_done(history) if history.search else "not begun"
            words = [f"{name} {text}", done, *([f"best {best}"] if best else [])]
            return {
                "search": name,
                "event": event,
                "text": "; ".join(words),
                "trials": dict(tally(history)),
                "output": str(self._output),
                "time": round(time.time(), 3),
            }


def _load() -> Load | None:
    """Return the load of the cluster; None where it cannot be asked."""
    try:
        return current_load()
    except Exception:  # such as a cluster that is gone: the search itself ends with a message of its own
        return None

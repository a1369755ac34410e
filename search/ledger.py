"""The one truth of a search: an append-only file of events, and the history that they add up to.

One JSON object a line, ``event`` and ``time`` (Unix seconds) in each. The Optuna study, MLflow, Ray Tune's state and
the table on the screen are projections of it: whatever they know, they know from an event.

=========  =====================================================================================================
event      fields
=========  =====================================================================================================
search     id, name, spec (the whole tree), versions; the first line
warm_start source, id, name (an earlier search), trials (what is of use here), left_out (how many by reason), differs
guard      source, trusted, correlation, trials, offset: whether an earlier search is believed from now on
proposed   trial, params (choice of each dimension), config, identity, architecture, cost, why (plain, chance, earlier
           with a source and a trial, or what its sampler knows); where it is no trial of the search itself, confirms
           (the trial that it trains again with a fresh seed) or base (true)
rejected   params, identity, cost, reason; where that is why, duplicate_of (a trial) or late (it could not end in time)
inherits   trial, source (the trial with whose weights it starts, or null), reason
started    trial, epoch (finished epochs that it continues from), gpus (of all its workers); once more after a failure
           or a resume
report     trial, epoch (from 1), metrics, seconds (of that epoch)
stopped    trial, epoch, reason; early, by the scheduler: its metrics are partial
failed     trial, error, final (false: it is tried again)
finished   trial, epoch, seconds (from the first start to now, all attempts)
ended      reason
resumed    budget, which may have been raised: a new process has taken the search up
=========  =====================================================================================================
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from errno import ENOSPC
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from vattn.files import writing

Event = dict[str, Any]
State = Literal["proposed", "running", "finished", "stopped", "failed"]
NAME = "ledger.jsonl"
#: reasons of an end before the budget is spent; a search that was failing may be taken up again, and one that was late
#: with a larger budget
EXHAUSTED, FAILING, LATE = "space exhausted", "every trial failed", "no further trial could end within the budget"


@dataclass
class Trial:
    """What the events say of one trial."""

    number: int
    params: dict[str, Any]
    config: dict[str, Any]
    identity: str
    architecture: str
    cost: dict[str, float]
    why: dict[str, Any] = field(default_factory=dict)
    state: State = "proposed"
    reports: list[Event] = field(default_factory=list)
    starts: list[Event] = field(default_factory=list)
    end: Event | None = None
    #: the trial that this one trains again with a fresh seed
    confirms: int | None = None
    #: without mechanisms; others start with its weights
    base: bool = False
    #: the event that says with whose weights it starts
    inherits: Event | None = None
    #: trials that train this one again
    retrainings: list["Trial"] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.reports[-1]["epoch"] if self.reports else 0

    @property
    def epochs(self) -> int:
        """Epochs of its whole training."""
        return self.config["train"]["epochs"]

    @property
    def metrics(self) -> dict[str, float]:
        """The last epoch's metrics and the cost; partial unless the state is "finished"."""
        return self.cost | (self.reports[-1]["metrics"] if self.reports else {})

    @property
    def source(self) -> int | None:
        """The trial with whose weights it starts; None where it starts with none's."""
        return self.inherits["source"] if self.inherits else None

    def curve(self, name: str) -> list[float]:
        """Return a metric after each epoch."""
        return [report["metrics"][name] for report in self.reports]

    @property
    def seconds(self) -> float:
        """Time inside the epochs."""
        return sum(report["seconds"] for report in self.reports)

    @property
    def confirmed(self) -> bool:
        """Whether it was trained again with fresh seeds, as often as it will be."""
        return bool(self.retrainings) and all(trial.end is not None for trial in self.retrainings)

    @property
    def fresh(self) -> list[dict[str, float]]:
        """The metrics of each fresh seed that came to its end."""
        return [trial.metrics for trial in self.retrainings if trial.state == "finished"]

    def settled(self) -> "Trial":
        """Return this trial with the mean of its fresh seeds in the place of its own metrics; there must be some.

        To twelve digits: seeds are often right in as many clips, and rounding must not decide who is ahead.
        """
        names = set.intersection(*(set(metrics) for metrics in self.fresh)) - self.cost.keys()
        means = {name: round(fmean(metrics[name] for metrics in self.fresh), 12) for name in names}
        return replace(self, reports=[*self.reports[:-1], self.reports[-1] | {"metrics": means}])


@dataclass
class History:
    """The sum of a ledger's events."""

    search: Event = field(default_factory=dict)
    #: trials, hours, gpu_hours: as of the last start
    budget: dict[str, Any] = field(default_factory=dict)
    #: those of the search itself, which it learns from and chooses among
    trials: dict[int, Trial] = field(default_factory=dict)
    #: bases and retrainings; numbers are of both kinds together
    extras: dict[int, Trial] = field(default_factory=dict)
    rejected: list[Event] = field(default_factory=list)
    ended: Event | None = None
    #: of each earlier search what was taken, and the last verdict on it
    warm: dict[str, Event] = field(default_factory=dict)
    guards: dict[str, Event] = field(default_factory=dict)
    #: seconds in which a process was at work on this search, pauses between an interruption and its resume left out
    active: float = 0.0
    #: seconds of epochs times the GPUs of their trials, without what confirmed the front
    gpu_seconds: float = 0.0
    _last: float | None = None

    def apply(self, event: Event) -> None:
        """Take in one event; a report of an epoch that is known already changes nothing."""
        kind = event["event"]
        if self._last is not None and kind != "resumed":
            self.active += max(0.0, event["time"] - self._last)
        self._last = event["time"]
        if kind == "search":
            self.search, self.budget = event, event["spec"]["search"]["budget"]
        elif kind == "proposed":
            self._propose(event)
        elif kind == "rejected":
            self.rejected.append(event)
        elif kind == "resumed":
            self.ended, self.budget = None, event.get("budget", self.budget)
        elif kind == "ended":
            self.ended = event
        elif kind == "warm_start":
            self.warm[event["source"]] = event
        elif kind == "guard":
            self.guards[event["source"]] = event
        else:
            self._apply_to_trial(self.trial(event["trial"]), kind, event)

    def _propose(self, event: Event) -> None:
        keys = ("params", "config", "identity", "architecture", "cost")
        trial = Trial(
            event["trial"], **{key: event[key] for key in keys}, confirms=event.get("confirms"),
            base=event.get("base", False), why=event.get("why", {}),
        )  # fmt: skip
        own = trial.confirms is None and not trial.base
        (self.trials if own else self.extras)[trial.number] = trial
        if trial.confirms is not None:
            self.trials[trial.confirms].retrainings.append(trial)

    def _apply_to_trial(self, trial: Trial, kind: str, event: Event) -> None:
        if kind == "started":
            trial.state = "running"
            trial.starts.append(event)
        elif kind == "report":
            if event["epoch"] == trial.epoch + 1:
                trial.reports.append(event)
                if trial.confirms is None and trial.starts:
                    self.gpu_seconds += event["seconds"] * trial.starts[-1].get("gpus", 0)
        elif kind == "inherits":
            trial.inherits = event
        elif kind == "failed" and not event["final"]:
            trial.state = "proposed"
        else:
            assert kind in ("stopped", "failed", "finished"), f"unknown event {kind!r}"
            trial.state, trial.end = kind, event

    def trial(self, number: int) -> Trial:
        """Return the trial of that number, whichever kind it is."""
        return self.trials[number] if number in self.trials else self.extras[number]

    @property
    def next_number(self) -> int:
        """The number of the trial that is proposed next."""
        return len(self.trials) + len(self.extras)

    def in_state(self, *states: State) -> list[Trial]:
        """Trials of the search in any of ``states``, by number."""
        return [trial for trial in self.trials.values() if trial.state in states]

    def under_way(self) -> list[Trial]:
        """Trials of all kinds that have not ended, by number."""
        everyone = sorted([*self.trials.values(), *self.extras.values()], key=lambda trial: trial.number)
        return [trial for trial in everyone if trial.end is None]

    def running(self) -> list[Trial]:
        """Trials of all kinds that run, by number."""
        return [trial for trial in self.under_way() if trial.state == "running"]

    def spent(self, trials: int | None, hours: float | None, gpu_hours: float | None) -> float:
        """Return which share of a budget is gone, the greatest of the three; 1 is all, and None is no limit."""
        shares = [
            0.0 if trials is None else len(self.trials) / trials,
            0.0 if hours is None else self.active / (3600 * hours),
            0.0 if gpu_hours is None else self.gpu_seconds / (3600 * gpu_hours),
        ]
        return max(shares)


def read(path: Path) -> Iterator[Event]:
    """Yield the events of a ledger; a last line that a killed process left incomplete is not one.

    Raises ValueError for a damaged line in the middle, naming file and line.
    """
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or not {"event", "time"} <= event.keys():
            raise ValueError(f"{path}: line {number}: is not an event as JSON; restore the file from a copy")
        yield event


def history(path: Path) -> History:
    """Return what the ledger at ``path`` adds up to."""
    result = History()
    for event in read(path):
        result.apply(event)
    return result


class Ledger:
    """Writes a ledger and keeps its history; one process at a time, held by a lock on the file.

    Raises ValueError if another process is at work on this search.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        # Without a buffer: what could not be written would be tried again when the file is closed.
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ValueError(f"{path}: another process is running this search; wait for its end or stop it") from None
        self.history = history(path)
        complete = path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(complete)

    def append(self, event: str, **fields: Any) -> Event:
        """Write one event through to the disk, take it into the history, return it.

        Raises OSError, naming the file, where the disk is full; what is left of the line is no event.
        """
        line: Event = {"event": event, "time": round(time.time(), 3), **fields}
        content, before = json.dumps(line, separators=(",", ":")).encode() + b"\n", self._file.seek(0, os.SEEK_END)
        with writing(self.path, "make room and go on with --resume"):
            try:
                if self._file.write(content) < len(content):
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(before)
                raise
        self.history.apply(line)
        return line

    def replay(self) -> Iterator[Event]:
        """Yield what was written so far."""
        return read(self.path)

    def close(self) -> None:
        """Let go of the lock."""
        self._file.close()

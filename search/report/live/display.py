"""The state of a running search: a live table in a terminal, lines of a log elsewhere."""

import threading
import time
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.analysis.front import front_of
from search.analysis.pareto import Objectives
from search.ledger.events import (
    Event,
    Failed,
    Finished,
    Guarded,
    MemorySaved,
    Paused,
    Resumed,
    Stopped,
    Suspended,
    WarmStarted,
)
from search.ledger.history import History, Trial
from search.report.live.time_left import seconds_left
from search.report.wording.earlier_searches import describe_decision, describe_source
from search.report.wording.errors import describe_failure
from search.report.wording.states import describe_done, describe_progress
from search.report.wording.trials import describe, describe_memory
from search.report.wording.values import format_duration, format_metric

#: seconds without a line of the log after which one with the running trials is printed
_HEARTBEAT = 15.0


class Display:
    """Shows the events of a search on ``screen``, except for those that are replayed from its ledger.

    A thread prints a line after ``heartbeat`` seconds without one.
    """

    def __init__(self, screen: TextIO, heartbeat: float = _HEARTBEAT) -> None:
        self._console, self._waits_for = Console(file=screen, highlight=False), ""
        self._history, self._lock = History(), threading.Lock()
        # Times in the ledger are rounded to milliseconds. An event that is older than this display is a replayed one.
        self._since = self._last = round(time.time(), 3) - 0.001
        self._live: Live | None = None
        self._heartbeat, self._printed, self._closed = heartbeat, time.monotonic(), threading.Event()
        self._thread: threading.Thread | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._screen, refresh_per_second=2, transient=True)
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._beat, name="display", daemon=True)
            self._thread.start()

    def apply(self, event: Event) -> None:
        """Apply one event; where there is no live table, print a line if the event is worth one."""
        with self._lock:
            self._history.apply(event)
            if event.time < self._since:
                return
            self._last = event.time
            if self._live is None and (line := self._line(event)):
                self._print(line)

    def wait_for(self, text: str) -> None:
        """Show what the search waits for; "" while it makes progress."""
        with self._lock:
            self._waits_for = text
            if text and self._live is None:
                self._print(self._headline())

    def close(self) -> None:
        """Stop; a live table is removed from the screen."""
        self._closed.set()
        if self._live:
            self._live.stop()
        if self._thread:
            self._thread.join()

    def _beat(self) -> None:
        while not self._closed.wait(min(1.0, self._heartbeat)):
            with self._lock:
                if self._history.search and time.monotonic() - self._printed >= self._heartbeat:
                    self._print("; ".join([self._headline(), *map(self._latest, self._history.running())]))

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)
        self._printed = time.monotonic()

    def _line(self, event: Event) -> str | None:
        """Return the line of the log for an event; None for most."""
        match event:
            case Resumed():
                return f"resumed: {self._headline()}"
            case Paused():
                return f"{format_duration(event.seconds)} are left out of the budget of hours: {event.reason}"
            case WarmStarted():
                return f"earlier search {describe_source(event)}"
            case Guarded():
                return f"earlier search {describe_decision(event)}"
            case Failed():
                return f"trial {event.trial} {describe_failure(event)}"
            case Suspended():
                return f"trial {event.trial} waits after epoch {event.epoch}: {event.reason}"
            case MemorySaved():
                return f"trial {event.trial} is trained again {describe_memory(event)}"
            case Finished():
                return self._end(event.trial, "finished")
            case Stopped():
                trial = self._history.trial(event.trial)
                return self._end(event.trial, f"stopped after epoch {trial.epoch} of {trial.epochs}")
            case _:
                return None

    def _end(self, number: int, how: str) -> str:
        trial = self._history.trial(number)
        return f"trial {number} {how}: {self._numbers(trial)}; {describe(trial)} [{describe_progress(self._history)}]"

    def _numbers(self, trial: Trial) -> str:
        names = [name for name in self._history.objectives if name in trial.metrics]
        return ", ".join(f"{name} {format_metric(name, trial.metrics[name])}" for name in names)

    def _latest(self, trial: Trial) -> str:
        return f"trial {trial.number} epoch {trial.epoch}/{trial.epochs} {self._numbers(trial)}"

    def _elapsed(self) -> float:
        return self._history.active + time.time() - self._last

    def _headline(self) -> str:
        elapsed = self._elapsed()
        left = seconds_left(self._history, elapsed)
        times = f"{format_duration(elapsed)} elapsed"
        times += "" if left is None else f", about {format_duration(left)} left"
        waits = f"; waits: {text}" if (text := self._waits_for) else ""
        return f"{self._history.name}: {times}, {describe_done(self._history)}{waits}"

    def _screen(self) -> Group | Text:
        """Return the live table: headline, front so far, running trials."""
        with self._lock:
            if not self._history.search:
                return Text("starting")
            objectives = self._history.objectives
            parts: list[Any] = [Text(self._headline(), style="bold")]
            if front := front_of(self._history, objectives):
                parts.append(_table("front so far", front, objectives, progress=False))
            if running := self._history.running():
                parts.append(_table("running", running, objectives, progress=True))
            return Group(*parts)


def _table(title: str, trials: list[Trial], objectives: Objectives, progress: bool) -> Table:
    names = list(dict.fromkeys([*objectives, *trials[0].cost]))
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ["trial", *(["epoch"] if progress else []), *names]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("model", overflow="ellipsis", no_wrap=True)
    for trial in trials:
        epoch = [f"{trial.epoch}/{trial.epochs}"] if progress else []
        values = [format_metric(name, trial.metrics.get(name, float("nan"))) for name in names]
        table.add_row(str(trial.number), *epoch, *values, Text(describe(trial)))
    return table

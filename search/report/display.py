"""What a user sees while a search runs: a live table in a terminal, plain lines elsewhere, and a summary at the end."""

import threading
import time
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.analysis.front import front_of
from search.analysis.pareto import Objectives
from search.analysis.states import tally
from search.ledger.events import Event
from search.ledger.history import History, Trial
from search.report.describe import describe, shown
from search.report.time_left import seconds_left
from search.report.words import STATE_WORDS, clock, first_line, told_source, told_verdict

#: seconds between two plain lines while no trial ends, and between two lines of progress
_HEARTBEAT = 15.0


class Display:
    """Follows the events of a search on ``screen``, replayed ones silently."""

    def __init__(self, screen: TextIO, heartbeat: float = _HEARTBEAT) -> None:
        self._console = Console(file=screen, highlight=False)
        self._history, self._lock = History(), threading.Lock()
        # The ledger's times have milliseconds, and what is not older than this display is news.
        self._since = self._last = round(time.time(), 3) - 0.001
        self._live: Live | None = None
        self._heartbeat, self._spoke, self._closed = heartbeat, time.monotonic(), threading.Event()
        self._thread: threading.Thread | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._screen, refresh_per_second=2, transient=True)
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._beat, name="display", daemon=True)
            self._thread.start()

    def apply(self, event: Event) -> None:
        """Take in one event; prints a line where there is no live table and a trial has ended."""
        with self._lock:
            self._history.apply(event)
            if event["time"] < self._since:
                return
            self._last = event["time"]
            if self._live is None and (line := self._news(event)):
                self._say(line)

    def close(self) -> None:
        """Stop; a live table leaves nothing behind."""
        self._closed.set()
        if self._live:
            self._live.stop()
        if self._thread:
            self._thread.join()

    def _beat(self) -> None:
        while not self._closed.wait(min(1.0, self._heartbeat)):
            with self._lock:
                if self._history.search and time.monotonic() - self._spoke >= self._heartbeat:
                    self._say("; ".join([self._headline(), *map(self._latest, self._history.running())]))

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)
        self._spoke = time.monotonic()

    def _news(self, event: Event) -> str | None:
        """Return the line that an event is worth."""
        kind = event["event"]
        if kind == "resumed":
            return f"resumed: {self._headline()}"
        if kind == "warm_start":
            return f"earlier search {told_source(event)}"
        if kind == "guard":
            return f"earlier search {told_verdict(event)}"
        if kind == "failed":
            further = "" if event["final"] else "; it is tried again"
            return f"trial {event['trial']} failed: {first_line(event['error'])}{further}"
        if kind not in ("finished", "stopped"):
            return None
        trial = self._history.trial(event["trial"])
        after = "finished" if kind == "finished" else f"stopped after epoch {trial.epoch} of {trial.epochs}"
        return f"trial {trial.number} {after}: {self._numbers(trial)}; {describe(trial)} [{self._done()}]"

    def _numbers(self, trial: Trial) -> str:
        objectives = self._history.objectives
        known = [name for name in objectives if name in trial.metrics]
        return ", ".join(f"{name} {shown(name, trial.metrics[name])}" for name in known)

    def _latest(self, trial: Trial) -> str:
        return f"trial {trial.number} epoch {trial.epoch}/{trial.epochs} {self._numbers(trial)}"

    def _elapsed(self) -> float:
        return self._history.active + time.time() - self._last

    def _done(self) -> str:
        """Return such as "5 of 16 trials", of which 5 have ended; after their end, how many fresh seeds have."""
        again = [trial for trial in self._history.extras.values() if trial.confirms is not None]
        if again and again[-1].number > max(self._history.trials):  # with a raised budget trials go on
            return f"{sum(trial.end is not None for trial in again)} of {len(again)} fresh seeds"
        ended = len(self._history.in_state("finished", "stopped", "failed"))
        budget = self._history.budget.get("trials")
        return f"{ended} of {budget} trials" if budget else f"{ended} trial{'' if ended == 1 else 's'}"

    def _headline(self) -> str:
        elapsed = self._elapsed()
        left = seconds_left(self._history, elapsed)
        parts = [f"{count} {STATE_WORDS.get(state, state)}" for state, count in tally(self._history).items()]
        times = f"{clock(elapsed)} elapsed" + (f", about {clock(left)} left" if left is not None else "")
        states = f" ({', '.join(parts)})" if parts else ""
        return f"{self._history.name}: {times}, {self._done()} done{states}"

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
        values = [shown(name, trial.metrics.get(name, float("nan"))) for name in names]
        table.add_row(str(trial.number), *epoch, *values, Text(describe(trial)))
    return table

"""What a user sees while a search runs: a live table in a terminal, plain lines elsewhere, and a summary at the end."""

import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.confirm import render
from search.ledger import EXHAUSTED, FAILING, LATE, Event, History, Trial
from search.pareto import Objectives, describe, front_of, shown, spec_of, tally

#: seconds between two plain lines while no trial ends, and between two lines of progress
_HEARTBEAT, _PROGRESS = 15.0, 5.0
_WORDS = {"stopped": "stopped early", "proposed": "waiting"}
#: why a search ended before its budget was spent
_ENDS = {
    EXHAUSTED: "nothing new within the limits was found in its space; `vattn check` counts what is there",
    FAILING: "its first trials all failed",
    LATE: "no further trial could end within it",
}


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
        objectives, _ = spec_of(self._history)
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
        parts = [f"{count} {_WORDS.get(state, state)}" for state, count in tally(self._history).items()]
        times = f"{clock(elapsed)} elapsed" + (f", about {clock(left)} left" if left is not None else "")
        states = f" ({', '.join(parts)})" if parts else ""
        return f"{self._history.search['name']}: {times}, {self._done()} done{states}"

    def _screen(self) -> Group | Text:
        """Return the live table: headline, front so far, running trials."""
        with self._lock:
            if not self._history.search:
                return Text("starting")
            objectives, _ = spec_of(self._history)
            parts: list[Any] = [Text(self._headline(), style="bold")]
            if front := front_of(self._history, objectives):
                parts.append(_table("front so far", front, objectives, progress=False))
            if running := self._history.running():
                parts.append(_table("running", running, objectives, progress=True))
            return Group(*parts)


def told_source(event: Event) -> str:
    """Return what a ``warm_start`` event says: what of an earlier search is of use, and what is not."""
    taken, left_out = len(event["trials"]), event["left_out"]
    left = "".join(f"; {count} left out: {reason}" for reason, count in left_out.items())
    differs = ", ".join(event["differs"][:5]) + (" and more" if len(event["differs"]) > 5 else "")
    return f"{event['source']}: {taken} of {taken + sum(left_out.values())} finished trials are of use{left}" + (
        f"; not as here: {differs}" if differs else ""
    )


def told_verdict(event: Event) -> str:
    """Return what a ``guard`` event says: whether an earlier search is believed."""
    so = "agrees with" if event["trusted"] else "does not agree any more with"
    then = "its trials are used from now on" if event["trusted"] else "its trials are left out from now on"
    return f"{event['source']} {so} the {event['trials']} finished trials here ({_agreement(event)}): {then}"


def told_belief(source: str, verdict: Event | None) -> str:
    """Return what came of an earlier search, by the last ``guard`` event on it; None where there was none."""
    if verdict is None:
        return f"{source} was not believed: nothing showed in time that its ranks are those of the trials here"
    so = "was believed" if verdict["trusted"] else "was no more believed"
    return f"{source} {so} after {verdict['trials']} finished trials here ({_agreement(verdict)})"


def _agreement(verdict: Event) -> str:
    return f"rank correlation at equal cost {verdict['correlation']:.2f}"


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


def seconds_left(history: History, elapsed: float) -> float | None:
    """Return how long a search of ``elapsed`` seconds still needs for its budget; None while nothing tells.

    For a number of trials: the epochs of those to come, each trial as long as those that ended so far (early stops
    included), each epoch as long as those so far, as many side by side as now. Where a time limit comes sooner, that.
    What confirms the front comes on top, once it has begun.
    """
    budget = history.budget
    bounds = []
    if not any(trial.confirms is not None for trial in history.under_way()):
        if hours := budget.get("hours"):
            bounds.append(max(0.0, 3600 * hours - elapsed))
        gpus = sum(trial.starts[-1].get("gpus", 0) for trial in history.running())
        if (gpu_hours := budget.get("gpu_hours")) and gpus:
            bounds.append(max(0.0, 3600 * gpu_hours - history.gpu_seconds) / gpus)
    reports = [report for trial in history.trials.values() for report in trial.reports]
    if (trials := budget.get("trials")) and reports:
        ended = history.in_state("finished", "stopped", "failed")
        sample = ended or list(history.trials.values())
        each = sum(trial.epoch if ended else trial.epochs for trial in sample) / len(sample)
        epochs = max(0, trials - len(history.trials)) * each
        for trial in history.under_way():
            # One that is past the length of most goes on to its end, as do those that no scheduler judges.
            stops = trial.number in history.trials and trial.epoch < each
            epochs += (each if stops else trial.epochs) - trial.epoch
        seconds = sum(report["seconds"] for report in reports) / len(reports)
        bounds.append(epochs * seconds / max(1, len(history.running())))
    return min(bounds, default=None)


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def first_line(error: str) -> str:
    """Return what of an error says most: of a traceback its last line, else its first."""
    lines = [line for line in error.strip().splitlines() if line.strip()] or ["unknown"]
    return (lines[-1] if lines[0].startswith("Traceback") else lines[0]).strip()


def final(history: History, objectives: Objectives, output: Path) -> str:
    """Return the end of a search in words: the front, what failed, where the results lie, and what to do next."""
    states = ", ".join(f"{count} {_WORDS.get(state, state)}" for state, count in tally(history).items())
    lines = [f"{history.search['name']}: {states or 'no trial was started'}"]
    if history.ended and history.ended["reason"] in _ENDS:
        lines.append(f"ended before its budget was spent: {_ENDS[history.ended['reason']]}")
    lines += ["", render(history, objectives), ""]
    lines += [f"earlier search {told_belief(source, history.guards.get(source))}" for source in history.warm]
    for trial in [*history.in_state("failed"), *(t for t in history.extras.values() if t.state == "failed")]:
        assert trial.end is not None
        lines.append(f"trial {trial.number} failed: {first_line(trial.end['error'])}")
    lines.append(f"results   {output}")
    if history.in_state("finished"):
        vattn = program()
        lines.append(f"picture   {output / 'pareto.html'}")
        lines.append(f"next      {vattn} ui {output}")
        lines.append(f"          {vattn} export {output} --pick knee --out best.yaml")
        lines.append(f"          {vattn} train best.yaml")
    return "\n".join(lines)


def program() -> str:
    """Return how this program is called from where the user stands."""
    if shutil.which("vattn"):
        return "vattn"
    script = Path(sys.executable).with_name("vattn")
    if not script.exists():
        return "python -m search"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


class _Progress:
    """Says on stderr how far a long preparation is: a bar in a terminal, a line every few seconds elsewhere."""

    def __init__(self) -> None:
        self._said: tuple[str, float] = ("", 0.0)
        self._began = (0.0, 0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` parts of ``stage`` are done."""
        screen, now = sys.stderr, time.monotonic()
        terminal, ended = screen.isatty(), done >= total
        last_stage, last = self._said
        if stage == last_stage and not ended and now - last < (0.1 if terminal else _PROGRESS):
            return
        self._said = ("" if ended else stage, now)
        if stage != last_stage:
            self._began = (now, done)
        pace = self._pace(now, done, total)
        if terminal:
            filled = 30 * done // max(total, 1)
            bar = f"\r{stage} [{'#' * filled}{' ' * (30 - filled)}] {done} of {total}{pace}\033[K"
            screen.write(bar + ("\n" if ended else ""))
        else:
            screen.write(f"{stage}: {done} of {total}{pace}\n")
        screen.flush()

    def _pace(self, now: float, done: int, total: int) -> str:
        """Return how many are done a second and the time left, once a second tells."""
        began, first = self._began
        if now - began < 1 or done == first:
            return ""
        rate = (done - first) / (now - began)
        return f", {rate:.3g}/s" + (f", {clock((total - done) / rate)} left" if done < total else "")


progress = _Progress()

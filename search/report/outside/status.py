"""The state of a search as another process sees it: from its ledger and its last sign of life."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from search.analysis.front import covered
from search.analysis.states import tally
from search.ledger.file import NAME as LEDGER
from search.ledger.file import history as read_history
from search.ledger.history import History
from search.report.live.time_left import seconds_left
from search.report.outside.beat import Beat, read
from search.report.tables.columns import align
from search.report.wording.states import describe_done, describe_progress
from search.report.wording.values import format_duration, format_metric
from vattn.errors import UserError

State = Literal["starting", "running", "ended", "interrupted", "lost", "unreadable"]

#: names of folders that hold no searches, but may hold many files
_SKIPPED = {"trials", "artifacts", "cache", "data", "tune", "mlartifacts"}


class Status(NamedTuple):
    """A search as it is now."""

    output: Path
    """its folder"""
    state: State
    """starting: no event yet. lost: its process has ended without a word. unreadable: its ledger is damaged"""
    history: History
    """its trials; those of a search that no process runs are not running"""
    beat: Beat | None
    """the last sign of life of its process"""
    now: float
    """the time of all this, in Unix seconds"""
    problem: str = ""
    """of an unreadable ledger"""

    @property
    def name(self) -> str:
        """The name of the search."""
        return self.history.name if self.history.search else self.output.name

    @property
    def alive(self) -> bool:
        """Whether a process runs the search."""
        return self.state in ("starting", "running")

    @property
    def elapsed(self) -> float:
        """Seconds during which a process ran the search."""
        return self.history.active + (max(0.0, self.now - self.history.last) if self.state == "running" else 0.0)

    @property
    def left(self) -> float | None:
        """Seconds that the search still needs; None if it does not run, or where they cannot be estimated."""
        return seconds_left(self.history, self.elapsed) if self.state == "running" else None


def status_of(output: Path, now: float | None = None) -> Status:
    """Return the state of the search in a folder that has a ledger."""
    now = time.time() if now is None else now
    beat = read(output)
    try:
        history = read_history(output / LEDGER)
    except (UserError, OSError) as error:
        return Status(output, "unreadable", History(), beat, now, str(error))
    state = _state(history, beat, now)
    if state not in ("starting", "running"):
        for trial in history.running():
            trial.state = "proposed"  # no process trains it
    return Status(output, state, history, beat, now)


def _state(history: History, beat: Beat | None, now: float) -> State:
    if beat is not None and beat.alive(now):
        return "running" if history.search else "starting"
    if history.ended is None:
        return "lost"
    return "interrupted" if history.ended.reason == "interrupted" else "ended"


def searches_under(folder: Path) -> Iterator[Path]:
    """Yield the folders at or below ``folder`` that have a ledger, in order of their names."""
    for path, folders, files in os.walk(folder):
        if LEDGER in files:
            folders.clear()
            yield Path(path)
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))


def best_of(history: History) -> str:
    """Return the best finished trial in the first objective that training measures; "" if none has finished."""
    best = _best(history)
    return "" if best is None else f"{best[0]} {format_metric(*best[:2])} (trial {best[2]})"


def _best(history: History) -> tuple[str, float, int] | None:
    for name, direction in history.objectives.items():
        scored = [
            (trial.metrics[name], trial.number)
            for trial in history.in_state("finished")
            if name not in trial.cost and math.isfinite(trial.metrics.get(name, math.nan))
        ]
        if scored:
            value, number = max(scored) if direction == "max" else min(scored)
            return name, value, number
    return None


def render(status: Status) -> str:
    """Return the state of one search in lines."""
    beat, history = status.beat, status.history
    if status.state == "unreadable":
        return f"{status.name}: unreadable\n  {status.problem}"
    times = f", {format_duration(status.elapsed)} in all" if history.search else ""
    times += "" if status.left is None else f", about {format_duration(status.left)} left"
    lines = [f"{status.name}: {status.state}{times}"]
    if beat is not None and status.alive:
        lines.append(f"  process    {beat.pid} on {beat.host}, {beat.phase}")
    if history.search:
        lines.append(f"  progress   {describe_done(history)}")
        if best := best_of(history):
            lines.append(f"  best       {best}")
        lines.append(f"  last event {_ago(status.now - history.last)}")
    if remark := _remark(status):
        lines.append(f"  {remark}")
    if beat is not None and status.alive and beat.metrics:
        lines.append(f"  metrics    {beat.metrics}")
    lines.append(f"  results    {status.output}")
    return "\n".join(lines)


def _remark(status: Status) -> str:
    beat, history = status.beat, status.history
    match status.state:
        case "lost":
            seen = f", last sign of life {_ago(status.now - beat.time)}" if beat else ""
            if beat is not None and beat.has_process:
                return f"process {beat.pid} exists{seen}: its folder may be full, read-only or out of its reach"
            return f"no process runs it{seen}; go on with --resume"
        case "interrupted":
            return "go on with --resume"
        case "ended":
            return f"ended      {history.ended.reason}" if history.ended else ""
        case _:
            if beat is not None and beat.waits_for:
                return f"waits      {beat.waits_for} (for {format_duration(max(0.0, status.now - beat.since))})"
            return ""


def as_json(status: Status) -> dict[str, Any]:
    """Return the state of one search as plain values; times are in seconds."""
    history, beat, is_alive = status.history, status.beat, status.alive
    tree: dict[str, Any] = {"name": status.name, "state": status.state, "output": str(status.output)}
    if status.problem:
        return tree | {"problem": status.problem}
    best = _best(history) if history.search else None
    finished = history.in_state("finished")
    waits_for = (
        {"why": beat.why, "text": beat.waits_for, "seconds": round(max(0.0, status.now - beat.since), 1)}
        if beat
        else {}
    )
    return tree | {
        "began": history.search.time if history.search else None,
        "last_event": history.last if history.search else None,
        "elapsed": round(status.elapsed, 1),
        "left": None if status.left is None else round(status.left, 1),
        "trials": tally(history),
        "progress": describe_progress(history) if history.search else "",
        "best": None if best is None else {"name": best[0], "value": best[1], "trial": best[2]},
        "hypervolume": covered(finished, history.objectives, history.constraints) if finished else None,
        "waits_for": waits_for if is_alive and beat and beat.waits_for else None,
        "ended": history.ended.reason if history.ended and not is_alive else None,
        "process": {"host": beat.host, "pid": beat.pid, "phase": beat.phase} if is_alive and beat else None,
        "metrics": beat.metrics if is_alive and beat and beat.metrics else None,
    }  # fmt: skip


def table(statuses: list[Status]) -> str:
    """Return a line for each search: name, state, progress, best, age, folder."""
    lines = [["search", "state", "progress", "best", "age", "folder"]]
    for status in statuses:
        history = status.history
        state = f"{status.state} (waits)" if status.alive and status.beat and status.beat.waits_for else status.state
        age = _ago(status.now - history.search.time).removesuffix(" ago") if history.search else "-"
        progress = describe_progress(history) if history.search else "-"
        best = best_of(history) if history.search else ""
        lines.append([status.name, state, progress, best or "-", age, str(status.output)])
    return align(lines, right=0)


def _ago(seconds: float) -> str:
    """Return a time span in its largest unit, such as "3 h ago"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"

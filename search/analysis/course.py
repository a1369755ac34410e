"""How a search went over time: the hypervolume of its front, the work of its slots, and where the time went."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.analysis.front import reference, values
from search.analysis.pareto import Objectives, front, hypervolume
from search.ledger.events import Stopped
from search.ledger.history import History, Trial


@dataclass(frozen=True)
class Moment:
    """The front after one more finished trial."""

    trial: int
    finished: int
    """number of finished trials"""
    seconds: float
    """since the search began"""
    gpu_hours: float
    """of all epochs that ended until then"""
    hypervolume: float


@dataclass(frozen=True)
class Attempt:
    """One attempt to train: from its start until it ended or was taken up again."""

    trial: int
    lane: int
    """the row in a timeline; attempts in one lane do not overlap"""
    start: float
    """seconds since the search began"""
    end: float


def moments(history: History, objectives: Objectives, constraints: Mapping[str, Any]) -> list[Moment]:
    """Return the hypervolume after each finished trial, in the order of their ends.

    All are measured from one reference point, that of the whole search, so they can be compared.
    """
    ended = [(trial.end.time, trial) for trial in history.in_state("finished") if trial.end]
    ended.sort(key=lambda pair: pair[0])
    point = reference([trial for _, trial in ended], objectives, constraints)
    directions = list(objectives.values())
    # Before a trial ends, other trials have used GPUs as well: sum epochs in the order of their ends.
    epochs = sorted(
        (report.time, report.seconds * gpus)
        for trial in history.trials.values()
        for gpus in [trial.starts[-1].gpus if trial.starts else 0.0]
        for report in trial.reports
    )
    found: list[Moment] = []
    best: list[Trial] = []
    used, at = 0.0, 0
    for n, (time, trial) in enumerate(ended, start=1):
        while at < len(epochs) and epochs[at][0] <= time:
            used += epochs[at][1]
            at += 1
        candidates = [*best, trial]
        best = [candidates[index] for index in front(values(candidates, objectives), directions)]
        volume = hypervolume(values(best, objectives), point, directions)
        found.append(Moment(trial.number, n, time - history.began.time, used / 3600, volume))
    return found


def attempts(history: History) -> list[Attempt]:
    """Return all attempts, each in the first lane that was free when it started.

    A ledger has no names of machines; with n trials at once there are n lanes.
    """
    spans = []
    began = history.began.time
    for trial in [*history.trials.values(), *history.extras.values()]:
        for n, start in enumerate(trial.starts):
            following = trial.starts[n + 1] if n + 1 < len(trial.starts) else None
            reports = [
                report for report in trial.reports
                if report.time >= start.time and (following is None or report.time < following.time)
            ]  # fmt: skip
            end = reports[-1].time if reports else start.time
            if following is None and trial.end is not None:
                end = trial.end.time
            spans.append((start.time - began, max(start.time, end) - began, trial.number))
    free: list[float] = []
    found = []
    for start, end, number in sorted(spans):
        lane = next((n for n, time in enumerate(free) if time <= start), len(free))
        free[lane : lane + 1] = [end]
        found.append(Attempt(number, lane, start, end))
    return found


#: what trainings were for, in the order of a chart
PURPOSES = ("on the front", "not on the front", "stopped early", "failed", "running", "bases", "fresh seeds")


def compute(history: History, on_front: set[int]) -> dict[str, tuple[int, float, float]]:
    """Return what the epochs of trainings were spent on: number of trainings, seconds and GPU-seconds, by purpose.

    Epochs that were lost to a failure are not in a ledger, and so not counted.
    """
    spent: dict[str, tuple[int, float, float]] = {}
    for purpose in PURPOSES:
        spent[purpose] = (0, 0.0, 0.0)
    for trial in [*history.trials.values(), *history.extras.values()]:
        purpose = _purpose(trial, on_front)
        number, seconds, gpu_seconds = spent[purpose]
        gpus = trial.starts[-1].gpus if trial.starts else 0.0
        spent[purpose] = (number + 1, seconds + trial.seconds, gpu_seconds + gpus * trial.seconds)
    return {purpose: entry for purpose, entry in spent.items() if entry[0]}


def _purpose(trial: Trial, on_front: set[int]) -> str:
    if trial.base:
        return "bases"
    if trial.confirms is not None:
        return "fresh seeds"
    if trial.number in on_front:
        return "on the front"
    if isinstance(trial.end, Stopped):
        return "stopped early"
    return {"proposed": "running", "finished": "not on the front"}.get(trial.state, trial.state)

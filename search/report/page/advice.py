"""What to try next after a search, in sentences with commands."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.analysis.certainty import Certainty
from search.analysis.choices import Choice
from search.analysis.course import Moment
from search.analysis.equal_cost import FEW_RUNS
from search.ledger.history import EXHAUSTED, History
from search.report.wording.certainty import CONFIRM, doubt, resume_command
from search.report.wording.program import program

#: part of the finished trials that counts as the end of a search
_LAST = 0.25
#: growth of the hypervolume in that part from which a search still improved
_GROWTH = 0.01
#: options that are named
_NAMED = 5
#: share of a limit from which a model is at it
_AT_LIMIT = 0.9


@dataclass(frozen=True)
class Advice:
    """One thing to do."""

    what: str
    why: str
    command: str = ""


def advice(
    history: History, sure: Certainty, choices: Sequence[Choice], course: Sequence[Moment], run: str
) -> list[Advice]:
    """Return what to do next, most urgent first. ``run`` is the search as a user names it."""
    steps: list[Advice] = []
    if history.ended is None or history.ended.reason == "interrupted":
        if history.unfinished():
            steps.append(
                Advice("Let the search end.", f"{len(history.unfinished())} runs have not ended.", resume_command())
            )
        if history.ended is not None and not history.unfinished():
            steps.append(Advice("Go on with the search.", "It was interrupted.", resume_command()))
    if sure.front and not sure.is_confirmed:
        steps.append(
            Advice("Train the best models again with fresh seeds.", doubt(sure), resume_command(change=CONFIRM))
        )
    steps += _larger_budget(history, course)
    steps += _wider(history, sure)
    if few := _few(choices, {trial.number for trial in history.in_state("finished", "stopped")}):
        steps.append(
            Advice(
                "Give rarely tried options more runs.",
                f"Fewer than {FEW_RUNS} runs have {few}; little can be said about them.",
                resume_command(change=f"search.budget.trials={_more(history)}"),
            )
        )
    if sure.best and sure.knee:
        rule = "knee" if sure.knee.number != sure.best.number else "best"
        out = str(Path(f"{rule}.yaml"))
        command = shlex.join([program(), "export", run, "--pick", rule, "--out", out])
        steps.append(
            Advice(
                f"Train the {rule} at full length.",
                "Trials are short trainings; the choice among them is what a search gives.",
                f"{command} && {shlex.join([program(), 'train', out])}",
            )
        )
    return steps


def _more(history: History) -> int:
    return 2 * len(history.trials)


def _larger_budget(history: History, course: Sequence[Moment]) -> list[Advice]:
    if len(course) < 2 / _LAST or (history.ended and history.ended.reason == EXHAUSTED):
        return []
    growth = still_growing(course)
    if growth is None:
        return []
    command = resume_command(change=f"search.budget.trials={_more(history)}")
    last = max(1, round(_LAST * len(course)))
    why = f"The front still improved: the last {last} finished runs added {100 * growth:.0f} % to its hypervolume."
    return [Advice("Search longer.", why, command)]


def still_growing(course: Sequence[Moment]) -> float | None:
    """Return by which part the hypervolume grew over the last quarter of the finished trials; None below 1 %."""
    if not course:
        return None
    before = course[-1 - max(1, round(_LAST * len(course)))].hypervolume if len(course) > 1 else 0.0
    growth = course[-1].hypervolume / before - 1 if before > 0 else 0.0
    return growth if growth >= _GROWTH else None


def _wider(history: History, sure: Certainty) -> list[Advice]:
    """Return advice where the best model is at a limit of cost."""
    if sure.best is None:
        return []
    steps = []
    limits: Mapping[str, Any] = history.constraints
    for name, limit in limits.items():
        top = (limit or {}).get("max")
        value = sure.best.cost.get(name)
        if top is not None and value is not None and value > _AT_LIMIT * top:
            why = f"The best model has {name} {value:.4g}; the limit is {top:g}."
            steps.append(Advice(f"Allow a higher {name}.", why))
    return steps


def _few(choices: Sequence[Choice], ended: set[int]) -> str:
    """Return the options of which fewer than `FEW_RUNS` runs have ended, in words; empty if there are none."""
    rare = []
    for choice in choices:
        for index, option in enumerate(choice.options):
            if sum(number in ended and taken == index for number, taken in choice.taken.items()) < FEW_RUNS:
                rare.append(f"{choice.name} {option}")
    more = f" and {len(rare) - _NAMED} other options" if len(rare) > _NAMED else ""
    return ", ".join(rare[:_NAMED]) + more

"""The front of a search: which trials are best at their cost, how much they cover, and which one to take."""

import math
from collections.abc import Sequence
from typing import Any

from search.analysis.front import front_of, reference, values
from search.analysis.pareto import Objectives, hypervolume
from search.analysis.pick import pick
from search.analysis.states import counts, tally
from search.ledger.history import History, Trial
from search.report.describe import describe, shown


def table(trials: Sequence[Trial], objectives: Objectives) -> list[dict[str, Any]]:
    """Return one plain row a trial: its number, objectives, further cost, seconds of training and description."""
    return [
        {"trial": trial.number}
        | {name: trial.metrics.get(name, math.nan) for name in [*objectives, *trial.cost]}
        | {"seconds": round(trial.seconds, 1), "description": describe(trial), "identity": trial.identity}
        for trial in trials
    ]


def as_json(history: History, objectives: Objectives) -> dict[str, Any]:
    """Return the front for machines: the search's name, objectives, trials by state, hypervolume and the rows."""
    finished = history.in_state("finished")
    at, shown_front = reference(finished, objectives, history.constraints), front_of(history, objectives)
    return {
        "name": history.began.name,
        "objectives": dict(objectives),
        "trials": tally(history),
        "hypervolume": hypervolume(values(shown_front, objectives), at, list(objectives.values())),
        "reference": at,
        "front": table(shown_front, objectives),
    }


def render(history: History, objectives: Objectives) -> str:
    """Return the front as a table for people, cheapest first, with the picks marked; one line where there is none."""
    trials = front_of(history, objectives)
    if not trials:
        return f"no trial is finished yet: {counts(history)}"
    picks = {rule: pick(history, objectives, rule).number for rule in ("best", "knee")}
    names = list(dict.fromkeys([*objectives, *trials[0].cost]))
    rows = [["trial", *names, "", "model"]]
    for trial in trials:
        numbers = [shown(name, trial.metrics[name]) for name in names]
        marks = " ".join(rule for rule, number in picks.items() if number == trial.number)
        rows.append([str(trial.number), *numbers, marks, describe(trial)])
    return aligned(rows, right=len(names) + 1)


def aligned(rows: Sequence[Sequence[str]], right: int) -> str:
    """Return rows of cells as a text whose first ``right`` columns end at one place, and the others begin there."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if n < right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)

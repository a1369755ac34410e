"""The front of a search as a table for people, and as plain values for other programs.

Once the front was confirmed, the table has all retrained trials instead (`search.report.tables.confirmation`).
"""

import math
from collections.abc import Sequence
from typing import Any

from search.analysis.certainty import Certainty, certainty
from search.analysis.front import front_of, reference, values
from search.analysis.intervals import LEVEL, num_clips
from search.analysis.pareto import Objectives, hypervolume
from search.analysis.states import counts, tally
from search.ledger.history import History, Trial
from search.report.tables.columns import align
from search.report.tables.confirmation import confirmation_as_json, render_confirmation
from search.report.wording.certainty import describe_pick, measured_on
from search.report.wording.trials import ANOTHER_TRAINING, describe, is_another_training, parts
from search.report.wording.values import format_metric, format_range


def as_json(history: History, objectives: Objectives) -> dict[str, Any]:
    """Return the front as plain values: the search's name, objectives, trials by state, hypervolume and rows.

    "intervals" has the 95 % interval of the measured objective by trial, where it is known. "confirmation" has the
    results of fresh seeds (`confirmation_as_json`), or None until the front is confirmed.
    """
    finished = history.in_state("finished")
    at, front = reference(finished, objectives, history.constraints), front_of(history, objectives)
    sure = certainty(history, objectives)
    return {
        "name": history.name,
        "objectives": dict(objectives),
        "trials": tally(history),
        "hypervolume": hypervolume(values(front, objectives), at, list(objectives.values())),
        "reference": at,
        "front": rows(front, objectives),
        "intervals": {
            str(trial.number): [estimate.low, estimate.high]
            for trial in front
            if (estimate := sure.estimates[trial.number]).is_known
        },
        "confirmation": None if sure.confirmed is None else confirmation_as_json(sure.confirmed),
    }


def rows(trials: Sequence[Trial], objectives: Objectives) -> list[dict[str, Any]]:
    """Return a plain row for each trial: number, objectives, other costs, training seconds, description, identity.

    A trial that was trained in another way than its config describes, for lack of GPU memory, has the number of parts
    of its steps as ``parts``.
    """
    return [
        {"trial": trial.number}
        | {name: trial.metrics.get(name, math.nan) for name in [*objectives, *trial.cost]}
        | {"seconds": round(trial.seconds, 1), "description": describe(trial), "identity": trial.identity}
        | ({"parts": parts(trial)} if is_another_training(trial) else {})
        for trial in trials
    ]


def render(history: History, objectives: Objectives, sure: Certainty | None = None) -> str:
    """Return the front as a table in order of increasing cost, with the picks "best" and "knee" marked.

    Where the number of clips is known, it has intervals, and says what the picks differ from. Returns one line if no
    trial is finished, and the table of `render_confirmation` if the front was confirmed. ``sure`` is what `certainty`
    returns, where it is computed already.
    """
    sure = sure or certainty(history, objectives)
    trials = sure.front
    picks = {rule: trial.number for rule, trial in sure.picks.items()}
    if sure.confirmed:
        return "\n".join([render_confirmation(sure.confirmed, objectives, picks), *_picks(sure)])
    if not trials:
        return f"no trial is finished yet: {counts(history)}"
    names = list(dict.fromkeys([*objectives, *trials[0].cost]))
    known = any(sure.estimates[trial.number].is_known for trial in trials)
    interval = f"{sure.name} {100 * LEVEL:.0f} %"
    heads = [head for name in names for head in ([name, interval] if known and name == sure.name else [name])]
    lines = [["trial", *heads, "", "model"]]
    for trial in trials:
        numbers = []
        for name in names:
            # Trials of an earlier version may lack a cost.
            numbers.append(format_metric(name, trial.metrics.get(name, math.nan)))
            if known and name == sure.name:
                numbers.append(format_range(name, sure.estimates[trial.number]))
        lines.append([str(trial.number), *numbers, sure.marks(trial), describe(trial)])
    notes = [ANOTHER_TRAINING] if any(map(is_another_training, trials)) else []
    if known:
        size = measured_on(sure.name, num_clips(history) or 0)
        notes = ["", f"{interval}: the interval by the {size}; each model was trained once", *notes]
    return "\n".join([align(lines, right=len(heads) + 1), *notes, *_picks(sure)])


def _picks(sure: Certainty) -> list[str]:
    """Return a line for each pick: what it differs from significantly, where that is known."""
    lines = [f"{rule}: {text}" for rule, trial in sure.picks.items() if (text := describe_pick(sure, trial))]
    return lines[:1] if sure.best and sure.knee and sure.best.number == sure.knee.number else lines

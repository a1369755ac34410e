"""How sure a front is, in sentences: what the picks differ from, and whether its best should be trained again."""

import shlex
from collections.abc import Sequence

from search.analysis.certainty import Certainty
from search.ledger.history import Trial
from search.report.wording.program import program
from search.report.wording.values import format_gain, significance

#: trials, or steps, that a sentence names
NAMED = 5
#: the change of a spec that trains its best trials again
CONFIRM = "search.confirm={top: 3, seeds: 2}"


def resume_command(spec: Sequence[str] = ("SPEC",), change: str = "") -> str:
    """Return the command that continues a search, with a ``change`` of its spec; ``spec`` is its file and changes."""
    return shlex.join([program(), "run", *spec, "--resume", *(["--set", change] if change else [])])


def name_trials(numbers: Sequence[int]) -> str:
    """Return "trial 1", "trials 1, 2", or the first of many and how many more there are."""
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:NAMED]))}{more}"


def measured_on(name: str, number: int) -> str:
    """Return on how many examples the metric ``name`` was measured: clips, or actions where they are detected."""
    return f"{number:,} validation {'actions' if name == 'map' else 'clips'}"


def describe_pick(sure: Certainty, trial: Trial) -> str:
    """Return what a trial of the front gains over the one before it, and from which others it differs significantly.

    It is empty where no interval is known.
    """
    parts = []
    step = next((step for step in sure.steps if step.better.number == trial.number), None)
    if step is not None and step.gain.is_known:
        verdict = significance(step.gain.excludes_zero)
        parts.append(f"{format_gain(sure.name, step.gain)} over trial {step.cheaper.number}, {verdict}")
    if rivals := sure.rivals.get(trial.number):
        parts.append(f"at no higher cost it is not significantly different from {name_trials(rivals)}")
    elif trial.number in sure.cheapest:
        parts.append("no other trial costs as little")
    elif sure.estimates[trial.number].is_known:
        parts.append("it is significantly better than every other trial of no higher cost")
    return "; ".join(parts)


def lies_within_noise(sure: Certainty) -> bool:
    """Return whether a front of single trainings has a step, or a pick a rival, without a significant difference."""
    picks = {trial.number for trial in sure.picks.values()}
    return not sure.is_confirmed and bool(sure.unsure or any(sure.rivals.get(number) for number in picks))


def doubt(sure: Certainty) -> str:
    """Return in sentences which differences on the front are not significant; if all are, that seeds are not known."""
    parts = []
    if sure.unsure:
        steps = ", ".join(
            f"{step.better.number} over {step.cheaper.number} ({format_gain(sure.name, step.gain)})"
            for step in sure.unsure[:NAMED]
        )
        parts.append(f"{len(sure.unsure)} of {len(sure.steps)} steps of the front are not significant: trial {steps}.")
    for rule, trial in sure.picks.items():
        if (rivals := sure.rivals.get(trial.number)) and (rule == "best" or trial is not sure.best):
            parts.append(
                f"The {rule}, trial {trial.number}, is not significantly different from {name_trials(rivals)} at no "
                "higher cost."
            )
    return " ".join(parts) or "Each model was trained once, so nothing is known of the variation between seeds."

"""The summary that ends a run: the front, failures, where the results are, and the next commands."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from search.analysis.certainty import certainty
from search.analysis.pareto import Objectives
from search.analysis.undecided import undecided
from search.ledger.events import Failed
from search.ledger.history import EXHAUSTED, FAILING, LATE, History
from search.report.tables.front import render
from search.report.wording.certainty import CONFIRM, doubt, lies_within_noise, resume_command
from search.report.wording.earlier_searches import describe_trust
from search.report.wording.errors import first_line
from search.report.wording.program import program
from search.report.wording.states import describe_states
from search.report.wording.undecided import describe_undecided

#: why a search ended before its budget was spent
_ENDS = {
    EXHAUSTED: "the space has no other config within the limits; `vattn check` counts them",
    FAILING: "the first trials all failed",
    LATE: "no further trial could end within it",
}


def summary(history: History, objectives: Objectives, output: Path, spec: Sequence[str] = ("SPEC",)) -> str:
    """Return the end of a search in words: the front, failed trials, the folder ``output``, and the next commands.

    ``spec`` is the file of the search, and the words that change it. Where the front lies within noise, its
    confirmation is proposed; what else the search could not decide is named.
    """
    sure = certainty(history, objectives)
    lines = [f"{history.name}: {describe_states(history) or 'no trial was started'}"]
    if history.ended and history.ended.reason in _ENDS:
        lines.append(f"ended before its budget was spent: {_ENDS[history.ended.reason]}")
    lines += ["", render(history, objectives, sure), ""]
    lines += [f"earlier search {describe_trust(source, history.guards.get(source))}" for source in history.warm]
    for trial in [*history.trials.values(), *history.extras.values()]:
        if isinstance(trial.end, Failed):
            lines.append(f"trial {trial.number} failed: {first_line(trial.end.error)}")
    lines.append(f"results   {output}")
    if history.in_state("finished"):
        vattn = program()
        lines.append(f"picture   {output / 'pareto.html'}")
        folder = shlex.quote(str(output))
        uri = (history.began.spec.get("tracking") or {}).get("uri", "auto")
        store = "" if uri == "auto" else f" --tracking {shlex.quote(uri)}"
        if lies_within_noise(sure):
            lines += ["noise     " + doubt(sure), "          train the best again with fresh seeds, to be sure:"]
            lines.append(f"          {resume_command(spec, CONFIRM)}")
        left = describe_undecided(undecided(history, objectives, sure.name), sure.name)
        lines += [f"{'' if n else 'undecided':9} {line}" for n, line in enumerate(left)]
        lines.append(f"next      {vattn} report {folder} --out {shlex.quote(str(output / 'report.html'))}")
        lines.append(f"          {vattn} ui {folder}{store}")
        lines.append(f"          {vattn} export {folder} --pick knee --out best.yaml")
        lines.append(f"          {vattn} train best.yaml")
    return "\n".join(lines)

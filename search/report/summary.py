"""What a user sees while a search runs: a live table in a terminal, plain lines elsewhere, and a summary at the end."""

from pathlib import Path

from search.analysis.pareto import Objectives
from search.analysis.states import tally
from search.ledger.history import EXHAUSTED, FAILING, LATE, History
from search.report.confirmation import render
from search.report.words import STATE_WORDS, first_line, program, told_belief

#: why a search ended before its budget was spent
_ENDS = {
    EXHAUSTED: "nothing new within the limits was found in its space; `vattn check` counts what is there",
    FAILING: "its first trials all failed",
    LATE: "no further trial could end within it",
}


def final(history: History, objectives: Objectives, output: Path) -> str:
    """Return the end of a search in words: the front, what failed, where the results lie, and what to do next."""
    states = ", ".join(f"{count} {STATE_WORDS.get(state, state)}" for state, count in tally(history).items())
    lines = [f"{history.name}: {states or 'no trial was started'}"]
    if history.ended and history.ended.reason in _ENDS:
        lines.append(f"ended before its budget was spent: {_ENDS[history.ended.reason]}")
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

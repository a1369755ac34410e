"""What a search could not decide, in sentences."""

from search.analysis.undecided import Undecided
from search.report.wording.values import format_gain

#: pairs of options that are named
NAMED = 4


def describe_undecided(left: Undecided, name: str) -> list[str]:
    """Return a sentence for each pair of options, the first `NAMED` of them, and for each weak epoch.

    ``name`` is the measured objective.
    """
    lines = []
    for choice, gain in left.ties[:NAMED]:
        few = f", with only {gain.runs} and {gain.others} runs" if gain.has_few_runs else ""
        lines.append(
            f"{choice.name}: whether {gain.option} or {gain.against} is better "
            f"({format_gain(name, gain.gain)} at equal cost{few})"
        )
    if more := len(left.ties) - NAMED:
        lines += [f"and {more} more pair{'s' * (more > 1)} of options"] if more > 0 else []
    for weak in left.epochs:
        lines.append(
            f"whether the {weak.stopped} trial{'s' * (weak.stopped > 1)} stopped after epoch {weak.epoch} would have "
            f"ended well: its order says little about the end (rank correlation {weak.correlation:.2f} at equal cost, "
            f"of {weak.finished} finished trials); a higher search.scheduler.min_epochs stops later"
        )
    return lines

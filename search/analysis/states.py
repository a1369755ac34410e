"""Count the trials of a search by state."""

from typing import get_args

from search.ledger.history import History, State


def tally(history: History) -> dict[State, int]:
    """Return the number of trials in each state, in the order of a trial's life; states without trials are left out."""
    states = [trial.state for trial in history.trials.values()]
    return {state: states.count(state) for state in get_args(State) if state in states}


def counts(history: History) -> str:
    """Return `tally` as text, such as "2 running, 5 finished"."""
    return ", ".join(f"{count} {state}" for state, count in tally(history).items()) or "no trial is proposed"

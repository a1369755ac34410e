"""How many trials of a search are in each state."""

from typing import get_args

from search.ledger.history import History, State


def tally(history: History) -> dict[State, int]:
    """Return how many trials are in each state that occurs."""
    states = [trial.state for trial in history.trials.values()]
    return {state: states.count(state) for state in get_args(State) if state in states}


def counts(history: History) -> str:
    """Return `tally` in words, such as "2 running, 5 finished"."""
    return ", ".join(f"{count} {state}" for state, count in tally(history).items()) or "no trial is proposed"

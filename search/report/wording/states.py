"""The states of trials in words."""

from search.analysis.states import tally
from search.ledger.history import History, State

#: states that have another name in reports
_WORDS = {"stopped": "stopped early", "proposed": "waiting"}


def describe_state(state: State) -> str:
    """Return a trial's state in words: "waiting" before it starts, "stopped early" by the scheduler."""
    return _WORDS.get(state, state)


def describe_states(history: History) -> str:
    """Return how many trials are in each state, such as "1 waiting, 2 finished"; empty if there is no trial."""
    return ", ".join(f"{count} {describe_state(state)}" for state, count in tally(history).items())

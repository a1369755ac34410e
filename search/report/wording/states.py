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


def describe_done(history: History) -> str:
    """Return how much has ended, and the trials by state, such as "5 of 16 trials done (3 running, 5 finished)"."""
    states = describe_states(history)
    return f"{describe_progress(history)} done{f' ({states})' if states else ''}"


def describe_progress(history: History) -> str:
    """Return how much has ended, such as "5 of 16 trials"; while the front is confirmed, "5 of 16 fresh seeds"."""
    retrainings = [trial for trial in history.extras.values() if trial.confirms is not None]
    # The newest trial shows which phase it is: with a raised budget, trials follow the confirmation.
    if retrainings and retrainings[-1].number > max(history.trials):
        return f"{sum(trial.end is not None for trial in retrainings)} of {len(retrainings)} fresh seeds"
    ended = len(history.in_state("finished", "stopped", "failed"))
    budget = history.budget.get("trials")
    return f"{ended} of {budget} trials" if budget else f"{ended} trial{'' if ended == 1 else 's'}"

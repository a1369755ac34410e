"""Confirmation: the trials of the front, and those that just miss it, are trained again with fresh seeds."""

from search.analysis.confirmation import plan
from search.ledger.events import Inherited, Proposed
from search.ledger.history import History
from search.proposals.trainings import proposed
from search.spec.schema import Spec
from vattn.config import TrialConfig


def retrainings(spec: Spec, history: History) -> list[Proposed | Inherited]:
    """Return the events that propose all retrainings that ``search.confirm`` still asks for, in order.

    A retraining starts with the same weights as the trial that it confirms. The list is empty while trials of the
    search are unfinished, and when nothing is left to confirm.
    """
    confirm = spec.search.confirm
    if confirm == "none":
        return []
    events: list[Proposed | Inherited] = []
    planned = plan(history, spec.objectives, confirm.top, confirm.seeds)
    for number, (trial, seed) in enumerate(planned, start=history.next_number):
        config = TrialConfig.parse(trial.config | {"train": trial.config["train"] | {"seed": seed}})
        events.append(proposed(number, config, trial.cost, trial.params, confirms=trial.number))
        if trial.inherits:
            events.append(Inherited(trial=number, source=trial.inherits.source, reason=trial.inherits.reason))
    return events

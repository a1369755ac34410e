"""The event that proposes a training."""

from typing import Any

from search.ledger.events import Proposed
from vattn.canonical import architecture_id, trial_id
from vattn.config import TrialConfig


def proposed(
    number: int, config: TrialConfig, cost: dict[str, float], params: dict[str, Any], **fields: Any
) -> Proposed:
    """Return the event that proposes a training.

    Args:
        number: the number of the training.
        config: its complete config.
        cost: the cost of its model.
        params: the choices in the space that gave the config.
        fields: ``why`` for a trial of the search, ``confirms`` for a retraining, ``base`` for a base.
    """
    return Proposed(
        trial=number, params=params, config=config.tree(), identity=trial_id(config),
        architecture=architecture_id(config.model), cost=cost, **fields,
    )  # fmt: skip

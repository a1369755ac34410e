"""Inheritance: which trial's weights another one starts with."""

from collections.abc import Mapping
from typing import Any

from search.ledger.history import History, Trial
from vattn.config import TrialConfig


def base_of(config: TrialConfig, plain: TrialConfig) -> TrialConfig:
    """Return the training of the same model without mechanisms; data and training are those of ``plain``."""
    return plain.model_copy(update={"model": config.model.model_copy(update={"attention": ()})})


def nearest(history: History, trial: Trial) -> tuple[Trial, int] | None:
    """Return the finished trial of the same backbone that differs in the fewest choices, the newest of equals.

    And in how many it differs; a choice that only one of the two had to make counts. None where there is no such trial.
    """
    backbone = trial.config["model"]["backbone"]
    able = [other for other in history.in_state("finished") if other.config["model"]["backbone"] == backbone]
    if not able:
        return None
    found = min(able, key=lambda other: (_differing(trial.params, other.params), -other.number))
    return found, _differing(trial.params, found.params)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    absent = object()
    return sum(one.get(name, absent) != other.get(name, absent) for name in one.keys() | other.keys())

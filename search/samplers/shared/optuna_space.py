"""A space's ranges as Optuna's distributions: options and subsets are categorical, by their labels."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from spaces.space import Choice, Domain, Float, Int, Params, Space, Subset, Tree

#: a subset is one categorical parameter to Optuna, which slows down with the number of its values
MOST_SUBSETS = 1_024


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the distribution of each range; raises ValueError for a subset of too many values."""
    return {name: _distribution(name, domain) for name, domain in space.domains.items()}


def _distribution(name: str, domain: Domain) -> BaseDistribution:
    match domain:
        case Choice(labels=labels):
            return CategoricalDistribution(labels)
        case Int(lo=lo, hi=hi, step=step, log=log):
            return IntDistribution(lo, hi, log=log, step=step)
        case Float(lo=lo, hi=hi, step=step, log=log):
            return FloatDistribution(lo, hi, log=log, step=step)
        case Subset():
            if domain.count > MOST_SUBSETS:
                raise ValueError(
                    f"{name}: a sampler can choose among at most {MOST_SUBSETS} subsets; name fewer items, or narrow "
                    f"min and max (got {domain.count})"
                )
            return CategoricalDistribution(tuple(_subsets(domain)))
    raise AssertionError(domain)


def suggest(space: Space, trial: optuna.Trial) -> tuple[Params, Tree]:
    """Return the params and the config that a trial's sampler chooses; only active ranges are asked for."""
    params: Params = {}

    def choose(name: str, domain: Domain) -> Any:
        params[name] = from_optuna(domain, trial._suggest(name, _distribution(name, domain)))
        return params[name]

    return params, space.resolve(choose)


def fixed_params(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return params as Optuna knows them, to be enqueued or proposed; raises ValueError where they are of no config."""
    space.replay(params)
    return {name: to_optuna(space.domains[name], value) for name, value in params.items()}


def to_optuna(domain: Domain, value: Any) -> Any:
    """Return a range's value as Optuna knows it."""
    match domain:
        case Choice(labels=labels):
            return labels[value]
        case Subset(labels=labels):
            return "+".join(labels[index] for index in value) or "none"
        case _:
            return value


def from_optuna(domain: Domain, value: Any) -> Any:
    """Return Optuna's value as the range has it."""
    match domain:
        case Choice(labels=labels):
            return labels.index(value)
        case Subset():
            return _subsets(domain)[value]
        case _:
            return value


@cache
def _subsets(domain: Subset) -> dict[str, tuple[int, ...]]:
    return {to_optuna(domain, value): value for value in domain.values()}

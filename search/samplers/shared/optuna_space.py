"""A space's ranges as Optuna's distributions. Options and subsets are categorical, by their labels."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from spaces.space import Choice, Domain, Float, Int, Params, Space, Subset, Tree
from vattn.errors import UserError

#: largest number of subsets of one range: each is a category, and Optuna slows down with their number
MAX_SUBSETS = 1_024


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the distribution of each range, by name.

    Raises ValueError for a subset with more than `MAX_SUBSETS` values.
    """
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
            if domain.count > MAX_SUBSETS:
                raise UserError(
                    f"a sampler can choose among at most {MAX_SUBSETS} subsets",
                    path=name,
                    way_out="name fewer items, or narrow min and max",
                    found=domain.count,
                )
            return CategoricalDistribution(tuple(_subsets(domain)))
    raise AssertionError(domain)


def suggest(space: Space, trial: optuna.Trial) -> tuple[Params, Tree]:
    """Return the params and the config that the trial's sampler chooses; only active ranges are suggested."""
    params: Params = {}

    def choose(name: str, domain: Domain) -> Any:
        params[name] = from_optuna(domain, trial._suggest(name, _distribution(name, domain)))
        return params[name]

    return params, space.resolve(choose)


def fixed_params(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return params in Optuna's form, to enqueue or to propose; raises ValueError if they give no config."""
    space.replay(params)
    return {name: to_optuna(space.domains[name], value) for name, value in params.items()}


def to_optuna(domain: Domain, value: Any) -> Any:
    """Return the value of a range in Optuna's form: the label of an option or a subset, or the number."""
    match domain:
        case Choice(labels=labels):
            return labels[value]
        case Subset(labels=labels):
            return "+".join(labels[index] for index in value) or "none"
        case _:
            return value


def from_optuna(domain: Domain, value: Any) -> Any:
    """Return Optuna's value in the form of the range: the index of an option, indices of a subset, or the number."""
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

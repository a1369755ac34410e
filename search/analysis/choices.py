"""The choices of a search space as groups of options into which its trials fall.

A choice among options is one choice. A subset is one for each of its items: with it, or without. A range of numbers
with many values is divided into three parts with about equally many trials.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.ledger.history import Trial
from spaces.space import Choice as ChoiceDomain
from spaces.space import Domain, Space, SpaceError, Subset

#: numbers of a range up to which each is an option of its own
MAX_OPTIONS = 6
#: parts of a range with more
PARTS = 3


@dataclass(frozen=True)
class Choice:
    """One thing that a search chooses, and what its trials have."""

    name: str
    """short, such as "tam: alpha" """
    options: tuple[str, ...]
    """in the order of the space"""
    taken: Mapping[int, int]
    """the index of a trial's option, by trial number; trials in which the choice is not active are missing"""


def choices_of(spec: Mapping[str, Any], trials: Sequence[Trial]) -> list[Choice]:
    """Return the choices of the space in ``spec`` that these trials have, in the order of the space.

    A choice with one option is left out. Where the space cannot be read, the options are those that trials have.
    """
    domains = domains_of(spec)
    names = ranges_of(domains, trials)
    short = _short_names([*domains, *(name for name in names if name not in domains)])
    choices: list[Choice] = []
    for name in names:
        values = {trial.number: trial.params[name] for trial in trials if name in trial.params}
        choices += _choices(short[name], domains.get(name), values)
    return [choice for choice in choices if len(choice.options) > 1]


def ranges_of(domains: Mapping[str, Domain], trials: Sequence[Trial]) -> list[str]:
    """Return the names of the ranges that trials have, in the order of the space; those that it lacks are last."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    order = {name: n for n, name in enumerate(domains)}
    return sorted(names, key=lambda name: order.get(name, len(order)))


def domains_of(spec: Mapping[str, Any]) -> dict[str, Domain]:
    """Return the ranges of the space of a spec, by name; none if it cannot be read."""
    try:
        return dict(Space(spec.get("trial") or {}, ("trial",)).domains)
    except SpaceError:
        return {}


def _choices(name: str, domain: Domain | None, values: dict[int, Any]) -> list[Choice]:
    match domain:
        case ChoiceDomain(shown=shown):
            return [Choice(name, tuple(map(_label, shown)), values)]
        case Subset(labels=labels):
            return [
                Choice(f"{name} {item}", ("without", "with"), {n: int(i in value) for n, value in values.items()})
                for i, item in enumerate(labels)
            ]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()):
        return [_numbers(name, values)]
    options = list(dict.fromkeys(map(str, values.values())))
    return [Choice(name, tuple(options), {n: options.index(str(value)) for n, value in values.items()})]


def _numbers(name: str, values: dict[int, float]) -> Choice:
    distinct = sorted(set(values.values()))
    if len(distinct) <= MAX_OPTIONS:
        options = tuple(f"{value:.4g}" for value in distinct)
        return Choice(name, options, {n: distinct.index(value) for n, value in values.items()})
    edges = np.quantile(list(values.values()), [n / PARTS for n in range(1, PARTS)], method="lower").tolist()
    middle = [f"{low:.2g} to {high:.2g}" for low, high in itertools.pairwise(edges)]
    options = (f"up to {edges[0]:.2g}", *middle, f"above {edges[-1]:.2g}")
    # Of several equal edges, as many trials have one value, the parts between are empty.
    return Choice(name, options, {n: int(np.searchsorted(edges, value)) for n, value in values.items()})


def _label(label: str) -> str:
    return "none" if label == "" else label


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Return a short unique name for each range: its last key, after the option that it belongs to."""
    parts = {name: [part for part in re.split(r"[./\[\]]+", name) if part] for name in names}

    def shortened(name: str) -> str:
        option = name.rpartition("/")[0].rpartition("/")[2]
        last = parts[name][-1]
        tail = f"{parts[name][-2]} {last}" if (last.isdigit() or last == "times") and len(parts[name]) > 1 else last
        return f"{option}: {tail}" if option else tail

    short = {name: shortened(name) for name in names}
    count = {text: list(short.values()).count(text) for text in short.values()}
    return {name: text if count[text] == 1 else ".".join(parts[name]) for name, text in short.items()}

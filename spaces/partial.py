"""Configs that a user names by some of their values; the others are those of the baseline."""

from collections.abc import Iterator, Mapping
from typing import Any

from spaces.compiler import label_of, name_part
from spaces.domain import Choice, Domain, Subset
from spaces.problem import Path, Problem, SpaceError, Tree, shown, unknown_range
from spaces.space import Params, Space


def complete(space: Space, partial: Mapping[str, Tree], path: Path = ()) -> Params:
    """Return the params of the config with these values, and those of the baseline (`Space.plain`) elsewhere.

    A value that belongs to an option or item selects it: ``model.attention/tam/alpha: 2`` needs no
    ``model.attention: tam`` beside it.

    Args:
        space: the space.
        partial: values by the names of ranges, or by nested mappings of their parts. The value of a choice is its
            option or the option's label, that of a subset a list of items or labels.
        path: place of the values in their file; the paths of problems begin with it.

    Raises:
        SpaceError: a name or value is not in the space, or two of them exclude each other; it lists all problems.
    """
    given: Params = {}
    problems: list[Problem] = []
    for name, value in _flat(partial, space.domains):
        if name not in space.domains:
            problems.append(unknown_range(name, space.domains, path))
            continue
        try:
            given[name] = _value(space.domains[name], value)
        except ValueError as error:
            problems.append(Problem((*path, name), str(error), shown(value)))
    if problems:
        raise SpaceError(problems)
    implied = _implied(space.domains, given)
    params: Params = {}

    def choose(name: str, domain: Domain) -> Any:
        params[name] = given[name] if name in given else implied.get(name, domain.plain())
        return params[name]

    space.resolve(choose)
    if unused := [name for name in given if name not in params]:
        rule = "is not part of this config: another value excludes it; leave one of them out"
        raise SpaceError([Problem((*path, name), rule) for name in unused])
    return params


def _flat(tree: Mapping[str, Tree], domains: Mapping[str, Domain], prefix: str = "") -> Iterator[tuple[str, Tree]]:
    """Yield names of ranges with their values; a mapping at a name that is no range is a part of the name."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and name not in domains:
            yield from _flat(value, domains, f"{name}.")
        else:
            yield name, value


def _value(domain: Domain, value: Tree) -> Any:
    """Return a value as params have it. Raises ValueError if it is not in the domain."""
    match domain:
        case Choice(labels=labels):
            label = label_of(value) if isinstance(value, str | int | float | None) or value == [] else None
            if label not in labels:
                raise ValueError(f"is no value of this range; take one of {', '.join(labels)}")
            return labels.index(label)
        case Subset(labels=labels):
            names = [label_of(item) for item in value] if isinstance(value, list | tuple) else [None]
            least, most = domain.min, domain.max
            if not all(name in labels for name in names) or not least <= len(set(names)) <= most:
                raise ValueError(f"must be a list of {least} to {most} of {', '.join(labels)}")
            return tuple(index for index, label in enumerate(labels) if label in names)
        case _:
            return domain.member(value)


def _implied(domains: Mapping[str, Domain], given: Params) -> Params:
    """Return the values of the choices and subsets above the given ranges, by which these are active."""
    implied: Params = {}
    for name in given:
        parts = name.split("/")
        # In a name, the keys of ranges (even positions) alternate with the labels of options (odd positions).
        for place in range(1, len(parts), 2):
            outer = "/".join(parts[:place])
            domain = domains[outer]
            assert isinstance(domain, Choice | Subset), "only options and items have ranges of their own"
            index = [name_part(label) for label in domain.labels].index(parts[place])
            if isinstance(domain, Choice):
                implied[outer] = index
            else:
                items = sorted({*implied.get(outer, ()), index})
                rest = [item for item in range(len(domain.labels)) if item not in items]
                implied[outer] = tuple(sorted([*items, *rest[: max(0, domain.min - len(items))]]))[: domain.max]
    return implied

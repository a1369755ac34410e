"""Params of a space as points of a plane space: what a model of accuracy learns from."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.domain import Choice, Domain, Float, Int, Subset

#: so many ranges of one kind have columns for their mean
SEVERAL = 3


class Encoding:
    """Turns params into points, in which two values of a range are at most 1 apart.

    The options of a choice are all 1 apart; a number lies between 0 and 1, on a log scale where its range has one; a
    subset has a 0 or 1 for each item. A range that the choices so far leave inactive stands in its own middle, as far
    from each of its values as it can be: plain coordinates keep every kernel of their distances positive definite.

    Options of a choice that have a range of the same name and values in common, such as the stages of TAM and of TSM,
    share its columns: what is learnt of the one is a first guess for the other.

    Ranges of equal values whose names differ in numbers alone, such as the dilations of a network's layers, also have
    columns for the mean of those that are active: which values there are, and how many of each, often tells more than
    their order, and is learnt from fewer configs.
    """

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self._domains = dict(domains)
        groups: list[int] = []
        #: where each range's columns begin
        self._begin: dict[str, int] = {}
        middle: list[float] = []
        for name, domain in self._domains.items():
            twin = next((other for other in self._begin if self._same(name, other)), None)
            if twin is not None:
                self._begin[name] = self._begin[twin]
                continue
            self._begin[name] = len(groups)
            _append(domain, groups, middle)
        #: of ranges of one kind: their names, and the columns of their mean
        self._means: list[tuple[list[str], slice]] = []
        for names in self._kinds():
            begin = len(groups)
            _append(self._domains[names[0]], groups, middle)
            self._means.append((names, slice(begin, len(groups))))
        #: (columns): columns of one number belong together, and are scaled together; from 0
        self.groups: NDArray[np.intp] = np.array(groups, dtype=np.intp)
        self._middle: NDArray[np.float64] = np.array(middle)

    def _kinds(self) -> list[list[str]]:
        """Return the names of ranges that are several of one kind, and can all be active at once."""
        kinds: dict[tuple[str, str, Domain], list[str]] = defaultdict(list)
        for name, domain in self._domains.items():
            if _speaking(domain):
                options, _, own = name.rpartition("/")
                kinds[options, re.sub(r"\d+", "#", own), domain].append(name)
        return [names for names in kinds.values() if len(names) >= SEVERAL]

    def _same(self, name: str, other: str) -> bool:
        """Whether two ranges have equal values and stand in the same place below two options of one choice."""
        domain = self._domains[name]
        if domain != self._domains[other] or not _speaking(domain):
            return False
        # Ranges and the options that lead to the next one take turns.
        words, others = name.split("/"), other.split("/")
        if words[::2] != others[::2]:
            return False
        apart = next(i for i, (one, two) in enumerate(zip(words, others, strict=True)) if one != two)
        # Items of a subset can be active at once.
        return isinstance(self._domains["/".join(words[:apart])], Choice)

    def __call__(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return the point (columns) of one config's params."""
        point = self._middle.copy()
        for name, value in params.items():
            domain, begin = self._domains[name], self._begin[name]
            match domain:
                case Choice(labels=labels):
                    point[begin : begin + len(labels)] = 0.0
                    point[begin + value] = 1 / np.sqrt(2)
                case Subset(labels=labels):
                    point[begin : begin + len(labels)] = 0.0
                    point[[begin + index for index in value]] = 1.0
                case Int() | Float():
                    point[begin] = _share(domain, value)
        for names, columns in self._means:
            width = columns.stop - columns.start
            if active := [self._begin[name] for name in names if name in params]:
                point[columns] = np.mean([point[begin : begin + width] for begin in active], axis=0)
        return point


def _speaking(domain: Domain) -> bool:
    """Whether equal values of two such ranges are known to be the same; options without a name are only counted."""
    return not (isinstance(domain, Choice) and domain.labels == tuple(map(str, range(len(domain.labels)))))


def _append(domain: Domain, groups: list[int], middle: list[float]) -> None:
    """Append a range's columns: with which others each is scaled, and where it stands when the range is inactive."""
    first = groups[-1] + 1 if groups else 0
    match domain:
        case Choice(labels=labels):
            # Two unit vectors are sqrt(2) apart.
            groups += [first] * len(labels)
            middle += [1 / len(labels) / np.sqrt(2)] * len(labels)
        case Subset(labels=labels):
            groups += range(first, first + len(labels))
            middle += [0.5] * len(labels)
        case _:
            groups.append(first)
            middle.append(0.5)


def _share(domain: Int | Float, value: float) -> float:
    """Return where in its range a number lies, from 0 to 1."""
    if domain.lo == domain.hi:
        return 0.5
    if domain.log:
        return float(np.log(value / domain.lo) / np.log(domain.hi / domain.lo))
    return (value - domain.lo) / (domain.hi - domain.lo)

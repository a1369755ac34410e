"""Params of a space as points of a plane space: what a model of accuracy learns from."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.domain import Choice, Domain, Float, Int, Subset


class Encoding:
    """Turns params into points, in which two values of a range are at most 1 apart.

    The options of a choice are all 1 apart; a number lies between 0 and 1, on a log scale where its range has one; a
    subset has a 0 or 1 for each item. A range that the choices so far leave inactive stands in its own middle, as far
    from each of its values as it can be: plain coordinates keep every kernel of their distances positive definite.

    Options of a choice that have a range of the same name and values in common, such as the stages of TAM and of TSM,
    share its columns: what is learnt of the one is a first guess for the other.
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
        #: (columns): columns of one number belong together, and are scaled together; from 0
        self.groups: NDArray[np.intp] = np.array(groups, dtype=np.intp)
        self._middle: NDArray[np.float64] = np.array(middle)

    def _same(self, name: str, other: str) -> bool:
        """Whether two ranges have equal values and stand in the same place below two options of one choice."""
        domain = self._domains[name]
        if domain != self._domains[other]:
            return False
        if isinstance(domain, Choice) and domain.labels == tuple(map(str, range(len(domain.labels)))):
            return False  # options without a name, of which nothing says that they are equal
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
        return point


def _share(domain: Int | Float, value: float) -> float:
    """Return where in its range a number lies, from 0 to 1."""
    if domain.lo == domain.hi:
        return 0.5
    if domain.log:
        return float(np.log(value / domain.lo) / np.log(domain.hi / domain.lo))
    return (value - domain.lo) / (domain.hi - domain.lo)

"""Encodes the params of a space as vectors, which a model of accuracy takes as its input."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.domain import Choice, Domain, Float, Int, Subset


class Encoding:
    """Maps params to vectors; two values of one range are at most 1 apart.

    * A choice is one-hot, scaled by 1 / sqrt(2), so that any two options are 1 apart.
    * A number lies between 0 and 1, on a log scale if its range has one.
    * A subset has a 0 or 1 for each item.
    * A range that is not active has the middle of its values in its columns, which is equally far from all options and
      ends. So every config has a vector of the same length, and a kernel on distances stays positive definite.

    Options of a choice that have a range of the same name and domain, such as the stages of TAM and of TSM, share its
    columns: what a model learns about the range below one option is its prior for the other option.

    Args:
        domains: all ranges of a space, by name (`Space.domains`).
    """

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self._domains = dict(domains)
        groups: list[int] = []
        #: first column of each range
        self._begin: dict[str, int] = {}
        middle: list[float] = []
        for name, domain in self._domains.items():
            shared = next((earlier for earlier in self._begin if self._share_columns(name, earlier)), None)
            if shared is not None:
                self._begin[name] = self._begin[shared]
                continue
            self._begin[name] = len(groups)
            first = groups[-1] + 1 if groups else 0
            match domain:
                case Choice(labels=labels):
                    # Two one-hot vectors of length 1 are sqrt(2) apart.
                    groups += [first] * len(labels)
                    middle += [1 / len(labels) / np.sqrt(2)] * len(labels)
                case Subset(labels=labels):
                    groups += range(first, first + len(labels))
                    middle += [0.5] * len(labels)
                case _:
                    groups.append(first)
                    middle.append(0.5)
        #: (columns): group of each column, counted from 0; the columns of a group share one length scale
        self.groups: NDArray[np.intp] = np.array(groups, dtype=np.intp)
        self._middle: NDArray[np.float64] = np.array(middle)

    def _share_columns(self, name: str, earlier: str) -> bool:
        """Return whether two ranges have equal domains, and equal places below two options of one choice."""
        domain = self._domains[name]
        if domain != self._domains[earlier]:
            return False
        if isinstance(domain, Choice) and domain.labels == tuple(map(str, range(len(domain.labels)))):
            return False  # the labels are indices, so equal labels do not mean equal options
        # In a name, the keys of ranges (even positions) alternate with the labels of options (odd positions).
        parts, earlier_parts = name.split("/"), earlier.split("/")
        if parts[::2] != earlier_parts[::2]:
            return False
        differs = next(i for i, (a, b) in enumerate(zip(parts, earlier_parts, strict=True)) if a != b)
        # Not below two items of a subset: both can be active in one config.
        return isinstance(self._domains["/".join(parts[:differs])], Choice)

    def __call__(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return the vector (columns) of one config's params."""
        vector = self._middle.copy()
        for name, value in params.items():
            domain, begin = self._domains[name], self._begin[name]
            match domain:
                case Choice(labels=labels):
                    vector[begin : begin + len(labels)] = 0.0
                    vector[begin + value] = 1 / np.sqrt(2)
                case Subset(labels=labels):
                    vector[begin : begin + len(labels)] = 0.0
                    vector[[begin + index for index in value]] = 1.0
                case Int() | Float():
                    vector[begin] = _fraction(domain, value)
        return vector


def _fraction(domain: Int | Float, value: float) -> float:
    """Return the position of a number in its range, from 0 to 1."""
    if domain.lo == domain.hi:
        return 0.5
    if domain.log:
        return float(np.log(value / domain.lo) / np.log(domain.hi / domain.lo))
    return (value - domain.lo) / (domain.hi - domain.lo)

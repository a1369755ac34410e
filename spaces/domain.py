"""Domains: the values that one range of a space can take. Every value is plain JSON."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, combinations, pairwise
from typing import Any

from typing_extensions import override

#: values; a domain that has more is only probed at its ends
MAX_PROBES = 1_000


class Domain:
    """The values of one range, in an order."""

    @property
    def count(self) -> int | None:
        """Return the number of values; None if it is infinite."""
        raise NotImplementedError

    def values(self) -> Iterator[Any]:
        """Return all values of a finite domain, in order."""
        raise NotImplementedError

    def probes(self) -> Iterator[Any]:
        """Return all values of a short domain; of a long one both ends and their neighbours."""
        raise NotImplementedError

    def plain(self) -> Any:
        """Return the value of a baseline: the first option, the middle of a range of numbers, the largest subset."""
        raise NotImplementedError

    def sample(self, rng: random.Random) -> Any:
        """Return a random value, uniform over the values; log-uniform where the domain has a log scale."""
        raise NotImplementedError

    def member(self, value: Any) -> Any:
        """Return ``value`` in the form that the domain uses, such as a tuple for a list.

        Raises:
            ValueError: it is not a value of the domain.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Choice(Domain):
    """One of several options; the value is its index."""

    labels: tuple[str, ...]
    texts: tuple[str, ...] = field(default=(), compare=False)
    """what a reader sees of each option; empty: its label"""

    @property
    def shown(self) -> tuple[str, ...]:
        """What a reader sees of each option."""
        return self.texts or self.labels

    @property
    @override
    def count(self) -> int:
        return len(self.labels)

    @override
    def values(self) -> Iterator[int]:
        return iter(range(len(self.labels)))

    probes = values

    @override
    def plain(self) -> int:
        return 0

    @override
    def sample(self, rng: random.Random) -> int:
        return rng.randrange(len(self.labels))

    @override
    def member(self, value: Any) -> int:
        if not _is_integer(value) or not 0 <= value < len(self.labels):
            raise ValueError(f"must be the index of one of {', '.join(self.labels)} (got {value!r})")
        return value


@dataclass(frozen=True)
class Int(Domain):
    """An integer from ``lo`` to ``hi``, both included, in steps of ``step`` from ``lo``."""

    lo: int
    hi: int
    step: int = 1
    log: bool = False

    @property
    @override
    def count(self) -> int:
        return (self.hi - self.lo) // self.step + 1

    @override
    def values(self) -> Iterator[int]:
        return iter(range(self.lo, self.hi + 1, self.step))

    @override
    def probes(self) -> Iterator[int]:
        if self.count <= MAX_PROBES:
            return self.values()
        return iter((self.lo, self.lo + self.step, self.hi - self.step, self.hi))

    @override
    def plain(self) -> int:
        return round(math.sqrt(self.lo * self.hi)) if self.log else self.lo + self.step * (self.count // 2)

    @override
    def sample(self, rng: random.Random) -> int:
        if self.log:
            # Rounding gives every integer the interval around it on the log scale, also the two ends.
            return round(math.exp(rng.uniform(math.log(self.lo - 0.499), math.log(self.hi + 0.499))))
        return self.lo + self.step * rng.randrange(self.count)

    @override
    def member(self, value: Any) -> int:
        if not _is_integer(value) or not self.lo <= value <= self.hi or (value - self.lo) % self.step:
            raise ValueError(f"must be a whole number in [{self.lo}, {self.hi}], step {self.step} (got {value!r})")
        return value


@dataclass(frozen=True)
class Float(Domain):
    """A number from ``lo`` to ``hi``, both included; with a ``step`` only ``lo + n * step``."""

    lo: float
    hi: float
    step: float | None = None
    log: bool = False

    @property
    @override
    def count(self) -> int | None:
        if self.lo == self.hi:
            return 1
        if self.step is None:
            return None
        return int((decimal(self.hi) - decimal(self.lo)) / decimal(self.step)) + 1

    @override
    def values(self) -> Iterator[float]:
        assert self.count is not None, "a range of floats without a step is infinite"
        return map(self._nth, range(self.count))

    def _nth(self, n: int) -> float:
        # In decimals, so that 0.1 + 2 * 0.1 is 0.3, as a user writes it.
        return float(decimal(self.lo) + n * decimal(self.step or 0))

    @override
    def probes(self) -> Iterator[float]:
        if self.count is None:
            return iter((self.lo, self.hi))
        if self.count <= MAX_PROBES:
            return self.values()
        return map(self._nth, (0, 1, self.count - 2, self.count - 1))

    @override
    def plain(self) -> float:
        if self.count is not None:
            return self._nth(self.count // 2)
        middle = math.sqrt(self.lo) * math.sqrt(self.hi) if self.log else self.lo / 2 + self.hi / 2
        return min(max(middle, self.lo), self.hi)

    @override
    def sample(self, rng: random.Random) -> float:
        if self.count is not None:
            return self._nth(rng.randrange(self.count))
        if self.log:
            value = math.exp(rng.uniform(math.log(self.lo), math.log(self.hi)))
        else:
            value = rng.uniform(self.lo, self.hi)
        return min(max(value, self.lo), self.hi)

    @override
    def member(self, value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and self.lo <= value <= self.hi:
            if self.step is None:
                return float(value)
            # Samplers compute multiples of the step in binary floating point: 0.30000000000000004 stands for 0.3.
            nearest = self._nth(round((value - self.lo) / self.step))
            if math.isclose(nearest, value, rel_tol=1e-9, abs_tol=1e-9 * self.step):
                return nearest
        raise ValueError(f"must be a number in [{self.lo}, {self.hi}], step {self.step} (got {value!r})")


@dataclass(frozen=True)
class Subset(Domain):
    """From ``min`` to ``max`` of the items, in their order; the value is the tuple of their indices."""

    labels: tuple[str, ...]
    min: int
    max: int

    @property
    @override
    def count(self) -> int:
        return sum(math.comb(len(self.labels), size) for size in range(self.min, self.max + 1))

    @override
    def values(self) -> Iterator[tuple[int, ...]]:
        items = range(len(self.labels))
        return chain.from_iterable(combinations(items, size) for size in range(self.min, self.max + 1))

    @override
    def probes(self) -> Iterator[tuple[int, ...]]:
        if self.count <= MAX_PROBES:
            yield from self.values()
            return
        # Each item once in a set of the smallest size, then a set of the largest size.
        total, size = len(self.labels), max(self.min, 1)
        for first in range(total):
            yield tuple(sorted((first + k) % total for k in range(size)))
        yield tuple(range(self.max))

    @override
    def plain(self) -> tuple[int, ...]:
        return tuple(range(self.max))

    @override
    def sample(self, rng: random.Random) -> tuple[int, ...]:
        sizes = range(self.min, self.max + 1)
        (size,) = rng.choices(sizes, [math.comb(len(self.labels), size) for size in sizes])
        return tuple(sorted(rng.sample(range(len(self.labels)), size)))

    @override
    def member(self, value: Any) -> tuple[int, ...]:
        indices = tuple(value) if isinstance(value, Sequence) else ()
        inside = all(_is_integer(index) and 0 <= index < len(self.labels) for index in indices)
        increasing = inside and all(a < b for a, b in pairwise(indices))
        if not isinstance(value, Sequence) or not increasing or not self.min <= len(indices) <= self.max:
            raise ValueError(
                f"must be the rising indices of {self.min} to {self.max} of {', '.join(self.labels)} (got {value!r})"
            )
        return indices


def decimal(number: float) -> Decimal:
    """Return the number with the digits that it is printed with: 0.1 is exactly a tenth."""
    return Decimal(repr(number))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

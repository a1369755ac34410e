"""A user's prior over a space: which values of its ranges are expected to be good."""

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from spaces.domain import Choice, Domain, Float, Int, Subset, decimal
from spaces.problem import Path, Problem, SpaceError, unknown_range
from spaces.space import Params, Space

#: a share of the values of a range below which there are none: shares add up to 1 but for rounding
ROUNDING = 1e-12
#: weights by the text of a value, of an item or of an interval such as "0.05..0.2"
Weights = Mapping[str, float]


@dataclass(frozen=True)
class _Interval:
    """Some values of a range of numbers, as a range of its own, and their weight."""

    domain: Int | Float
    weight: float
    share: float
    """share of all values of the whole range, as `Domain.sample` draws them"""


class Prior:
    r"""A density over the configs of a space, from weights of values.

    A value that is not named has weight 1. The density of a config is relative to `Space.sample`:

    .. math:: \pi(x) = \prod_i w_i(x_i) / \bar w_i

    over its active ranges, with :math:`\bar w_i` the mean weight of range i. So a weight changes how probable a value
    is where its range is active, not how often that is the case. A subset has the product of the weights of its items.

    Args:
        space: the space.
        weights: for each named range its weights, each above 0. The keys are the labels of options or items, or numbers
            and intervals ``LOW..HIGH`` with both ends included.
        path: place of the weights in their file; the paths of problems begin with it.

    Raises:
        SpaceError: a name or value is not in the space, or intervals overlap; it lists all problems.
    """

    def __init__(self, space: Space, weights: Mapping[str, Weights], path: Path = ()) -> None:
        problems: list[Problem] = []
        self._space = space
        self._weights: dict[str, _Labelled | _Subset | _Numbers] = {}
        for name, named in weights.items():
            if name not in space.domains:
                problems.append(unknown_range(name, space.domains, path))
                continue
            domain = space.domains[name]
            part = {Choice: _Labelled, Subset: _Subset}.get(type(domain), _Numbers)
            self._weights[name] = part(domain, named, (*path, name), problems)
        if problems:
            raise SpaceError(problems)

    def log_density(self, params: Params) -> float:
        """Return the logarithm of the density of a config; 0 for one that is as probable as without the prior."""
        return sum(
            math.log(self._weights[name].weight(value) / self._weights[name].mean)
            for name, value in params.items()
            if name in self._weights
        )

    def sample(self, rng: random.Random) -> Params:
        """Return the params of a random config with this density."""
        params: Params = {}

        def choose(name: str, domain: Domain) -> Any:
            params[name] = (self._weights.get(name) or domain).sample(rng)
            return params[name]

        self._space.resolve(choose)
        return params


class _Labelled:
    """The weights of a choice."""

    def __init__(self, domain: Choice, named: Weights, path: Path, problems: list[Problem]) -> None:
        self._weights = list(_by_label(domain.labels, named, path, problems))
        self.mean = sum(self._weights) / len(self._weights)

    def weight(self, value: int) -> float:
        return self._weights[value]

    def sample(self, rng: random.Random) -> int:
        return rng.choices(range(len(self._weights)), self._weights)[0]


class _Subset:
    """The weights of the items of a subset."""

    def __init__(self, domain: Subset, named: Weights, path: Path, problems: list[Problem]) -> None:
        self._domain, self._weights = domain, list(_by_label(domain.labels, named, path, problems))
        # The coefficient of x^k in the product of (1 + w x) over all items is the sum over the subsets of size k.
        sums = [1.0]
        for weight in self._weights:
            sums = [a + weight * b for a, b in zip([*sums, 0.0], [0.0, *sums], strict=True)]
        self.mean = sum(sums[domain.min : domain.max + 1]) / domain.count

    def weight(self, value: Sequence[int]) -> float:
        return math.prod(self._weights[index] for index in value)

    @cached_property
    def _all(self) -> tuple[list[tuple[int, ...]], list[float]]:
        values = list(self._domain.values())  # few: samplers refuse many
        return values, list(map(self.weight, values))

    def sample(self, rng: random.Random) -> tuple[int, ...]:
        return rng.choices(*self._all)[0]


class _Numbers:
    """The weights of values and intervals of a range of numbers."""

    def __init__(self, domain: Int | Float, named: Weights, path: Path, problems: list[Problem]) -> None:
        self._domain = domain
        self._intervals: list[_Interval] = []
        for key, weight in named.items():
            try:
                inside = _interval(domain, key)
            except ValueError as error:
                problems.append(Problem((*path, key), str(error)))
            else:
                self._intervals.append(_Interval(inside, weight, _share(domain, inside)))
        self._intervals.sort(key=lambda interval: interval.domain.lo)
        for a, b in pairwise(interval.domain for interval in self._intervals):
            # Intervals of a continuous range may share an end, which has no length.
            if b.lo < a.hi or (b.lo == a.hi and domain.count is not None):
                rule = f"has two weights for {b.lo:g}; write intervals that do not overlap"
                problems.append(Problem(path, rule, ", ".join(named)))
        rest = 1 - sum(interval.share for interval in self._intervals)
        self._rest = rest if rest > ROUNDING else 0.0
        self.mean = self._rest + sum(interval.share * interval.weight for interval in self._intervals)

    def _containing(self, value: float) -> _Interval | None:
        return next((one for one in self._intervals if one.domain.lo <= value <= one.domain.hi), None)

    def weight(self, value: float) -> float:
        interval = self._containing(value)
        return 1.0 if interval is None else interval.weight

    def sample(self, rng: random.Random) -> float:
        masses = [interval.share * interval.weight for interval in self._intervals]
        (chosen,) = rng.choices([*self._intervals, None], [*masses, self._rest])
        if chosen is not None:
            return chosen.domain.sample(rng)
        # As many draws as 1 / rest on average, but this case has the probability rest / mean.
        while self._containing(value := self._domain.sample(rng)) is not None:
            pass
        return value


def _by_label(labels: Sequence[str], named: Weights, path: Path, problems: list[Problem]) -> Iterator[float]:
    """Yield the weight of each label; add a problem for each name that is none."""
    for name in named:
        if name not in labels:
            problems.append(Problem((*path, name), f"is no value of this range; take one of {', '.join(labels)}"))
    yield from (named.get(label, 1.0) for label in labels)


def _interval(domain: Int | Float, key: str) -> Int | Float:
    """Return the values of a range of numbers that a key names, as a range. Raises ValueError, without the path."""
    low, dots, high = key.partition("..")
    ends = [_number(end) for end in (low, high if dots else low)]
    if None in ends or not ends[0] <= ends[1]:
        raise ValueError("must be a number, or an interval from low to high such as 1..2")
    low, high = ends
    if not (domain.lo <= low and high <= domain.hi):
        raise ValueError(f"is outside of the range, [{domain.lo:g}, {domain.hi:g}]; name values inside of it")
    if domain.step is None:
        if low == high and domain.lo < domain.hi:
            raise ValueError(f"is one number of a continuous range; write an interval around it, such as {low:g}..HIGH")
        return replace(domain, lo=float(low), hi=float(high))
    first, step = decimal(domain.lo), decimal(domain.step)
    begin, end = math.ceil((decimal(low) - first) / step), math.floor((decimal(high) - first) / step)
    if begin > end:
        raise ValueError(f"has no value of the range, which goes from {domain.lo:g} in steps of {domain.step:g}")
    kind = int if isinstance(domain, Int) else float
    return replace(domain, lo=kind(first + begin * step), hi=kind(first + end * step))


def _number(text: str) -> Any:
    """Return the number in a text; None if it is none."""
    text = text.strip()
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _share(domain: Int | Float, inside: Int | Float) -> float:
    """Return the probability that `Domain.sample` draws a value of the part ``inside`` of a range of numbers."""
    if domain.lo == domain.hi:
        return 1.0
    if domain.log:
        half = 0.499 if isinstance(domain, Int) else 0.0
        if isinstance(inside, Int):  # between the values, the boundary is in the middle
            low = inside.lo - (half if inside.lo == domain.lo else 0.5)
            high = inside.hi + (half if inside.hi == domain.hi else 0.5)
        else:
            low, high = inside.lo, inside.hi
        return math.log(high / low) / math.log((domain.hi + half) / (domain.lo - half))
    if domain.count is not None and inside.count is not None:
        return inside.count / domain.count
    return (inside.hi - inside.lo) / (domain.hi - domain.lo)

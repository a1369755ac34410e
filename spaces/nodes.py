"""The compiled form of a tree with ranges: one class for each kind of node.

Each node computes the same four things for its part of the tree: the plain tree for given choices, the exact number of
combinations of values, the values that lead to a given plain tree, and the place of a plain value in the tree with
ranges.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

from typing_extensions import override

from spaces.domain import Choice, Domain, Float, Int, Subset
from spaces.problem import Path, Tree

#: values of ranges by the names of the ranges; every value is plain JSON
Params = dict[str, Any]
#: returns a value for the range of this name and domain
Choose = Callable[[str, Domain], Any]

#: stands for the value of a key that a mapping does not have
_MISSING = object()


class Node:
    """A compiled tree with ranges."""

    def resolve(self, choose: Choose) -> Tree:
        """Return the plain tree for the values that ``choose`` returns."""
        raise NotImplementedError

    def size(self) -> int | None:
        """Return the exact number of combinations of values; None if it is infinite."""
        raise NotImplementedError

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        """Yield all values from which this node can have become ``tree``.

        With ``exact``, as inside of an option, what is fixed in this node must stand in ``tree`` too.
        """
        raise NotImplementedError

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        """Return the place, in the tree with ranges, of the value at ``path`` of the plain tree of ``params``."""
        raise NotImplementedError


@dataclass(frozen=True)
class FixedNode(Node):
    """A tree without ranges."""

    value: Tree

    @override
    def resolve(self, choose: Choose) -> Tree:
        return self.value

    @override
    def size(self) -> int:
        return 1

    @override
    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if not exact or _is_contained(self.value, tree):
            yield {}

    @override
    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        return path


@dataclass(frozen=True)
class MapNode(Node):
    """A mapping with ranges in its values."""

    items: dict[str, Node]

    @override
    def resolve(self, choose: Choose) -> Tree:
        return {key: node.resolve(choose) for key, node in self.items.items()}

    @override
    def size(self) -> int | None:
        return _product(node.size() for node in self.items.values())

    @override
    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if isinstance(tree, Mapping):
            yield from _recover_all([(node, tree.get(key, _MISSING)) for key, node in self.items.items()], exact)

    @override
    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        if not path or path[0] not in self.items:
            return path
        return (path[0], *self.items[str(path[0])].locate(path[1:], params))


@dataclass(frozen=True)
class ListNode(Node):
    """A list of fixed length with ranges in its items."""

    items: list[Node]

    @override
    def resolve(self, choose: Choose) -> Tree:
        return [node.resolve(choose) for node in self.items]

    @override
    def size(self) -> int | None:
        return _product(node.size() for node in self.items)

    @override
    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if isinstance(tree, list) and len(tree) == len(self.items):
            yield from _recover_all(list(zip(self.items, tree, strict=True)), exact)

    @override
    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        if not path or path[0] not in range(len(self.items)):
            return path
        return (path[0], *self.items[int(path[0])].locate(path[1:], params))


@dataclass(frozen=True)
class NumberNode(Node):
    """A range of numbers: ``{int: ...}`` or ``{float: ...}``."""

    name: str
    domain: Int | Float

    @override
    def resolve(self, choose: Choose) -> Tree:
        return choose(self.name, self.domain)

    @override
    def size(self) -> int | None:
        return self.domain.count

    @override
    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        with suppress(ValueError):
            yield {self.name: self.domain.member(tree)}

    @override
    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        return path


@dataclass(frozen=True)
class ChoiceNode(Node):
    """One of several options: ``{choice: ...}``."""

    name: str
    domain: Choice
    options: list[Node]

    @override
    def resolve(self, choose: Choose) -> Tree:
        return self.options[choose(self.name, self.domain)].resolve(choose)

    @override
    def size(self) -> int | None:
        return _sum(node.size() for node in self.options)

    @override
    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        for index, node in enumerate(self.options):
            for params in node.recover(tree, exact=True):
                yield {self.name: index} | params

    @override
    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        index = params[self.name]
        return ("choice", index, *self.options[index].locate(path, params))


@dataclass(frozen=True)
class SubsetNode(Node):
    """Some of several items, in their order: ``{subset: ...}``."""

    name: str
    domain: Subset
    items: list[Node]

    @override
    def resolve(self, choose: Choose) -> Tree:
        return [self.items[index].resolve(choose) for index in choose(self.name, self.domain)]

    @override
    def size(self) -> int | None:
        sizes = [node.size() for node in self.items]
        if None in sizes:
            return None if self.domain.max else 1
        # Dynamic programming over the items: ways[n] counts the combinations that use n of the items seen so far.
        ways = [1] + [0] * self.domain.max
        for size in sizes:
            for n in range(self.domain.max, 0, -1):
                ways[n] += ways[n - 1] * (size or 0)
        return sum(ways[self.domain.min :])

    @override
    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if isinstance(tree, list) and self.domain.min <= len(tree) <= self.domain.max:
            for indices in combinations(range(len(self.items)), len(tree)):
                pairs = [(self.items[index], value) for index, value in zip(indices, tree, strict=True)]
                for params in _recover_all(pairs, exact=True):
                    yield {self.name: indices} | params

    @override
    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        if not path:
            return path
        index = params[self.name][path[0]]
        return ("subset", index, *self.items[index].locate(path[1:], params))


@dataclass(frozen=True)
class RepeatNode(Node):
    """A list of searched length: ``{repeat: {times: ..., of: ...}}``.

    Args:
        times: the length.
        counts: all lengths that ``times`` can become.
        elements: one node for each element of the longest list; a shorter list uses the first ones.
    """

    times: Node
    counts: list[int]
    elements: list[Node]

    @override
    def resolve(self, choose: Choose) -> Tree:
        return [node.resolve(choose) for node in self.elements[: self.times.resolve(choose)]]

    @override
    def size(self) -> int | None:
        return _sum(_product(node.size() for node in self.elements[:count]) for count in self.counts)

    @override
    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if isinstance(tree, list) and len(tree) <= len(self.elements):
            pairs = [(self.times, len(tree)), *zip(self.elements, tree, strict=False)]
            yield from _recover_all(pairs, exact=True)

    @override
    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        if not path:
            return path
        return ("repeat", "of", *self.elements[int(path[0])].locate(path[1:], params))


def all_fixed(nodes: Iterable[Node]) -> bool:
    """Return whether no node has a range."""
    return all(isinstance(node, FixedNode) for node in nodes)


def _recover_all(pairs: Sequence[tuple[Node, Tree]], exact: bool) -> Iterator[Params]:
    """Yield all values from which every node can have become the tree beside it."""
    if not pairs:
        yield {}
        return
    (node, tree), *remaining = pairs
    for params in node.recover(tree, exact):
        for more in _recover_all(remaining, exact):
            yield params | more


def _is_contained(value: Tree, tree: Tree) -> bool:
    """Return whether ``tree`` has everything that ``value`` has; its mappings may have further keys.

    A word has what a mapping of that kind has.
    """
    if isinstance(value, str) and isinstance(tree, Mapping):
        return value == tree.get("kind")
    if isinstance(value, Mapping):
        return isinstance(tree, Mapping) and all(
            _is_contained(item, tree.get(k, _MISSING)) for k, item in value.items()
        )
    if isinstance(value, list | tuple):
        same_length = isinstance(tree, list) and len(tree) == len(value)
        return same_length and all(_is_contained(item, element) for item, element in zip(value, tree, strict=True))
    return value == tree and isinstance(value, bool) == isinstance(tree, bool)


def _product(sizes: Iterator[int | None]) -> int | None:
    """Return the product of sizes; None, which is infinite, if one of them is."""
    known = list(sizes)
    return None if None in known else prod(size for size in known if size is not None)


def _sum(sizes: Iterator[int | None]) -> int | None:
    """Return the sum of sizes; None, which is infinite, if one of them is."""
    known = list(sizes)
    return None if None in known else sum(size for size in known if size is not None)

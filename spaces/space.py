"""A space: a config tree in which some values are ranges.

=============================================  =====================================================================
``{choice: [...]}``                            one option: anything, mappings and lists with further ranges included
``{int: [lo, hi]}``, ``{float: [lo, hi]}``     a number, both ends included; with ``log: true`` or ``step: ...``
``{subset: [...], min: 1, max: all}``          a list of some of the items, in their order
``{repeat: {times: RANGE, of: RANGE}}``        a list of searched length; each element is chosen for itself
=============================================  =====================================================================
"""

import json
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

from spaces.domain import Choice, Domain, Float, Int, Subset, decimal

__all__ = ["Choice", "Domain", "Problem", "Float", "Int", "Space", "SpaceError", "Subset", "shown"]

Tree = Any
Path = tuple[str | int, ...]
Params = dict[str, Any]
Choose = Callable[[str, Domain], Any]

#: each range word, and the modifiers that it knows
RANGES = {"choice": (), "int": ("log", "step"), "float": ("log", "step"), "subset": ("min", "max"), "repeat": ()}
#: of a repeat; more elements than any network has
MOST_TIMES = 1_000


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a tree: where, the rule with its way out, and in short what was found there."""

    path: Path
    rule: str
    got: str = ""

    def __str__(self) -> str:
        got = f" (got {self.got})" if self.got else ""
        return f"{written(self.path)}: {self.rule}{got}".removeprefix(": ")


def shown(found: Tree) -> str:
    """Return what a problem shows of a value; nothing of a long one, which would bury the rule."""
    text = json.dumps(found, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else ""


class SpaceError(ValueError):
    """A tree has malformed ranges; ``problems`` lists all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def written(path: Path) -> str:
    """Return a path as a user writes it: ``model.attention[0].alpha``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class Space:
    """All configs that a tree with ranges stands for.

    Each range has a name, unique in the space: the keys that lead to it, with the option of a choice after a slash,
    such as ``model.attention/tam/alpha``. A name always has the same domain. Trees that come out share their fixed
    parts with the space: read them, do not change them.

    Raises SpaceError for malformed ranges; the paths of its problems begin with ``path``, the tree's own place in a file.
    """

    def __init__(self, tree: Tree, path: Path = ()) -> None:
        compiler = _Compiler()
        self._root = compiler.node(tree, path, "")
        if compiler.problems:
            raise SpaceError(compiler.problems)
        #: every range by its name, those that only some choices make active included
        self.domains: dict[str, Domain] = compiler.domains

    def part(self, key: str) -> "Space":
        """Return the space of the value at ``key`` of the outermost mapping; its ranges keep their names."""
        assert isinstance(self._root, _Map | _Fixed), "only a mapping has parts"
        part = object.__new__(Space)
        part._root = self._root.items[key] if isinstance(self._root, _Map) else _Fixed(self._root.value[key])
        part.domains = self.domains
        return part

    def resolve(self, choose: Choose) -> Tree:
        """Return the plain tree that ``choose(name, domain)`` picks; it is asked only what the choices so far need.

        Raises ValueError if a chosen value is not in its domain.
        """

        def checked(name: str, domain: Domain) -> Any:
            value = choose(name, domain)
            try:
                return domain.member(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

        return self._root.resolve(checked)

    def replay(self, params: Mapping[str, Any]) -> Tree:
        """Return the plain tree of recorded values; raises ValueError if one is missing or not in its domain."""

        def recorded(name: str, domain: Domain) -> Any:
            if name not in params:
                raise ValueError(f"{name}: has no recorded value; the space has changed since")
            return params[name]

        return self.resolve(recorded)

    def has(self, params: Mapping[str, Any]) -> bool:
        """Whether these values make a config: there is one for each range that they make active."""
        try:
            self.replay(params)
        except ValueError:
            return False
        return True

    def plain(self) -> tuple[Params, Tree]:
        """Return the plainest config: of each choice the first option, of each range the middle, the largest subset."""
        return self._chosen(lambda name, domain: domain.plain())

    def sample(self, rng: random.Random) -> tuple[Params, Tree]:
        """Return one config by chance: each range for itself, in the order in which choices make it active."""
        return self._chosen(lambda name, domain: domain.sample(rng))

    def neighbour(self, params: Params, rng: random.Random) -> tuple[Params, Tree]:
        """Return a config that has another value in one range by chance; ranges that this makes active are sampled."""
        name = rng.choice(list(params)) if params else None

        def choose(key: str, domain: Domain) -> Any:
            if key not in params:
                return domain.sample(rng)
            value = params[key]
            while key == name and domain.count != 1 and value == params[key]:
                value = domain.sample(rng)
            return value

        return self._chosen(choose)

    def size(self) -> int | None:
        """Number of combinations of values, exactly; None if there is no end of them."""
        return self._root.size()

    def enumerate(self) -> Iterator[tuple[Params, Tree]]:
        """Yield every combination of a finite space once."""
        value: Any = None
        ahead: list[tuple[str, Iterator[Any]]] = []  # ranges as they became active, and their values still to come
        params: Params = {}

        def choose(name: str, domain: Domain) -> Any:
            if name not in params:
                values = domain.values()
                params[name] = next(values)
                ahead.append((name, values))
            return params[name]

        while True:
            tree = self._root.resolve(choose)
            yield dict(params), tree
            # Move on the innermost range that has values left; those behind it become active anew.
            while ahead and (value := next(ahead[-1][1], None)) is None:
                del params[ahead.pop()[0]]
            if not ahead:
                return
            params[ahead[-1][0]] = value

    def one_at_a_time(self) -> Iterator[tuple[Params, Tree]]:
        """Yield configs in which every range takes each of its probes; others take their first, or what leads there."""
        seen: set[str] = set()
        ahead: deque[Params] = deque([{}])
        while ahead:
            forced = ahead.popleft()
            params, tree = self._first(forced)
            yield params, tree
            for name in [name for name in params if name not in seen]:
                seen.add(name)
                others = (value for value in self.domains[name].probes() if value != params[name])
                ahead.extend(forced | {name: value} for value in others)

    def _first(self, forced: Params) -> tuple[Params, Tree]:
        """Return the config in which ranges not in ``forced`` take their first value."""
        return self._chosen(lambda name, domain: forced[name] if name in forced else next(iter(domain.probes())))

    def _chosen(self, choose: Choose) -> tuple[Params, Tree]:
        """Return what ``choose`` picks for each range that its choices make active, and the plain tree."""
        params: Params = {}

        def noted(name: str, domain: Domain) -> Any:
            params[name] = choose(name, domain)
            return params[name]

        return params, self._root.resolve(noted)

    def recover(self, tree: Tree) -> Iterator[Params]:
        """Yield the values that give each range what stands at its place in ``tree``: what `resolve` did, undone.

        What is outside of all ranges is not compared. An option of a choice, or an item of a subset, is what stands
        there if all that it writes does; the tree may say more, such as defaults. So there can be several answers.
        """
        return self._root.recover(tree, exact=False)

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        """Return where the value at ``path`` of the tree that ``params`` resolve to stands in the tree with ranges."""
        return self._root.locate(path, params)


class _Node:
    """A tree with ranges, ready to be walked."""

    def resolve(self, choose: Choose) -> Tree:
        raise NotImplementedError

    def size(self) -> int | None:
        raise NotImplementedError

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        """Yield the params by which this node can have become ``tree``; ``exact`` inside of an option."""
        raise NotImplementedError

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        raise NotImplementedError


@dataclass(frozen=True)
class _Fixed(_Node):
    value: Tree

    def resolve(self, choose: Choose) -> Tree:
        return self.value

    def size(self) -> int:
        return 1

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if not exact or _written_in(self.value, tree):
            yield {}

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        return path


@dataclass(frozen=True)
class _Map(_Node):
    items: dict[str, _Node]

    def resolve(self, choose: Choose) -> Tree:
        return {key: node.resolve(choose) for key, node in self.items.items()}

    def size(self) -> int | None:
        return _product(node.size() for node in self.items.values())

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if isinstance(tree, Mapping):
            yield from _recover_all([(node, tree.get(key, _MISSING)) for key, node in self.items.items()], exact)

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        if not path or path[0] not in self.items:
            return path
        return (path[0], *self.items[str(path[0])].locate(path[1:], params))


@dataclass(frozen=True)
class _List(_Node):
    items: list[_Node]

    def resolve(self, choose: Choose) -> Tree:
        return [node.resolve(choose) for node in self.items]

    def size(self) -> int | None:
        return _product(node.size() for node in self.items)

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if isinstance(tree, list) and len(tree) == len(self.items):
            yield from _recover_all(list(zip(self.items, tree, strict=True)), exact)

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        if not path or path[0] not in range(len(self.items)):
            return path
        return (path[0], *self.items[int(path[0])].locate(path[1:], params))


@dataclass(frozen=True)
class _Number(_Node):
    name: str
    domain: Int | Float

    def resolve(self, choose: Choose) -> Tree:
        return choose(self.name, self.domain)

    def size(self) -> int | None:
        return self.domain.count

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        with suppress(ValueError):
            yield {self.name: self.domain.member(tree)}

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        return path


@dataclass(frozen=True)
class _Choice(_Node):
    name: str
    domain: Choice
    options: list[_Node]

    def resolve(self, choose: Choose) -> Tree:
        return self.options[choose(self.name, self.domain)].resolve(choose)

    def size(self) -> int | None:
        return _sum(node.size() for node in self.options)

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        for index, node in enumerate(self.options):
            for params in node.recover(tree, exact=True):
                yield {self.name: index} | params

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        index = params[self.name]
        return ("choice", index, *self.options[index].locate(path, params))


@dataclass(frozen=True)
class _Subset(_Node):
    name: str
    domain: Subset
    items: list[_Node]

    def resolve(self, choose: Choose) -> Tree:
        return [self.items[index].resolve(choose) for index in choose(self.name, self.domain)]

    def size(self) -> int | None:
        sizes = [node.size() for node in self.items]
        if None in sizes:
            return None if self.domain.max else 1
        # ways[n]: combinations of n of the items seen so far.
        ways = [1] + [0] * self.domain.max
        for size in sizes:
            for n in range(self.domain.max, 0, -1):
                ways[n] += ways[n - 1] * (size or 0)
        return sum(ways[self.domain.min :])

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if isinstance(tree, list) and self.domain.min <= len(tree) <= self.domain.max:
            for indices in combinations(range(len(self.items)), len(tree)):
                items = [(self.items[index], value) for index, value in zip(indices, tree, strict=True)]
                for params in _recover_all(items, exact=True):
                    yield {self.name: indices} | params

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        if not path:
            return path
        index = params[self.name][path[0]]
        return ("subset", index, *self.items[index].locate(path[1:], params))


@dataclass(frozen=True)
class _Repeat(_Node):
    times: _Node
    counts: list[int]
    elements: list[_Node]

    def resolve(self, choose: Choose) -> Tree:
        return [node.resolve(choose) for node in self.elements[: self.times.resolve(choose)]]

    def size(self) -> int | None:
        return _sum(_product(node.size() for node in self.elements[:count]) for count in self.counts)

    def recover(self, tree: Tree, exact: bool) -> Iterator[Params]:
        if isinstance(tree, list) and len(tree) <= len(self.elements):
            pairs = [(self.times, len(tree)), *zip(self.elements, tree, strict=False)]
            yield from _recover_all(pairs, exact=True)

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        if not path:
            return path
        return ("repeat", "of", *self.elements[int(path[0])].locate(path[1:], params))


#: what stands where a tree has no such key
_MISSING = object()


def _recover_all(pairs: Sequence[tuple[_Node, Tree]], exact: bool) -> Iterator[Params]:
    """Yield the params by which each node can have become its tree, all at once."""
    if not pairs:
        yield {}
        return
    (node, tree), *others = pairs
    for params in node.recover(tree, exact):
        for rest in _recover_all(others, exact):
            yield params | rest


def _written_in(value: Tree, tree: Tree) -> bool:
    """Whether all that ``value`` writes stands in ``tree``, which may have further keys."""
    if isinstance(value, Mapping):
        return isinstance(tree, Mapping) and all(_written_in(item, tree.get(k, _MISSING)) for k, item in value.items())
    if isinstance(value, list | tuple):
        same = isinstance(tree, list) and len(tree) == len(value)
        return same and all(_written_in(item, other) for item, other in zip(value, tree, strict=True))
    return value == tree and isinstance(value, bool) == isinstance(tree, bool)


def _product(sizes: Iterator[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else prod(size for size in known if size is not None)


def _sum(sizes: Iterator[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(size for size in known if size is not None)


class _Compiler:
    """Turns a tree into nodes, names its ranges, and gathers what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.domains: dict[str, Domain] = {}

    def node(self, tree: Tree, path: Path, prefix: str) -> _Node:
        """Compile ``tree`` at ``path``; ``prefix`` ends with a slash after an option, and names begin with it."""
        if isinstance(tree, Mapping):
            words = [word for word in RANGES if word in tree]
            if words:
                return self._range(tree, words, path, prefix.removesuffix("/") or "space")
            items = {
                key: self.node(value, (*path, key), self._inside(prefix, key, path)) for key, value in tree.items()
            }
            return _Fixed(tree) if _fixed(items.values()) else _Map(items)
        if isinstance(tree, list | tuple):
            # By kind or index: what a plain element is has no part in the name of its neighbour.
            names = labels([value if isinstance(value, Mapping) else {} for value in tree])
            inner = [prefix if len(tree) == 1 else _join(prefix, _word(name)) for name in names]
            nodes = [self.node(value, (*path, i), inner[i]) for i, value in enumerate(tree)]
            return _Fixed(list(tree)) if _fixed(nodes) else _List(nodes)
        return _Fixed(tree)

    def _inside(self, prefix: str, key: Any, path: Path) -> str:
        if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            self._fault(path, "a key is made of letters, digits, _ and -; rename it", key)
        return _join(prefix, str(key))

    def _range(self, tree: Mapping[str, Any], words: list[str], path: Path, name: str) -> _Node:
        if len(words) > 1:
            return self._fault(path, f"holds {len(words)} ranges, {' and '.join(words)}; keep one of them")
        word = words[0]
        for key in tree:
            if key != word and key not in RANGES[word]:
                known = " and ".join(RANGES[word]) or "nothing"
                return self._fault((*path, key), f"is unknown beside {word}, which takes {known}; remove it", tree[key])
        match word:
            case "int" | "float":
                return self._number(word, tree, path, name)
            case "choice":
                return self._choice(tree["choice"], path, name)
            case "subset":
                return self._subset(tree, path, name)
            case _:
                return self._repeat(tree["repeat"], (*path, "repeat"), name)

    def _number(self, word: str, tree: Mapping[str, Any], path: Path, name: str) -> _Node:
        ends, log, step = tree[word], tree.get("log", False), tree.get("step")
        whole, noun = word == "int", "whole numbers" if word == "int" else "numbers"
        if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(_is_number(end, whole) for end in ends):
            return self._fault((*path, word), f"must be two {noun}, [lowest, highest]", ends)
        lo, hi = ends
        if lo > hi:
            return self._fault((*path, word), f"is upside down; write [{hi}, {lo}]", ends)
        if not isinstance(log, bool):
            return self._fault((*path, "log"), "must be true or false", log)
        if log and step is not None:
            return self._fault(path, "has both log and step; keep one of them")
        if log and lo <= 0:
            return self._fault(
                (*path, word), "must begin above 0 on a log scale; raise the lowest, or remove log", ends
            )
        if step is not None:
            if not _is_number(step, whole) or step <= 0:
                return self._fault((*path, "step"), f"must be a {noun.removesuffix('s')} above 0", step)
            steps, rest = divmod(decimal(hi) - decimal(lo), decimal(step))
            if rest:
                reached = decimal(lo) + steps * decimal(step)
                rule = f"does not lead from {lo} to {hi}; end the range at {reached}, or choose another step"
                return self._fault((*path, "step"), rule, step)
        domain = Int(lo, hi, step or 1, log) if whole else Float(float(lo), float(hi), step and float(step), log)
        return _Number(self._register(name, domain), domain)

    def _choice(self, options: Any, path: Path, name: str) -> _Node:
        where = (*path, "choice")
        if not isinstance(options, list | tuple):
            return self._fault(where, "must be a list of options, such as [a, b]", options)
        if not options:
            return self._fault(where, "has no options; list at least one", options)
        if (twice := _twice(options)) is not None:
            return self._fault(where, "lists an option twice; list each once", twice)
        domain = Choice(labels(options))
        self._register(name, domain)
        nodes = [
            self.node(option, (*where, i), f"{name}/{_word(label)}/")
            for i, (option, label) in enumerate(zip(options, domain.labels, strict=True))
        ]
        return _Choice(name, domain, nodes)

    def _subset(self, tree: Mapping[str, Any], path: Path, name: str) -> _Node:
        items, where = tree["subset"], (*path, "subset")
        if not isinstance(items, list | tuple):
            return self._fault(where, "must be a list of items, such as [a, b]", items)
        if not items:
            return self._fault(where, "is a subset of nothing; list at least one item", items)
        if (twice := _twice(items)) is not None:
            return self._fault(where, "lists an item twice; list each once", twice)
        least, most = tree.get("min", 1), tree.get("max", "all")
        if not _is_number(least, whole=True) or not 0 <= least <= len(items):
            return self._fault(
                (*path, "min"), f"must be a whole number from 0 to {len(items)}, the number of items", least
            )
        if most != "all" and (not _is_number(most, whole=True) or not 0 <= most <= len(items)):
            rule = f"must be all, or a whole number from 0 to {len(items)}, the number of items"
            return self._fault((*path, "max"), rule, most)
        most = len(items) if most == "all" else most
        if least > most:
            return self._fault(path, f"has min {least} above max {most}; lower min or raise max")
        domain = Subset(labels(items), least, most)
        self._register(name, domain)
        nodes = [
            self.node(item, (*where, i), f"{name}/{_word(label)}/")
            for i, (item, label) in enumerate(zip(items, domain.labels, strict=True))
        ]
        return _Subset(name, domain, nodes)

    def _repeat(self, tree: Any, where: Path, name: str) -> _Node:
        if not isinstance(tree, Mapping) or set(tree) != {"times", "of"}:
            return self._fault(where, "must be {times: ..., of: ...}: how often, and a value or range", tree)
        before = len(self.problems)
        times = self.node(tree["times"], (*where, "times"), f"{name}.times")
        if len(self.problems) > before:
            return times
        counts = _counts(times)
        if counts is None or not all(_is_number(n, whole=True) and 0 <= n <= MOST_TIMES for n in counts):
            rule = f"must be a whole number from 0 to {MOST_TIMES}, or an int range or choice of such"
            return self._fault((*where, "times"), rule, tree["times"])
        elements: list[_Node] = []
        for i in range(max(counts)):
            elements.append(self.node(tree["of"], (*where, "of"), f"{name}.{i}"))
            if len(self.problems) > before:
                break  # the other elements have the same problems
        return _Repeat(times, counts, elements)

    def _register(self, name: str, domain: Domain) -> str:
        assert name not in self.domains, f"two ranges are named {name}"
        self.domains[name] = domain
        return name

    def _fault(self, path: Path, rule: str, *found: Any) -> _Node:
        self.problems.append(Problem(path, rule, *map(shown, found)))
        return _Fixed(None)


def labels(options: Sequence[Tree]) -> tuple[str, ...]:
    """Return a word for each option: a scalar's value, none for an empty list, kinds of mappings, else its index."""
    plain = [_label(option) or str(i) for i, option in enumerate(options)]
    # Counted as they stand in names, where "a+b" and "a-b" are the same; a suffix must not hit a label that is there.
    taken, result = Counter(map(_word, plain)), []
    used: set[str] = set()
    for label in plain:
        unique, n = label, 1
        while _word(unique) in used or (n > 1 and _word(unique) in taken):
            n += 1
            unique = f"{label}-{n}"
        used.add(_word(unique))
        result.append(unique)
    return tuple(result)


def _label(option: Tree) -> str | None:
    if isinstance(option, list | tuple):
        if not option:
            return "none"
        kinds = [item.get("kind") if isinstance(item, Mapping) else None for item in option]
        return "+".join(map(str, kinds)) if all(isinstance(kind, str) and kind for kind in kinds) else None
    if isinstance(option, Mapping):
        kind = option.get("kind")
        return kind if isinstance(kind, str) else None
    return option if isinstance(option, str) else json.dumps(option, default=str)


def _word(label: str) -> str:
    """Return a label as it stands in a name; dots and slashes are what parts of a name are joined by."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", label)


def _join(prefix: str, word: str) -> str:
    return f"{prefix}{word}" if not prefix or prefix.endswith("/") else f"{prefix}.{word}"


def _fixed(nodes: Any) -> bool:
    return all(isinstance(node, _Fixed) for node in nodes)


def _counts(times: _Node) -> list[Any] | None:
    match times:
        case _Fixed(value=value):
            return [value]
        case _Number(domain=Int() as domain) if domain.count <= MOST_TIMES + 1:
            return list(domain.values())
        case _Choice(options=options) if _fixed(options):
            return [option.value for option in options if isinstance(option, _Fixed)]
    return None


def _twice(options: Sequence[Tree]) -> Tree | None:
    seen: set[Hashable] = set()
    for option in options:
        key = json.dumps(option, sort_keys=True, default=str)
        if key in seen:
            return option
        seen.add(key)
    return None


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return abs(value) < float("inf")  # and not NaN

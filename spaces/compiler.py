"""From a tree with ranges to nodes: checks the ranges, names them, and collects every problem."""

import json
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from spaces.domain import Choice, Domain, Float, Int, Subset, decimal
from spaces.nodes import (
    ChoiceNode,
    FixedNode,
    ListNode,
    MapNode,
    Node,
    NumberNode,
    RepeatNode,
    SubsetNode,
    all_fixed,
)
from spaces.problem import Path, Problem, Tree, shown

#: range keywords, each with the modifiers that may stand beside it
RANGES = {"choice": (), "int": ("log", "step"), "float": ("log", "step"), "subset": ("min", "max"), "repeat": ()}
#: elements of one repeat; no network is that deep
MAX_REPEATS = 1_000
#: options of a choice, and items of a subset
MAX_OPTIONS = 1_000
#: values of a range of numbers with a step
MAX_STEPS = 1_000_000
#: longest text of an option without a label of its own
MAX_TEXT = 40
#: values and ranges of a whole tree, in which those of a repeat count once for each element
MAX_NODES = 20_000


class Compiler:
    """Compiles one tree; `problems` and `domains` grow as `node` visits it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.domains: dict[str, Domain] = {}
        self._num_nodes = 0

    def node(self, tree: Tree, path: Path, prefix: str) -> Node:
        """Return the node of ``tree``.

        Args:
            tree: a tree with or without ranges.
            path: place of the tree, for problems.
            prefix: begins the names of all ranges in the tree; it ends with a slash after an option.
        """
        self._num_nodes += 1
        if self._num_nodes == MAX_NODES:
            return self._add_problem(path, f"the space has more than {MAX_NODES} values; lower times of its repeats")
        if self._num_nodes > MAX_NODES:
            return FixedNode(None)
        if isinstance(tree, Mapping):
            keywords = [keyword for keyword in RANGES if keyword in tree]
            if keywords:
                return self._range(tree, keywords, path, prefix.removesuffix("/") or "space")
            items = {
                key: self.node(value, (*path, key), self._key_prefix(prefix, key, path)) for key, value in tree.items()
            }
            return FixedNode(tree) if all_fixed(items.values()) else MapNode(items)
        if isinstance(tree, list | tuple):
            # Only kinds and indices name an item, so that the value of a scalar does not change its neighbours' names.
            names = labels([value if isinstance(value, Mapping) else {} for value in tree])
            prefixes = [prefix if len(tree) == 1 else _join(prefix, name_part(name)) for name in names]
            nodes = [self.node(value, (*path, i), prefixes[i]) for i, value in enumerate(tree)]
            return FixedNode(list(tree)) if all_fixed(nodes) else ListNode(nodes)
        return FixedNode(tree)

    def _key_prefix(self, prefix: str, key: Any, path: Path) -> str:
        if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            self._add_problem(path, "a key is made of letters, digits, _ and -; rename it", key)
        return _join(prefix, str(key))

    def _range(self, tree: Mapping[str, Any], keywords: list[str], path: Path, name: str) -> Node:
        if len(keywords) > 1:
            return self._add_problem(path, f"holds {len(keywords)} ranges, {' and '.join(keywords)}; keep one of them")
        keyword = keywords[0]
        for key in tree:
            if key != keyword and key not in RANGES[keyword]:
                known = " and ".join(RANGES[keyword]) or "nothing"
                rule = f"is unknown beside {keyword}, which takes {known}; remove it"
                return self._add_problem((*path, key), rule, tree[key])
        match keyword:
            case "int" | "float":
                return self._number(keyword, tree, path, name)
            case "choice":
                return self._choice(tree["choice"], path, name)
            case "subset":
                return self._subset(tree, path, name)
            case _:
                return self._repeat(tree["repeat"], (*path, "repeat"), name)

    def _number(self, keyword: str, tree: Mapping[str, Any], path: Path, name: str) -> Node:
        ends, log, step = tree[keyword], tree.get("log", False), tree.get("step")
        whole, noun = keyword == "int", "whole numbers" if keyword == "int" else "numbers"
        if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(_is_number(end, whole) for end in ends):
            return self._add_problem((*path, keyword), f"must be two {noun}, [lowest, highest]", ends)
        lo, hi = ends
        if lo > hi:
            return self._add_problem((*path, keyword), f"is upside down; write [{hi}, {lo}]", ends)
        if not isinstance(log, bool):
            return self._add_problem((*path, "log"), "must be true or false", log)
        if log and step is not None:
            return self._add_problem(path, "has both log and step; keep one of them")
        if log and lo <= 0:
            return self._add_problem(
                (*path, keyword), "must begin above 0 on a log scale; raise the lowest, or remove log", ends
            )
        if not whole and not (hi / lo if log else hi - lo) < float("inf"):
            return self._add_problem((*path, keyword), "is too wide; bring its ends closer together", ends)
        if step is not None:
            if not _is_number(step, whole) or step <= 0:
                return self._add_problem((*path, "step"), f"must be a {noun.removesuffix('s')} above 0", step)
            if not hi / step - lo / step < MAX_STEPS:
                rule = f"divides the range into more than {MAX_STEPS} parts; write a larger one, or leave it out"
                return self._add_problem((*path, "step"), rule, step)
            steps, rest = divmod(decimal(hi) - decimal(lo), decimal(step))
            if rest:
                reached = decimal(lo) + steps * decimal(step)
                rule = f"does not lead from {lo} to {hi}; end the range at {reached}, or choose another step"
                return self._add_problem((*path, "step"), rule, step)
        domain = Int(lo, hi, step or 1, log) if whole else Float(float(lo), float(hi), step and float(step), log)
        self._register(name, domain)
        return NumberNode(name, domain)

    def _choice(self, options: Any, path: Path, name: str) -> Node:
        place = (*path, "choice")
        if not isinstance(options, list | tuple):
            return self._add_problem(place, "must be a list of options, such as [a, b]", options)
        if not options:
            return self._add_problem(place, "has no options; list at least one", options)
        if len(options) > MAX_OPTIONS:
            rule = f"has {len(options)} options, more than {MAX_OPTIONS}; list fewer, or write a range of numbers"
            return self._add_problem(place, rule)
        if (duplicate := _duplicate(options)) is not None:
            return self._add_problem(place, "lists an option twice; list each once", duplicate)
        words = labels(options)
        domain = Choice(words, texts(options, words))
        self._register(name, domain)
        return ChoiceNode(name, domain, self._options(options, words, place, name))

    def _subset(self, tree: Mapping[str, Any], path: Path, name: str) -> Node:
        items, place = tree["subset"], (*path, "subset")
        if not isinstance(items, list | tuple):
            return self._add_problem(place, "must be a list of items, such as [a, b]", items)
        if len(items) > MAX_OPTIONS:
            return self._add_problem(place, f"has {len(items)} items, more than {MAX_OPTIONS}; list fewer")
        if not items:
            return self._add_problem(place, "is a subset of nothing; list at least one item", items)
        if (duplicate := _duplicate(items)) is not None:
            return self._add_problem(place, "lists an item twice; list each once", duplicate)
        least, most = tree.get("min", 1), tree.get("max", "all")
        if not _is_number(least, whole=True) or not 0 <= least <= len(items):
            rule = f"must be a whole number from 0 to {len(items)}, the number of items"
            return self._add_problem((*path, "min"), rule, least)
        if most != "all" and (not _is_number(most, whole=True) or not 0 <= most <= len(items)):
            rule = f"must be all, or a whole number from 0 to {len(items)}, the number of items"
            return self._add_problem((*path, "max"), rule, most)
        most = len(items) if most == "all" else most
        if least > most:
            return self._add_problem(path, f"has min {least} above max {most}; lower min or raise max")
        domain = Subset(labels(items), least, most)
        self._register(name, domain)
        return SubsetNode(name, domain, self._options(items, domain.labels, place, name))

    def _options(self, options: Sequence[Tree], words: Sequence[str], place: Path, name: str) -> list[Node]:
        """Return the nodes of options or items, whose ranges are named after the label of their option."""
        return [
            self.node(option, (*place, i), f"{name}/{name_part(word)}/")
            for i, (option, word) in enumerate(zip(options, words, strict=True))
        ]

    def _repeat(self, tree: Any, place: Path, name: str) -> Node:
        if not isinstance(tree, Mapping) or set(tree) != {"times", "of"}:
            return self._add_problem(place, "must be {times: ..., of: ...}: how often, and a value or range", tree)
        before = len(self.problems)
        times = self.node(tree["times"], (*place, "times"), f"{name}.times")
        if len(self.problems) > before:
            return times
        counts = _counts(times)
        if counts is None or not all(_is_number(n, whole=True) and 0 <= n <= MAX_REPEATS for n in counts):
            rule = f"must be a whole number from 0 to {MAX_REPEATS}, or an int range or choice of such"
            return self._add_problem((*place, "times"), rule, tree["times"])
        elements: list[Node] = []
        for i in range(max(counts)):
            elements.append(self.node(tree["of"], (*place, "of"), f"{name}.{i}"))
            if len(self.problems) > before:
                break  # the remaining elements have the same problems
        return RepeatNode(times, counts, elements)

    def _register(self, name: str, domain: Domain) -> None:
        assert name not in self.domains, f"two ranges are named {name}"
        self.domains[name] = domain

    def _add_problem(self, path: Path, rule: str, *got: Any) -> Node:
        """Record a problem and return a placeholder, so that the rest of the tree is still checked."""
        self.problems.append(Problem(path, rule, *map(shown, got)))
        return FixedNode(None)


def labels(options: Sequence[Tree]) -> tuple[str, ...]:
    """Return a unique label for each option.

    The label is the value of a scalar, "none" for an empty list, the kinds of mappings, and otherwise the index. A
    repeated label gets a number.
    """
    plain = [label_of(option) or str(i) for i, option in enumerate(options)]
    # Labels are compared as they stand in names, where "a+b" and "a-b" are the same. A numbered label must not be equal
    # to the plain label of another option.
    plain_counts, result = Counter(map(name_part, plain)), []
    used: set[str] = set()
    tried: dict[str, int] = {}  # the last number of a label: a thousand options can have one
    for label in plain:
        n = tried.get(label, 1)
        unique = label if n == 1 else f"{label}-{n}"
        while name_part(unique) in used or (n > 1 and name_part(unique) in plain_counts):
            n += 1
            unique = f"{label}-{n}"
        tried[label] = n
        used.add(name_part(unique))
        result.append(unique)
    return tuple(result)


def label_of(option: Tree) -> str | None:
    """Return the label of an option beside which there is no equal one; None where that is its index."""
    if isinstance(option, list | tuple):
        if not option:
            return "none"
        kinds = [item.get("kind") if isinstance(item, Mapping) else None for item in option]
        return "+".join(map(str, kinds)) if all(isinstance(kind, str) and kind for kind in kinds) else None
    if isinstance(option, Mapping):
        kind = option.get("kind")
        return kind if isinstance(kind, str) else None
    return option if isinstance(option, str) else json.dumps(option, default=str)


def texts(options: Sequence[Tree], words: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a reader sees of each option: its label in ``words``, or its values where that is an index."""
    found = tuple(
        label if label_of(option) is not None else _values(option) or label
        for option, label in zip(options, words, strict=True)
    )
    return found if len(set(found)) == len(found) else words


def _values(option: Tree) -> str:
    """Return the values of a list or a mapping; "" if they are too long."""

    def plain(value: Tree) -> str:
        return value if isinstance(value, str) else shown(value)

    if isinstance(option, Mapping):
        text = " ".join(f"{key} {plain(value)}" for key, value in option.items())
    else:
        text = ",".join(map(plain, option))
    return text if len(text) <= MAX_TEXT else ""


def name_part(label: str) -> str:
    """Return a label as a part of a name; dots and slashes are reserved, since they separate the parts."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", label)


def _join(prefix: str, part: str) -> str:
    return f"{prefix}{part}" if not prefix or prefix.endswith("/") else f"{prefix}.{part}"


def _counts(times: Node) -> list[Any] | None:
    """Return all lengths that the ``times`` of a repeat can become; None if it is not a short range of integers."""
    match times:
        case FixedNode(value=value):
            return [value]
        case NumberNode(domain=Int() as domain) if domain.count <= MAX_REPEATS + 1:
            return list(domain.values())
        case ChoiceNode(options=options) if all_fixed(options):
            return [option.value for option in options if isinstance(option, FixedNode)]
    return None


def _duplicate(options: Sequence[Tree]) -> Tree | None:
    """Return an option that is listed twice; None if there is none."""
    seen: set[Hashable] = set()
    for option in options:
        key = json.dumps(option, sort_keys=True, default=str)
        if key in seen:
            return option
        seen.add(key)
    return None


def _is_number(value: Any, whole: bool) -> bool:
    """Return whether a value is a finite number, and an integer if ``whole``."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return abs(value) < float("inf")  # false for NaN too

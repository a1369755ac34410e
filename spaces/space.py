"""A space: a config tree in which some values are ranges.

=============================================  =====================================================================
``{choice: [...]}``                            one of the options; an option is any value, mapping or list, and may
                                               contain further ranges
``{int: [lo, hi]}``, ``{float: [lo, hi]}``     a number, both ends included; with ``log: true`` or ``step: ...``
``{subset: [...], min: 1, max: all}``          a list of some of the items, in their order
``{repeat: {times: RANGE, of: RANGE}}``        a list of searched length, each element with a value of its own
=============================================  =====================================================================
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from spaces.compiler import RANGES, Compiler
from spaces.domain import Choice, Domain, Float, Int, Subset
from spaces.nodes import Choose, FixedNode, MapNode, Node, Params
from spaces.problem import Path, Problem, SpaceError, Tree, shown
from vattn.errors import UserError

__all__ = [
    "RANGES", "Choice", "Choose", "Domain", "Float", "Int", "Params", "Path", "Problem", "Space", "SpaceError",
    "Subset", "Tree", "shown",
]  # fmt: skip

#: draws of a value that differs from another one; a range of floats can be so narrow that rounding leaves one value
MAX_REDRAWS = 1_000


class Space:
    """The set of all configs that a tree with ranges describes.

    A config is given by its params: a value for each active range, by the name of the range. A range is active if the
    choices above it select the option that contains it. Choices can be nested, so the set is a tree-structured
    (conditional) search space.

    The name of a range is the keys that lead to it, with the label of an option after a slash, such as
    ``model.attention/tam/alpha``. Names are unique, and a name has the same domain in every config.

    A resolved tree shares its parts without ranges with the space: do not modify it.

    Args:
        tree: mappings, lists and scalars, in which ranges are mappings as in the table above.
        path: place of the tree in its file; the paths of problems begin with it.

    Raises:
        SpaceError: ranges are malformed; it lists all problems.
    """

    def __init__(self, tree: Tree, path: Path = ()) -> None:
        compiler = Compiler()
        self._root: Node = compiler.node(tree, path, "")
        if compiler.problems:
            raise SpaceError(compiler.problems)
        #: every range by its name, whether active or not
        self.domains: dict[str, Domain] = compiler.domains

    def part(self, key: str) -> "Space":
        """Return the space of the value at ``key`` of the outermost mapping; its ranges keep their names."""
        assert isinstance(self._root, MapNode | FixedNode), "only a mapping has parts"
        part = object.__new__(Space)
        part._root = self._root.items[key] if isinstance(self._root, MapNode) else FixedNode(self._root.value[key])
        part.domains = self.domains
        return part

    def resolve(self, choose: Choose) -> Tree:
        """Return the plain tree in which every range is replaced by a value.

        Args:
            choose: called with the name and domain of each active range, outer ranges first; returns a value.

        Raises:
            ValueError: a returned value is not in its domain.
        """

        def checked(name: str, domain: Domain) -> Any:
            value = choose(name, domain)
            try:
                return domain.member(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

        return self._root.resolve(checked)

    def replay(self, params: Mapping[str, Any]) -> Tree:
        """Return the plain tree of recorded params; those of inactive ranges are ignored.

        Raises:
            UserError: a value is missing or not in its domain, because the spec has changed since it was recorded.
        """

        def recorded(name: str, domain: Domain) -> Any:
            if name not in params:
                raise UserError("has no recorded value; the space has changed since", path=name)
            try:
                return domain.member(params[name])
            except ValueError as error:
                raise UserError(str(error), path=name) from None

        return self._root.resolve(recorded)

    def has(self, params: Mapping[str, Any]) -> bool:
        """Return whether params make a config: every range that they make active has a value in its domain."""
        try:
            self.replay(params)
        except UserError:
            return False
        return True

    def plain(self) -> tuple[Params, Tree]:
        """Return params and tree of the baseline: the first option, the middle of each number, the largest subset."""
        return self._resolve_active(lambda name, domain: domain.plain())

    def sample(self, rng: random.Random) -> tuple[Params, Tree]:
        """Return params and tree of a random config.

        Each active range is sampled independently, outer ranges first: options, integers, steps and subsets uniformly,
        other numbers uniformly or log-uniformly. Options of a choice are equally probable, however many configs each of
        them contains, so the distribution over configs is not uniform.
        """
        return self._resolve_active(lambda name, domain: domain.sample(rng))

    def neighbour(self, params: Params, rng: random.Random) -> tuple[Params, Tree]:
        """Return params and tree of a config that differs in one active range, chosen uniformly.

        The range takes a random other value. Ranges that become active are sampled, those that become inactive are
        dropped. If the chosen range has a single value, or none other is drawn, the config is the same.
        """
        changed = rng.choice(list(params)) if params else None

        def choose(name: str, domain: Domain) -> Any:
            if name not in params:
                return domain.sample(rng)
            value = params[name]
            if name == changed and domain.count != 1:
                for _ in range(MAX_REDRAWS):
                    value = domain.sample(rng)
                    if value != params[name]:
                        break
            return value

        return self._resolve_active(choose)

    def size(self) -> int | None:
        """Return the exact number of distinct params; None if a float without a step makes it infinite."""
        return self._root.size()

    def enumerate(self) -> Iterator[tuple[Params, Tree]]:
        """Yield params and tree of every config of a finite space, each params once; the last range changes fastest."""
        value: Any = None
        remaining: list[tuple[str, Iterator[Any]]] = []  # active ranges, outer first, and their values not yet yielded
        params: Params = {}

        def choose(name: str, domain: Domain) -> Any:
            if name not in params:
                values = domain.values()
                params[name] = next(values)
                remaining.append((name, values))
            return params[name]

        while True:
            tree = self._root.resolve(choose)
            yield dict(params), tree
            # Advance the last range that has values left; ranges after it start again, if they are still active.
            while remaining and (value := next(remaining[-1][1], None)) is None:
                del params[remaining.pop()[0]]
            if not remaining:
                return
            params[remaining[-1][0]] = value

    def one_at_a_time(self) -> Iterator[tuple[Params, Tree]]:
        """Yield params and tree of configs in which each range that can be active takes each of its probes.

        This is a one-at-a-time design: while one range varies, the others stay at their first value, or at the value
        that makes the varied range active. `Domain.probes` are all values, or the ends of a long domain.
        """
        seen: set[str] = set()
        queue: deque[Params] = deque([{}])
        while queue:
            forced = queue.popleft()
            params, tree = self._first(forced)
            yield params, tree
            for name in [name for name in params if name not in seen]:
                seen.add(name)
                values = (value for value in self.domains[name].probes() if value != params[name])
                queue.extend(forced | {name: value} for value in values)

    def _first(self, forced: Params) -> tuple[Params, Tree]:
        """Return the config in which ranges that are not in ``forced`` take their first value."""
        return self._resolve_active(
            lambda name, domain: forced[name] if name in forced else next(iter(domain.probes()))
        )

    def _resolve_active(self, choose: Choose) -> tuple[Params, Tree]:
        """Return the values that ``choose`` returns for the active ranges, and the plain tree."""
        params: Params = {}

        def record(name: str, domain: Domain) -> Any:
            params[name] = choose(name, domain)
            return params[name]

        return params, self._root.resolve(record)

    def recover(self, tree: Tree) -> Iterator[Params]:
        """Yield all params whose ranges have the values that stand at their places in ``tree``: `resolve` inverted.

        Parts of the tree outside of all ranges are not compared. An option of a choice, or an item of a subset, matches
        if ``tree`` has everything that it says; ``tree`` may have more, such as defaults. So several params can match.
        """
        return self._root.recover(tree, exact=False)

    def locate(self, path: Path, params: Mapping[str, Any]) -> Path:
        """Return the place, in the tree with ranges, of the value at ``path`` of the plain tree of ``params``."""
        return self._root.locate(path, params)

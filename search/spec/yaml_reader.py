"""Read a YAML file as plain mappings, lists and scalars, and apply overrides ``a.b=value``."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from search.spec.messages import SpecError

Tree = dict[str, Any]

#: a number in YAML 1.2's core schema, without infinities and NaN
_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+"


class _Loader(yaml.SafeLoader):
    """A loader for YAML 1.2's core schema: "no" and 2024-01-01 are strings, 1e-4 is a number. Keys must be strings."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        # Deep construction makes an alias inside its own anchor an error instead of a tree without end.
        return super().construct_object(node, deep=True)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        tree = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node)
            if not isinstance(key, str):
                raise _error(key_node, "a key must be a word; put it in quotes if it is meant")
            if key in tree:
                raise _error(key_node, f"the key {key} is given twice; keep one of them")
            tree[key] = self.construct_object(value_node)
        return tree

    def construct_number(self, node: ScalarNode) -> int | float:
        """Return the number in a text that matches `_NUMBER`."""
        text = node.value
        try:
            if re.fullmatch(r"[-+]?[0-9]+", text):
                return int(text)
            number = int(text, 0) if re.match(r"0[ox]", text) else float(text)
        except ValueError:
            number = math.inf
        if math.isinf(number):
            raise _error(node, "a number is too large")
        return number


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_mapping)


def _error(node: Node, rule: str) -> ConstructorError:
    return ConstructorError(None, None, rule, node.start_mark)


def parse(text: str) -> Any:
    """Return the mapping, list or scalar in a YAML text. Raises ValueError that names the line."""
    try:
        # It constructs plain values only, never an object that the text asks for.
        return yaml.load(text, _Loader)
    except ConstructorError as error:
        raise ValueError(f"{_line(error)}{error.problem}") from None
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{_line(error)}is not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _line(error: yaml.MarkedYAMLError) -> str:
    return f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""


def read(path: Path, sets: Sequence[str] = ()) -> Tree:
    """Return the mapping in a YAML file with the overrides ``a.b=value`` applied. Raises SpecError."""
    try:
        tree = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError([f"{path}: {(error.strerror or str(error)).lower()}; name a file that can be read"]) from None
    except UnicodeDecodeError:
        raise SpecError([f"{path}: is not text in UTF-8"]) from None
    except ValueError as error:
        raise SpecError([f"{path}: {error}"]) from None
    if not isinstance(tree, dict):
        raise SpecError([f"{path}: must be a mapping, lines such as `name: value`"])
    override(tree, sets)
    return tree


def override(tree: Tree, sets: Sequence[str]) -> None:
    """Apply the overrides ``a.b=value`` to ``tree`` in place. Raises SpecError with a line for each wrong one."""
    lines = []
    for change in sets:
        try:
            _set(tree, change)
        except ValueError as error:
            lines.append(f"--set {change}: {error}")
    if lines:
        raise SpecError(lines)


def _set(tree: Any, change: str) -> None:
    """Apply ``a.b[0]=value`` to ``tree``; missing mappings on the way are created."""
    where, equals, text = change.partition("=")
    parts = [int(index) if index else key for index, key in re.findall(r"\[(\d+)\]|([^.\[\]]+)", where)]
    if not equals or not re.fullmatch(r"[^.\[\]=]+(\.[^.\[\]]+|\[\d+\])*", where):
        raise ValueError("must be a path, =, and a value, such as search.budget.trials=8 or a.choice[0]=4")
    value, path = parse(text), ""
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        _check_container(tree, part, path)
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
        if after is None:
            tree[part] = value
        elif isinstance(part, str) and part not in tree:
            tree[part] = {}
        tree = tree[part]


def _check_container(tree: Any, part: str | int, path: str) -> None:
    """Raise ValueError if ``tree``, which stands at ``path``, cannot hold an item at the key or index ``part``."""
    if isinstance(part, int) and (not isinstance(tree, list) or part >= len(tree)):
        has = f"a list of {len(tree)}" if isinstance(tree, list) else "no list"
        raise ValueError(f"there is no element {part}: {path} is {has}")
    if isinstance(part, str) and not isinstance(tree, dict):
        raise ValueError(f"there is no key {part}: {path} is no mapping; set {path} itself")

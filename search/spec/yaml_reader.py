"""Read a YAML file as plain mappings, lists and scalars, and apply overrides ``a.b=value``.

A file can come from a stranger. Its size, depth and number of values are bounded before anything is made of it; it has
no tags, and texts have no control characters.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from search.spec.messages import SpecError
from vattn.errors import without_password

Tree = dict[str, Any]

#: bytes of a file
MAX_BYTES = 256_000
#: values of a file, where an alias counts as all values that it stands for
MAX_VALUES = 10_000
#: mappings and lists inside of each other
MAX_DEPTH = 64
#: characters of an override that a message shows
MAX_SHOWN = 200
#: whole numbers are smaller than this: those that other programs store in 64 bits
MAX_INTEGER = 2**63

#: the key of a mapping whose keys name values of ranges (``search.prior``), which can be numbers
PRIOR = "prior"

#: what a text must not have: control characters, line ends among them, and halves of UTF-16 pairs
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
#: the tag of text, the only one that can be written
_TEXT = "tag:yaml.org,2002:str"

#: a number in YAML 1.2's core schema, without infinities and NaN
_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+"


class _Loader(yaml.SafeLoader):
    """A loader for YAML 1.2's core schema: "no" and 2024-01-01 are strings, 1e-4 is a number. Keys must be strings.

    Below `PRIOR`, a number or true or false is read as the text of that key.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth, self._num_values = 0, 0
        # number of values of each node that an anchor names
        self._sizes: dict[Node, int] = {}
        # number of mappings around a value whose keys may be numbers
        self._in_prior = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        # Checked here, while the file is parsed, because what follows visits each value several times.
        event: Any = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", _TEXT):
            tag = tag.replace("tag:yaml.org,2002:", "!!")
            raise ConstructorError(None, None, f"the tag {tag} is not allowed; write the value", event.start_mark)
        if self._depth >= MAX_DEPTH:
            raise ConstructorError(None, None, f"is nested more than {MAX_DEPTH} deep", event.start_mark)
        before = self._num_values
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            self._num_values += self._sizes.get(node, 1) if node else 1  # inside of its own anchor it is refused later
        else:
            self._num_values += 1
            if node and event.anchor:
                self._sizes[node] = self._num_values - before
        if self._num_values > MAX_VALUES:
            raise ConstructorError(None, None, f"the file has more than {MAX_VALUES} values", event.start_mark)
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        # Deep construction makes an alias inside its own anchor an error instead of a tree without end.
        return super().construct_object(node, deep=True)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        tree = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node)
            if isinstance(key, int | float) and self._in_prior:
                key = json.dumps(key)  # as in the label of an option
            if not isinstance(key, str):
                raise _error(key_node, "a key must be a word; put it in quotes if it is meant")
            if key in tree:
                raise _error(key_node, f"the key {key} is given twice; keep one of them")
            self._in_prior += key == PRIOR
            tree[key] = self.construct_object(value_node)
            self._in_prior -= key == PRIOR
        return tree

    def construct_scalar(self, node: Any) -> Any:
        """Return the text of a scalar."""
        text = super().construct_scalar(node)
        if _CONTROL.search(text):
            raise _error(node, "a text has a control character; leave it out")
        return text

    def construct_number(self, node: ScalarNode) -> int | float:
        """Return the number in a text that matches `_NUMBER`."""
        text = node.value
        try:
            if re.fullmatch(r"[-+]?[0-9]+", text):
                number = int(text)
            else:
                number = int(text, 0) if re.match(r"0[ox]", text) else float(text)
        except ValueError:  # it has thousands of digits
            number = math.inf
        limit = MAX_INTEGER if isinstance(number, int) else math.inf
        if not -limit <= number < limit:
            raise _error(node, "a number is too large")
        return number


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
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
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES // 1000:,} kB, as no spec or config is; name another")
        tree = parse(data.decode("utf-8"))
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
            lines.append(f"--set {without_password(change[:MAX_SHOWN])}: {error}")
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

"""Convert pydantic's errors into problems that a user can act on: path as written in the file, rule, way out, value."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, Self, get_args

from pydantic import ValidationError

from spaces.space import RANGES, Path, Problem, shown
from vattn.base import Config
from vattn.errors import UserError

#: number of problems that a message shows; the rest are only counted
MAX_PROBLEMS = 20
#: what a value must be, by pydantic's type of error without its suffix "_type"
_TYPES = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "tuple": "a list",
    "list": "a list", "dict": "a mapping", "model": "a mapping", "model_attributes": "a mapping",
}  # fmt: skip
#: by pydantic's type of error: where its context has the bound, and how a message names it
_BOUNDS = {
    "greater_than": ("gt", "above"), "greater_than_equal": ("ge", "at least"), "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}  # fmt: skip


class SpecError(UserError):
    """A spec, a config or an override has problems; ``lines`` has one line for each, beginning with the file."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)

    @classmethod
    def of(cls, file: FilePath, problems: Sequence[Problem]) -> Self:
        """Return the error for the problems of ``file``: the first `MAX_PROBLEMS`, each once, and how many are left."""
        # Many combinations of a space break the same rule at the same path: show it once, with the first value.
        distinct = list({(problem.path, problem.rule): problem for problem in reversed(problems)}.values())[::-1]
        lines = [f"{file}: {problem}" for problem in distinct[:MAX_PROBLEMS]]
        left = len(distinct) - MAX_PROBLEMS
        return cls([*lines, f"{file}: and {left} more problems"] if left > 0 else lines)

    def __reduce__(self) -> tuple[type["SpecError"], tuple[tuple[str, ...]]]:
        return SpecError, (self.lines,)


def problems(error: ValidationError, schema: Any, tree: Any) -> list[Problem]:
    """Return the problems of ``tree``, one for each value that pydantic refused.

    Args:
        error: what pydantic raised for ``tree``.
        schema: the type that ``tree`` was validated as: a config class, or a union of such.
        tree: the mapping, list or scalar that the user wrote; the paths of the problems are relative to it.
    """
    by_path: dict[Path, Problem] = {}
    for item in error.errors(include_url=False):
        path, value, of_union = _place(item["loc"], tree, item["type"] == "missing")
        problem = _problem(item, schema, path, value)
        if of_union and problem.path in by_path:
            # Each type that the value could have makes an error: join them into one problem.
            rule = f"{by_path[problem.path].rule} or {problem.rule.removeprefix('must be ')}"
            problem = Problem(problem.path, rule, problem.got)
        by_path[problem.path] = problem
    return list(by_path.values())


def _place(loc: Sequence[str | int], tree: Any, missing: bool) -> tuple[Path, Any, bool]:
    """Return pydantic's location as a path in the tree, the value at it, and whether one member of a union refused it.

    A location holds more than keys and indices: tags of unions, and "[key]" for an error about a key.
    """
    path: list[str | int] = []
    for i, part in enumerate(loc):
        if isinstance(tree, Mapping):
            if part in tree:
                path.append(part)
                tree = tree[part]
            elif missing and i == len(loc) - 1:
                path.append(part)
            elif part != "[key]" and part != tree.get("kind") and i == len(loc) - 1:
                return tuple(path), tree, True
        elif isinstance(tree, list) and isinstance(part, int):
            path.append(part)
            tree = tree[part]
        elif part != "[key]":
            return tuple(path), tree, True
    return tuple(path), tree, False


def _problem(item: Any, schema: Any, path: Path, value: Any) -> Problem:
    """Return the problem for one of pydantic's errors, about the value at ``path``."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "missing":
        return Problem(path, "is missing; add it")
    if kind == "extra_forbidden":
        return Problem(path, _unknown_key(path[-1], _keys(_configs_at(schema, item["loc"][:-1]))))
    if item["loc"] and item["loc"][-1] == "[key]":
        return Problem(path, _unknown_key(path[-1], _listed(context.get("expected", ""))))
    if kind == "union_tag_not_found":
        kinds = _kinds(_configs_at(schema, item["loc"]))
        return Problem((*path, "kind"), f"is missing; add one of {', '.join(kinds)}")
    if kind == "union_tag_invalid":
        path, value = (*path, "kind"), context["tag"]
        return Problem(path, _not_one_of(value, _listed(context["expected_tags"])), shown(value))
    if kind == "literal_error":
        rule = _not_one_of(value, _listed(context["expected"]))
        keys = _keys(_configs_at(schema, item["loc"]))
        if keys and "did you mean" not in rule:
            rule += f" or a mapping; it can have {', '.join(keys)}"
        return Problem(path, rule, shown(value))
    if kind in _BOUNDS:
        key, name = _BOUNDS[kind]
        bound = f"{context[key]:.15g}"
        way_out = f"; try {bound}" if key in ("ge", "le") else ""
        return Problem(path, f"must be {name} {bound}{way_out}", shown(value))
    if kind == "value_error":
        return _from_validator(str(context["error"]), path, value)
    return _wrong_type(item, schema, path, value)


def _wrong_type(item: Any, schema: Any, path: Path, value: Any) -> Problem:
    wanted = _TYPES.get(item["type"].removesuffix("_type"))
    rule = f"must be {wanted}" if wanted else item["msg"][0].lower() + item["msg"][1:]
    if isinstance(value, Mapping):
        close = [match for key in value for match in get_close_matches(key, RANGES, 1)]
        rule += f"; did you mean {{{close[0]}: ...}}?" if close else ""
    elif wanted == "a mapping":
        # Suggest the intended kind for text in place of a mapping.
        close = get_close_matches(str(value), _kinds(_configs_at(schema, item["loc"])), 1)
        rule += f"; did you mean {{kind: {close[0]}}}?" if close else ""
    return Problem(path, rule, shown(value))


def _from_validator(text: str, path: Path, value: Any) -> Problem:
    """Return the problem for the ValueError of a config's validator, ``attention[0].stages: rule (got 6)``.

    Both the path at the start, relative to ``path``, and the value at the end are optional.
    """
    match = re.fullmatch(r"(?:(\w+(?:\[\d+\]|\.\w+)*): )?(.*?)(?: \(got (.*)\))?", text, re.DOTALL)
    assert match is not None
    inner, rule, got = match.groups()
    parts = [int(index) if index else key for index, key in re.findall(r"\[(\d+)\]|(\w+)", inner or "")]
    if parts and not (isinstance(value, Mapping) and parts[0] in value):
        parts, rule = [], f"{inner}: {rule}"
    return Problem((*path, *parts), rule, got or ("" if parts else shown(value)))


def _unknown_key(key: str | int, known: Iterable[str]) -> str:
    known = list(known)
    close = get_close_matches(str(key), known, 1)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known here: {', '.join(known)}"


def _not_one_of(value: Any, choices: list[str]) -> str:
    close = get_close_matches(value, choices, 1) if isinstance(value, str) and len(choices) > 1 else []
    rule = f"must be {'one of ' if len(choices) > 1 else ''}{', '.join(choices)}"
    return f"{rule}; did you mean {close[0]}?" if close else rule


def _listed(text: str) -> list[str]:
    """Return the items of pydantic's list "'a', 'b' or 'c'"."""
    return [item.strip("'") for item in re.split(r", | or ", text)]


def _fields(config: type[Config]) -> dict[str | int, Any]:
    """Return the types of the values of a config's mapping, by key."""
    return {field.alias or name: field.annotation for name, field in config.model_fields.items()}


def _keys(configs: Iterable[type[Config]]) -> list[str]:
    """Return the keys that a mapping for one of these configs can have."""
    return list(dict.fromkeys(str(key) for config in configs for key in _fields(config)))


def _kinds(configs: Iterable[type[Config]]) -> list[str]:
    """Return the kinds of these configs."""
    return [kind for config in configs for kind in get_args(_fields(config).get("kind"))]


def _configs_at(schema: Any, loc: Sequence[str | int]) -> list[type[Config]]:
    """Return the config classes that the type ``schema`` allows at pydantic's location ``loc``."""
    configs = _configs(schema)
    for part in loc:
        inner = [fields[part] for fields in map(_fields, configs) if part in fields]
        tagged = [config for config in configs if part in _kinds([config])]
        configs = [config for annotation in inner for config in _configs(annotation)] if inner else tagged or configs
    return configs


def _configs(annotation: Any) -> list[type[Config]]:
    """Return the config classes in a type, such as the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [config for inner in get_args(annotation) for config in _configs(inner)]

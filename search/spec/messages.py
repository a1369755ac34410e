"""From pydantic's errors to ours: a path as written in the file, the rule, the way out, what was found."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, get_args

from pydantic import ValidationError

from spaces.space import RANGES, Path, Problem, shown
from vattn.base import Config
from vattn.errors import UserError

#: words of the interface that are not built yet, by the path of the mapping or the value that they stand in
PLANNED = {
    "objectives": "latency_ms",
    "constraints": "latency_ms",
}


_TYPES = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "tuple": "a list",
    "list": "a list", "dict": "a mapping", "model": "a mapping", "model_attributes": "a mapping",
}  # fmt: skip


_BOUNDS = {
    "greater_than": ("gt", "above"), "greater_than_equal": ("ge", "at least"), "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}  # fmt: skip

#: of a spec with more problems than this, the rest are only counted
MAX_PROBLEMS = 20


class SpecError(UserError):
    """A spec, a config or an override is wrong; ``lines`` has one line a problem, each beginning with the file."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)

    def __reduce__(self) -> tuple[type["SpecError"], tuple[tuple[str, ...]]]:
        return SpecError, (self.lines,)


def spec_error(path: FilePath, found: Sequence[Problem]) -> SpecError:
    """Return the error for all problems of the file ``path``, each once, the first `MAX_PROBLEMS` in full."""
    distinct = list({(problem.path, problem.rule): problem for problem in reversed(found)}.values())[::-1]
    lines = [f"{path}: {problem}" for problem in distinct[:MAX_PROBLEMS]]
    rest = len(distinct) - MAX_PROBLEMS
    return SpecError([*lines, f"{path}: and {rest} more problems"] if rest > 0 else lines)


def problems(error: ValidationError, recipe: Any, tree: Any, where: Path = ()) -> list[Problem]:
    """Return the problems of ``tree``, which stands at ``where``, by the errors of the type ``recipe``."""
    found: dict[Path, Problem] = {}
    for item in error.errors(include_url=False):
        path, value, is_member = _place(item["loc"], tree, item["type"] == "missing")
        problem = _fault(item, recipe, path, value, where)
        if is_member and problem.path in found:
            # One value, several types that it could have: one problem.
            problem = Problem(
                problem.path, f"{found[problem.path].rule} or {problem.rule.removeprefix('must be ')}", problem.got
            )
        found[problem.path] = problem
    return list(found.values())


def _place(loc: Sequence[str | int], tree: Any, missing: bool) -> tuple[Path, Any, bool]:
    """Return a path without the tags of unions, the value there, and whether the error is of one member of a union."""
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


def _fault(item: Any, recipe: Any, path: Path, value: Any, where: Path) -> Problem:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "missing":
        return Problem(path, "is missing; add it")
    if kind == "extra_forbidden":
        return Problem(path, _unknown(path[-1], _keys(_at(recipe, item["loc"][:-1])), (*where, *path[:-1])))
    if item["loc"] and item["loc"][-1] == "[key]":
        return Problem(path, _unknown(path[-1], _words(context.get("expected", "")), (*where, *path[:-1])))
    if kind in ("literal_error", "union_tag_invalid"):
        if kind == "union_tag_invalid":
            path, value = (*path, "kind"), context["tag"]
        choices = _words(context.get("expected") or context["expected_tags"])
        rule = _not_one_of(value, choices, (*where, *path))
        if kind == "literal_error" and (keys := _keys(_at(recipe, item["loc"]))):
            rule += f" or a mapping; it can have {', '.join(keys)}"
        return Problem(path, rule, shown(value))
    if kind == "union_tag_not_found":
        return Problem((*path, "kind"), f"is missing; add one of {', '.join(_kinds(_at(recipe, item['loc'])))}")
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = f"{context[key]:.15g}"
        return Problem(
            path, f"must be {words} {bound}" + (f"; try {bound}" if key in ("ge", "le") else ""), shown(value)
        )
    if kind == "value_error":
        return _said(str(context["error"]), path, value)
    wanted = _TYPES.get(kind.removesuffix("_type"))
    rule = f"must be {wanted}" if wanted else item["msg"][0].lower() + item["msg"][1:]
    if isinstance(value, Mapping):
        close = [match for key in value for match in get_close_matches(key, RANGES, 1)]
        rule += f"; did you mean {{{close[0]}: ...}}?" if close else ""
    elif wanted == "a mapping":
        close = get_close_matches(str(value), _kinds(_at(recipe, item["loc"])), 1)
        rule += f"; did you mean {{kind: {close[0]}}}?" if close else ""
    return Problem(path, rule, shown(value))


def _said(text: str, path: Path, value: Any) -> Problem:
    """Return the problem that a recipe tells: ``attention[0].stages: rule (got this)``, both ends optional."""
    match = re.fullmatch(r"(?:(\w+(?:\[\d+\]|\.\w+)*): )?(.*?)(?: \(got (.*)\))?", text, re.DOTALL)
    assert match is not None
    inner, rule, got = match.groups()
    parts = [int(index) if index else key for index, key in re.findall(r"\[(\d+)\]|(\w+)", inner or "")]
    if parts and not (isinstance(value, Mapping) and parts[0] in value):
        parts, rule = [], f"{inner}: {rule}"
    return Problem((*path, *parts), rule, got or ("" if parts else shown(value)))


def _unknown(key: str | int, known: Iterable[str], where: Path) -> str:
    if key in _planned(where):
        return "not available yet; leave it out"
    known = list(known)
    close = get_close_matches(str(key), known, 1)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known here: {', '.join(known)}"


def _not_one_of(value: Any, choices: list[str], path: Path) -> str:
    if value in _planned(path):
        return f"not available yet; take {' or '.join(choices)}"
    close = get_close_matches(value, choices, 1) if isinstance(value, str) and len(choices) > 1 else []
    rule = f"must be {'one of ' if len(choices) > 1 else ''}{', '.join(choices)}"
    return f"{rule}; did you mean {close[0]}?" if close else rule


def _planned(path: Path) -> list[str]:
    return PLANNED.get(".".join(part for part in path if isinstance(part, str)), "").split()


def _words(listed: str) -> list[str]:
    """Return the words of pydantic's "'a', 'b' or 'c'"."""
    return [word.strip("'") for word in re.split(r", | or ", listed)]


def _fields(config: type[Config]) -> dict[str | int, Any]:
    """Return the types of what a mapping can hold, by its keys."""
    return {field.alias or name: field.annotation for name, field in config.model_fields.items()}


def _keys(configs: Iterable[type[Config]]) -> list[str]:
    """Return the keys that a mapping of one of these can have."""
    return list(dict.fromkeys(str(key) for config in configs for key in _fields(config)))


def _kinds(configs: Iterable[type[Config]]) -> list[str]:
    """Return the kinds that a mapping of one of these can have."""
    return [kind for config in configs for kind in get_args(_fields(config).get("kind"))]


def _at(recipe: Any, loc: Sequence[str | int]) -> list[type[Config]]:
    """Return the recipes that can stand at ``loc``, tags of unions included, inside the type ``recipe``."""
    configs = _configs(recipe)
    for part in loc:
        inner = [fields[part] for fields in map(_fields, configs) if part in fields]
        tagged = [config for config in configs if part in _kinds([config])]
        configs = [config for annotation in inner for config in _configs(annotation)] if inner else tagged or configs
    return configs


def _configs(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [config for inner in get_args(annotation) for config in _configs(inner)]

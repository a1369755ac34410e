"""Mistakes in a spec: where each one is, and the exception that carries several of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from typing_extensions import override

from vattn.errors import UserError, shortened, without_password

#: mappings, lists and scalars, as YAML or JSON reads them
Tree = Any
#: keys and indices that lead to a value in a tree
Path = tuple[str | int, ...]

#: characters; a longer value would hide the rule that it broke
MAX_SHOWN_LENGTH = 60
#: names of ranges that a message lists
MAX_NAMES = 8


@dataclass(frozen=True)
class Problem:
    """One mistake in a tree.

    Args:
        path: keys and indices of the wrong value.
        rule: what must hold, followed by what the user can do.
        got: the wrong value as text; empty where it is too long or missing.
    """

    path: Path
    rule: str
    got: str = ""

    def __str__(self) -> str:
        got = f" (got {shortened(self.got)})" if self.got else ""
        return f"{shortened(_path_text(self.path))}: {shortened(self.rule)}{got}".removeprefix(": ")


class SpaceError(UserError):
    """A tree has malformed ranges; ``problems`` lists all of them, and the text has one line for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is pickled with the text that its base class was called with.
        return type(self), (self.problems,)


def shown(value: Tree) -> str:
    """Return a value as JSON for a message, or an empty string if that is longer than `MAX_SHOWN_LENGTH`."""
    text = without_password(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= MAX_SHOWN_LENGTH else ""


def unknown_range(name: str, known: Iterable[str], path: Path) -> Problem:
    """Return the problem for a name that no range has, with the name that was probably meant, or the known ones."""
    names = list(known)
    close = get_close_matches(name, names, 1) or [long for long in names if long.endswith(f".{name}")][:1]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    way_out = f"did you mean {close[0]}?" if close else f"the ranges are {', '.join(names[:MAX_NAMES]) or 'none'}{more}"
    return Problem((*path, name), f"is no range of the space; {way_out}")


def _path_text(path: Path) -> str:
    """Return a path as a user writes it: ``model.attention[0].alpha``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")

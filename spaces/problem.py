"""Mistakes in a spec: where each one is, and the exception that carries several of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from vattn.errors import UserError, shortened, without_password

#: mappings, lists and scalars, as YAML or JSON reads them
Tree = Any
#: keys and indices that lead to a value in a tree
Path = tuple[str | int, ...]

#: characters; a longer value would hide the rule that it broke
MAX_SHOWN_LENGTH = 60


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


def _path_text(path: Path) -> str:
    """Return a path as a user writes it: ``model.attention[0].alpha``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")

"""State dicts: rename their entries, and compare them with a network."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from vattn.errors import UserError

State = Mapping[str, Tensor]
#: Regular expressions and their replacements, applied in order.
Rules = tuple[tuple[str, str], ...]
_Value = TypeVar("_Value")

#: How many names of each kind a message lists.
_LISTED_NAMES = 4


def is_weight(name: str) -> bool:
    """Return whether an entry is one of weights or statistics, not the number of batches that a batch norm has seen.

    Batch norms of early torch versions did not have that number.
    """
    return not name.endswith("num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Fit:
    """The differences between a state dict and a network. It is true where there are none.

    ``missing`` names are only in the network, ``unknown`` names only in the state dict, and ``reshaped`` names are in
    both with different shapes.
    """

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    reshaped: tuple[str, ...]

    @classmethod
    def of(cls, state: State, network: State) -> "Fit":
        """Compare a state dict with that of a network.

        A missing number of batches is no difference (see `is_weight`).
        """
        return cls(
            missing=tuple(n for n in network if n not in state and is_weight(n)),
            unknown=tuple(n for n in state if n not in network),
            reshaped=tuple(n for n in state if n in network and state[n].shape != network[n].shape),
        )

    def __bool__(self) -> bool:
        return not (self.missing or self.unknown or self.reshaped)

    def __str__(self) -> str:
        differences = {
            "lacks": self.missing,
            "also has": self.unknown,
            "has other shapes for": self.reshaped,
        }
        return "; ".join(f"it {verb} {first_of(names)}" for verb, names in differences.items() if names)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a network took from a file: the answer to "is anything left out?".

    ``taken`` are names in the network, ``renamed`` those of them that have another name in the file. ``left`` are names
    in the file that were not used, and ``new`` names in the network that keep their initial values.
    """

    file: Path
    family: str
    taken: tuple[str, ...]
    renamed: int
    left: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.taken) + len(self.left)
        parts = [f"{self.file}: {self.family}: took {len(self.taken)} of {total} tensors, {self.renamed} renamed"]
        parts += [f"left {len(self.left)} of the file: {first_of(self.left)}"] if self.left else []
        parts += [f"{len(self.new)} of the network are new: {first_of(self.new)}"] if self.new else []
        return "; ".join(parts)


def first_of(names: Iterable[str]) -> str:
    """Return the first few names, and the number of the others, for a message."""
    names = tuple(names)
    more = len(names) - _LISTED_NAMES
    return ", ".join(names[:_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")


def rename(state: Mapping[str, _Value], rules: Iterable[tuple[str, str]]) -> dict[str, _Value]:
    """Return ``state`` with every rule applied in turn to every name; a rule is (regular expression, replacement).

    An entry whose new name is empty is left out.

    Raises:
        UserError: two entries get the same name, so the state dict is that of another network.
    """
    rules = list(rules)
    renamed, origin = {}, {}
    for name, value in state.items():
        new = rename_one(name, rules)
        if new in renamed:
            raise UserError(f"{name} and {origin[new]} both stand for {new}; these are the names of another network")
        if new:
            renamed[new], origin[new] = value, name
    return renamed


def rename_one(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """Return ``name`` with every rule (regular expression, replacement) applied in turn."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name

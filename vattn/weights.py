"""State dicts: read one from a file, rename its entries, and compare it with a network."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vattn.errors import UserError

State = Mapping[str, Tensor]

#: How many names of each kind a message lists.
_LISTED_NAMES = 4


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

        A missing ``num_batches_tracked`` is no difference: batch norms of early torch versions did not have it.
        """
        return cls(
            missing=tuple(n for n in network if n not in state and not n.endswith("num_batches_tracked")),
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
        return "; ".join(f"it {verb} {_first_of(names)}" for verb, names in differences.items() if names)


def _first_of(names: tuple[str, ...]) -> str:
    more = len(names) - _LISTED_NAMES
    return ", ".join(names[:_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")


def refuse_other_files(file: Path) -> None:
    """Raise UserError if a file is missing, or does not begin as those that torch or safetensors write."""
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    with file.open("rb") as content:
        start = content.read(9)
    # a ZIP archive; a pickle, as torch wrote before version 1.6; the length of safetensors' header, and its bracket
    if not (start.startswith((b"PK\x03\x04", b"\x80\x02")) or start[8:] == b"{"):
        raise UserError(f"{file} is not a file with weights, as torch or safetensors write it")


def read_state(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a file that torch saved: the whole content, or its entry "state_dict".

    The file is read with torch's ``weights_only``, so that it cannot run code.

    Raises:
        UserError: there is no such file, it could run code while it is read, or it holds no state dict.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load documents no narrower class for a file without weights
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{file} is not read: it holds more than names, numbers and tensors, and what it names, {code[1]}, "
                'could run any code while it is read; where you trust it, save its "state_dict" alone and use that'
            ) from error
        # Torch's own message has several lines, and recommends allowing the file to run code.
        raise UserError(f"{file} is not a state dict saved by torch, or it is damaged") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file} holds no state dict (names and tensors); found {type(state).__name__}")
    return state


def rename(state: State, rules: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
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

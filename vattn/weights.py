"""State dicts: how one is read from a file, and whether it fits a network."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Fit:
    """What stands between a state dict and a network; true where nothing does.

    ``missing`` are names of the network that the state dict lacks, ``unknown`` are its own that the network has not,
    and ``reshaped`` are those that both have in different shapes.
    """

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    reshaped: tuple[str, ...]

    @classmethod
    def of(cls, state: State, network: State) -> "Fit":
        """Compare; weights from before batch norm counted its batches lack nothing."""
        return cls(
            missing=tuple(n for n in network if n not in state and not n.endswith("num_batches_tracked")),
            unknown=tuple(n for n in state if n not in network),
            reshaped=tuple(n for n in state if n in network and state[n].shape != network[n].shape),
        )

    def __bool__(self) -> bool:
        return not (self.missing or self.unknown or self.reshaped)

    def __str__(self) -> str:
        faults = {
            "lacks": self.missing,
            "has, unknown here,": self.unknown,
            "has other shapes for": self.reshaped,
        }
        return "; ".join(f"it {fault} {_some(names)}" for fault, names in faults.items() if names)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def read_state(file: Path) -> dict[str, Tensor]:
    """Return the state dict that a file holds, itself or under "state_dict".

    Only data is read. Raises ValueError for what could run code while it is read, and for all that is no state dict.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load documents no narrower class for files that are no weights
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{file} is not read: it holds more than names, numbers and tensors, and what it names, {code[1]}, "
                'could run any code while it is read; where you trust it, save its "state_dict" alone and use that'
            ) from error
        # Torch's own text runs over lines, and advises to let it run code.
        raise ValueError(f"{file} is not a state dict saved by torch, or it is damaged") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file} holds no state dict (names and tensors); found {type(state).__name__}")
    return state

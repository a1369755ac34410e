"""The weights of the best epoch of a training, in ``best.pt`` beside those of the last one, ``model.pt``.

The best epoch is the first one with the highest top-1 accuracy on the validation split. ``best.pt`` is always that of
the epochs in ``checkpoint.pt``, also after a training was killed: new best weights are written to ``next_best.pt``,
then the checkpoint that has their epoch is written, then the file gets its name.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vattn.errors import UserError
from vattn.training.checkpoint import Epoch
from vattn.training.state_file import read_state_file

FILE = "best.pt"
#: best weights whose epoch may not be in a checkpoint yet
NEXT_FILE = "next_best.pt"


def best(done: Sequence[Epoch]) -> Epoch:
    """Return the best of the finished epochs, which are at least one."""
    return max(done, key=lambda epoch: epoch.metrics["top1"])


def entry(state: dict[str, Any], epoch: Epoch) -> dict[str, Any]:
    """Return what is written of the best epoch: ``state_dict``, the number of the epoch, and its accuracy."""
    return {"state_dict": state, "epoch": epoch.number, "top1": epoch.metrics["top1"]}


def accept(folder: Path) -> None:
    """Give ``next_best.pt`` its name, if it exists: a checkpoint has its epoch."""
    if (folder / NEXT_FILE).exists():
        (folder / NEXT_FILE).replace(folder / FILE)


def settle(folder: Path, done: Sequence[Epoch]) -> None:
    """Accept ``next_best.pt`` if its epoch is among the finished ones; otherwise remove it.

    It is there after a training was killed while it wrote a checkpoint.
    """
    path = folder / NEXT_FILE
    if not path.exists():
        return
    try:
        state = read_state_file(path, mmap=True)
    except UserError:
        state = {}
    if done and (state.get("epoch"), state.get("top1")) == (best(done).number, best(done).metrics["top1"]):
        accept(folder)
    else:
        path.unlink()

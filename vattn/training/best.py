"""The weights of the best epoch of a training, in ``best.pt`` beside those of the last one, ``model.pt``.

The best epoch is the first one with the highest `rate` on the validation split: top-1 accuracy, or mean average
precision. ``best.pt`` is always that of
the epochs in ``checkpoint.pt``, also after a training was killed: new best weights are written to ``next_best.pt``,
then the checkpoint that has their epoch is written, then the file gets its name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vattn.errors import UserError
from vattn.training.checkpoint import Epoch
from vattn.training.state_file import read_state_file

FILE = "best.pt"
#: best weights whose epoch may not be in a checkpoint yet
NEXT_FILE = "next_best.pt"


def rate(metrics: Mapping[str, float]) -> str:
    """Return the name of the metric that says which epoch is the best: top1, or map of a detector."""
    return "top1" if "top1" in metrics else "map"


def best(done: Sequence[Epoch]) -> Epoch:
    """Return the best of the finished epochs, which are at least one."""
    return max(done, key=lambda epoch: epoch.metrics[rate(epoch.metrics)])


def entry(state: dict[str, Any], epoch: Epoch) -> dict[str, Any]:
    """Return what is written of the best epoch: ``state_dict``, the number of the epoch, and its `rate`."""
    return {"state_dict": state} | _about(epoch)


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
    if done and all(state.get(name) == value for name, value in _about(best(done)).items()):
        accept(folder)
    else:
        path.unlink()


def _about(epoch: Epoch) -> dict[str, Any]:
    name = rate(epoch.metrics)
    return {"epoch": epoch.number, name: epoch.metrics[name]}

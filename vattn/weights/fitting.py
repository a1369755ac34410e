"""Bring a recognised state dict to the names and shapes of a network."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from torch import Tensor

from vattn.errors import UserError
from vattn.weights.families import BESIDE_BACKBONE, HEADS, Recognised
from vattn.weights.state import Rules, State, rename

#: Names of entries by the names that they have in the file.
Names = Mapping[str, str]


def to_backbone(recognised: Recognised, rules: Rules, own: State) -> dict[str, Tensor]:
    """Return the entries of a backbone under the names that ``own``, its state dict, has; without the classifier.

    ``rules`` lead from the authors' names to those of the backbone.
    """
    if recognised.family.own:
        candidates = [rename(recognised.names, ((r"^backbone\.", ""),))]
    else:
        candidates = renamings(partial(rename, recognised.names), [(*HEADS, *rules), HEADS])
    names = best(candidates, recognised, own)
    tensors = shaped(names, recognised, own)
    return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in BESIDE_BACKBONE}


def renamings(renamed_by: Callable[[Rules], Names], choices: Iterable[Rules]) -> list[Names]:
    """Return the names renamed by each of the choices that gives each entry a name of its own.

    Raises:
        UserError: none does; the message is that of the last one.
    """
    renamed: list[Names] = []
    refused: UserError | None = None
    for rules in choices:
        try:
            renamed.append(renamed_by(rules))
        except UserError as error:
            refused = error
    if not renamed:
        assert refused is not None
        raise refused
    return renamed


def best(candidates: Iterable[Names], recognised: Recognised, own: State) -> Names:
    """Return the names of which most are in ``own``, with shapes that fit; the first of several."""
    state = recognised.checkpoint.state

    def fitting(names: Names) -> int:
        return sum(new in own and _fits(state[old], own[new]) for new, old in names.items())

    return max(candidates, key=fitting)


def shaped(names: Names, recognised: Recognised, own: State) -> dict[str, Tensor]:
    """Return the tensors under their new names, in the shapes of ``own`` where these differ by sides of length 1."""
    state = recognised.checkpoint.state
    tensors = {
        new: state[old].reshape(own[new].shape) if new in own and _fits(state[old], own[new]) else state[old]
        for new, old in names.items()
    }
    if recognised.family.bgr:
        tensors = {n: t.flip(1) if t.dim() == 5 and t.shape[1] == 3 else t for n, t in tensors.items()}
    return tensors


def _fits(value: Tensor, own: Tensor) -> bool:
    """Return whether two shapes are equal but for sides of length 1, as those of a 1x1 and a 1x1x1 convolution are."""
    return [n for n in value.shape if n > 1] == [n for n in own.shape if n > 1]

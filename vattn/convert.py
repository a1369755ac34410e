"""Fit published weights to whole networks: backbone, mechanisms and classifier.

The file of each mechanism and backbone has its own rules from the authors' names to the names in this package
(``authors_names``, ``authors_network``). This module combines and applies them. `vattn.weights.families` recognises
whose names a file has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from vattn.config import ModelConfig
from vattn.detection.published import rc3d_rules
from vattn.errors import UserError
from vattn.modules import ModuleConfig
from vattn.weights.families import BESIDE_BACKBONE, HEADS, PREFIXES, Recognised, recognise
from vattn.weights.files import read_checkpoint
from vattn.weights.fitting import Names, best, renamings, shaped
from vattn.weights.state import Fit, Rules, State, Taken, is_weight, rename, rename_one

_INTO_BACKBONE = ((r"^(?!fc\.)", "backbone."),)
#: The same for a detector, which has further layers around its backbone.
_INTO_DETECTOR = ((rf"^(?!(?:{'|'.join(BESIDE_BACKBONE)})(?:\.|$))", "backbone."),)
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Adopted:
    """A checkpoint in the names and shapes of a network; ``names`` leads from them to the names in the file.

    ``names`` lacks entries that the file does not have and that are 0 in the network of the file.
    """

    recognised: Recognised
    state: dict[str, Tensor]
    names: Names

    def taken(self, loaded: Iterable[str], own: State) -> Taken:
        """Return what a network took, of which ``loaded`` are the names, and ``own`` all of its entries."""
        loaded = set(loaded)
        taken = [name for name in own if name in loaded and name in self.names and is_weight(name)]
        used = {self.names[name] for name in taken}
        return Taken(
            file=self.recognised.checkpoint.file,
            family=self.recognised.family.name,
            taken=tuple(taken),
            renamed=sum(name != self.names[name] for name in taken),
            left=tuple(name for name in self.recognised.checkpoint.state if name not in used and is_weight(name)),
            new=tuple(name for name in own if name not in loaded and is_weight(name)),
        )


def adopt(recognised: Recognised, model: ModelConfig, own: State) -> Adopted:
    """Return the weights in a file under the names of ``build_model(model, ...)``, of which ``own`` is the state dict.

    Raises:
        UserError: with the weights this network would compute another result than theirs.
    """
    model.backbone.check_published(recognised)
    names = recognised.names if recognised.family.own else _best(recognised, model, own)
    state = shaped(names, recognised, own)
    return Adopted(recognised, state | _zeros(model, state, own), names)


def load_published(net: nn.Module, model: ModelConfig, file: Path, head: bool = True, strict: bool = True) -> Fit:
    """Load a checkpoint that the authors published, or that their code saved, into ``net``.

    Args:
        net: the network to load into, ``build_model(model, ...)``. Entries that do not fit keep their values.
        model: a config that describes the authors' network; see `convert_model`.
        file: the checkpoint, as torch or safetensors saved it.
        head: load the classifier too. False keeps the classifier of ``net``, for other classes than the authors'.
        strict: raise an error if anything does not fit, and load nothing.

    Returns:
        The differences between the checkpoint and ``net``.

    Raises:
        UserError: the file holds no state dict, could run code, or does not fit where ``strict`` is set.
    """
    own = net.state_dict()
    state: State = adopt(recognise(read_checkpoint(file)), model, own).state
    if not head:
        own, state = ({name: v for name, v in names.items() if not name.startswith("fc.")} for names in (own, state))
    fit = Fit.of(state, own)
    if strict and not fit:
        raise UserError(f"{file} does not fit this model: {fit}")
    skipped = {*fit.unknown, *fit.reshaped}
    net.load_state_dict({name: value for name, value in state.items() if name not in skipped}, strict=False)
    return fit


def convert_module(state: State, module: ModuleConfig) -> dict[str, Tensor]:
    """Return the authors' state dict of one mechanism with the names that ``module.build`` uses."""
    return rename(state, module.authors_names)


def convert_model(state: Mapping[str, _Value], model: ModelConfig) -> dict[str, _Value]:
    """Return the authors' state dict of a whole network with the names that ``build_model(model, ...)`` uses.

    ``model`` must describe the network that the authors build around their mechanism. For TEA this is a backbone
    ``resnext`` of cardinality 4 and width_per_group 26 with ``tea`` and ``mta``. For TDN it is a backbone
    ``resnet_tdn`` with ``tdn`` in stages 3 to 5. For the others it is a ``resnet`` or ``mobilenet_v2`` with their
    mechanism.

    Raises:
        UserError: two entries get the same name, so ``model`` describes another network.
    """
    return _converted(state, model, model.backbone.authors_network)


def _converted(state: Mapping[str, _Value], model: ModelConfig, of_backbone: Rules) -> dict[str, _Value]:
    modules = {module.kind: module for module in model.attention}.values()
    detector = model.detector
    network = [*PREFIXES, *HEADS, *of_backbone]
    if detector != "none" and detector.kind == "rc3d":
        network = [*rc3d_rules(model.backbone.kind), *network]
    network += [rule for module in modules for rule in module.authors_network]
    own = [rule for module in modules for rule in module.authors_names]
    renamed = {}
    for name, value in rename(state, network).items():
        # A mechanism's layers may have the same names as layers of the block around it. Its rules are therefore
        # applied only to the part of the name inside the mechanism.
        place, mark, part = name.rpartition(".module.")
        renamed[place + mark + (rename_one(part, own) if mark else part)] = value
    return rename(renamed, _INTO_BACKBONE if detector == "none" else _INTO_DETECTOR)


def _best(recognised: Recognised, model: ModelConfig, own: State) -> Names:
    """Return the names with the rules of the backbone, or without them where more fit: in this package's own names."""
    choices = (model.backbone.authors_network, ())
    return best(renamings(lambda rules: _converted(recognised.names, model, rules), choices), recognised, own)


def _zeros(model: ModelConfig, state: State, own: State) -> dict[str, Tensor]:
    """Return the entries that some networks of the authors do not have, because they are 0 there."""
    patterns: Rules = tuple((pattern, "") for module in model.attention for pattern in module.authors_zeros)
    missing = [name for name in own if name not in state and ".module." in name]
    zero = [name for name in missing if not rename_one(name.rpartition(".module.")[2], patterns)]
    # The layer itself must be there.
    return {
        name: torch.zeros_like(own[name], device="cpu")
        for name in zero if name.replace(".bias", ".weight") in state
    }  # fmt: skip

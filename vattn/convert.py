"""From the authors' checkpoints to our networks; the file of each mechanism and backbone holds its own map of names."""

import re
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from vattn.config import ModelConfig
from vattn.modules import ModuleConfig
from vattn.weights import Fit, State, read_state

#: What published checkpoints put around a network's names, and what they call the classifier.
_WRAPPING = ((r"^(module\.)?(base_model\.)?", ""), (r"^(new_fc|classifier)\.", "fc."))
_INTO_BACKBONE = ((r"^(?!fc\.)", "backbone."),)


def load_published(net: nn.Module, model: ModelConfig, file: Path, head: bool = True, strict: bool = True) -> Fit:
    """Load what the authors published, or their code saved, into ``net``, which is ``build_model(model, ...)``.

    ``model`` must describe the authors' network (`convert_model`). Without ``head`` the classifier is left as it is,
    for other classes than the authors'. Return what does not fit, and is left as it is; raises ValueError for it where
    ``strict``, and for a file that is no state dict or could run code.
    """
    own = net.state_dict()
    state = convert_model(read_state(file), model)
    if not head:
        own, state = ({name: v for name, v in names.items() if not name.startswith("fc.")} for names in (own, state))
    fit = Fit.of(state, own)
    if strict and not fit:
        raise ValueError(f"{file} does not fit this model: {fit}")
    left = {*fit.unknown, *fit.reshaped}
    net.load_state_dict({name: value for name, value in state.items() if name not in left}, strict=False)
    return fit


def convert_module(state: State, module: ModuleConfig) -> dict[str, Tensor]:
    """Return the authors' state dict of one mechanism under the names that ``module.build`` gives."""
    return rename(state, module.authors_names)


def convert_model(state: State, model: ModelConfig) -> dict[str, Tensor]:
    """Return the authors' state dict of a whole network under the names that ``build_model(model, ...)`` gives.

    The network is the one that the authors build around their mechanism, which ``model`` must describe.
    TEA's is a backbone ``resnext`` of cardinality 4 and width_per_group 26 with ``tea`` and ``mta``, TDN's a
    ``resnet_tdn`` with ``tdn`` in stages 3 to 5; the others are a ``resnet`` or ``mobilenet_v2`` with their mechanism.
    """
    modules = {module.kind: module for module in model.attention}.values()
    network = [*_WRAPPING, *model.backbone.authors_network]
    network += [rule for module in modules for rule in module.authors_network]
    own = [rule for module in modules for rule in module.authors_names]
    renamed = {}
    for name, value in rename(state, network).items():
        # A mechanism's layers may be called like those of the block around it, so its own map sees its own part alone.
        place, mark, part = name.rpartition(".module.")
        renamed[place + mark + (_renamed(part, own) if mark else part)] = value
    return rename(renamed, _INTO_BACKBONE)


def rename(state: State, rules: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """Return ``state`` with each rule (regular expression, replacement) applied in turn to every name.

    Entries that lose their whole name are left out. Raises ValueError where two names become one.
    """
    rules = list(rules)
    renamed, origin = {}, {}
    for name, value in state.items():
        new = _renamed(name, rules)
        if new in renamed:
            raise ValueError(f"{name} and {origin[new]} both stand for {new}; these are the names of another network")
        if new:
            renamed[new], origin[new] = value, name
    return renamed


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name

"""Load checkpoints that the authors of a mechanism published.

The file of each mechanism and backbone has its own rules from the authors' names to the names in this package
(``authors_names``, ``authors_network``). This module combines and applies them.
"""

from pathlib import Path

from torch import Tensor, nn

from vattn.config import ModelConfig
from vattn.errors import UserError
from vattn.modules import ModuleConfig
from vattn.weights import Fit, State, read_state, rename, rename_one

#: Prefixes that published checkpoints put before a network's names, and their names of the classifier.
_WRAPPING = ((r"^(module\.)?(base_model\.)?", ""), (r"^(new_fc|classifier)\.", "fc."))
_INTO_BACKBONE = ((r"^(?!fc\.)", "backbone."),)


def load_published(net: nn.Module, model: ModelConfig, file: Path, head: bool = True, strict: bool = True) -> Fit:
    """Load a checkpoint that the authors published, or that their code saved, into ``net``.

    Args:
        net: the network to load into, ``build_model(model, ...)``. Entries that do not fit keep their values.
        model: a config that describes the authors' network; see `convert_model`.
        file: the checkpoint, as torch saved it.
        head: load the classifier too. False keeps the classifier of ``net``, for other classes than the authors'.
        strict: raise an error if anything does not fit, and load nothing.

    Returns:
        The differences between the checkpoint and ``net``.

    Raises:
        UserError: the file holds no state dict, could run code, or does not fit where ``strict`` is set.
    """
    own = net.state_dict()
    state = convert_model(read_state(file), model)
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


def convert_model(state: State, model: ModelConfig) -> dict[str, Tensor]:
    """Return the authors' state dict of a whole network with the names that ``build_model(model, ...)`` uses.

    ``model`` must describe the network that the authors build around their mechanism. For TEA this is a backbone
    ``resnext`` of cardinality 4 and width_per_group 26 with ``tea`` and ``mta``. For TDN it is a backbone
    ``resnet_tdn`` with ``tdn`` in stages 3 to 5. For the others it is a ``resnet`` or ``mobilenet_v2`` with their
    mechanism.

    Raises:
        UserError: two entries get the same name, so ``model`` describes another network.
    """
    modules = {module.kind: module for module in model.attention}.values()
    network = [*_WRAPPING, *model.backbone.authors_network]
    network += [rule for module in modules for rule in module.authors_network]
    own = [rule for module in modules for rule in module.authors_names]
    renamed = {}
    for name, value in rename(state, network).items():
        # A mechanism's layers may have the same names as layers of the block around it. Its rules are therefore
        # applied only to the part of the name inside the mechanism.
        place, mark, part = name.rpartition(".module.")
        renamed[place + mark + (rename_one(part, own) if mark else part)] = value
    return rename(renamed, _INTO_BACKBONE)

"""From the names in the authors' checkpoints to ours; each mechanism's file holds its own map."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from vattn.config import ModelConfig
from vattn.modules import ModuleConfig

State = Mapping[str, Tensor]
#: What published checkpoints put around a network's names, and what they call the classifier.
_WRAPPING = ((r"^module\.", ""), (r"^base_model\.", ""), (r"^new_fc\.", "fc."))
_INTO_BACKBONE = ((r"^(?!fc\.)", "backbone."),)


def convert_module(state: State, module: ModuleConfig) -> dict[str, Tensor]:
    """Return the authors' state dict of one mechanism under the names that ``module.build`` gives."""
    return rename(state, module.authors_names)


def convert_model(state: State, model: ModelConfig) -> dict[str, Tensor]:
    """Return the authors' state dict of a whole network under the names that ``build_model(model, ...)`` gives.

    The network is the one that the authors build around their mechanism, which ``model`` must describe.
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
    """Return ``state`` with each rule (regular expression, replacement) applied in turn to every name."""
    rules = list(rules)
    renamed = {_renamed(name, rules): value for name, value in state.items()}
    assert len(renamed) == len(state), "two names became one"
    return renamed


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name

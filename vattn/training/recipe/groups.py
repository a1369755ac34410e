"""Groups of parameters, each with its factor on the learning rate and its weight decay."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from vattn.config import TrainConfig
from vattn.model import VideoModel
from vattn.training.recipe.optimizers import Group

#: Layers whose parameters are those of norms.
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def parameter_groups(net: nn.Module, train: TrainConfig) -> tuple[list[Group], list[float]]:
    """Return the parameters of ``net`` that have gradients, in groups, and the factor of each group's learning rate.

    `VideoModel.roles` says what the mechanisms, the classifier and the first convolutions are; any other network has
    none. Without special rates and decays there is one group.
    """
    rates = train.rates
    factors: dict[nn.Module, float] = {}
    roles = net.roles() if isinstance(net, VideoModel) else {}
    for role, modules in roles.items():
        for module in {inner: None for outer in modules for inner in outer.modules()}:
            factors[module] = factors.get(module, 1.0) * getattr(rates, role)
    groups: dict[tuple[float, bool], Group] = {}
    for module in net.modules():
        is_norm = isinstance(module, NORMS)
        for name, parameter in module.named_parameters(recurse=False):
            factor, is_bias = factors.get(module, 1.0), name == "bias"
            if is_bias and not is_norm:
                factor *= rates.biases
            decays = train.decay_norms or not (is_norm or is_bias)
            if parameter.requires_grad:
                group = groups.setdefault((factor, decays), {"params": []})
                group["params"].append(parameter)
                if not decays:
                    group["weight_decay"] = 0.0
    return list(groups.values()), [factor for factor, _ in groups]

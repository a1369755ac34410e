"""Non-local blocks with the matrix of all pairs of places."""

import torch
from torch import Tensor, nn

from vattn.modules.nonlocal_ import NonLocal, NonLocalConfig


def non_local(module: NonLocal, x: Tensor) -> Tensor:
    n, c, t, h, w = x.shape
    others = nn.functional.max_pool3d(x, (1, 2, 2)) if module.subsample else x
    query, key, value = (
        layer(features.flatten(3)).flatten(2)
        for layer, features in ((module.query, x), (module.key, others), (module.value, others))
    )
    if module.compare is None:
        pairs = query.transpose(1, 2) @ key
    else:
        of_query, of_key = module.compare.weight.view(1, -1).chunk(2, dim=1)
        pairs = torch.relu((of_query @ query).transpose(1, 2) + of_key @ key)
    weights = torch.softmax(pairs * module.exponent, dim=-1) if module.softmax else pairs / key.shape[-1]
    said = (weights @ value.transpose(1, 2)).transpose(1, 2)
    return x + module.restore(said.reshape(n, -1, t, h * w)).view(n, c, t, h, w)


FORMS = {NonLocal: non_local}
CONFIGS = [
    NonLocalConfig(),
    NonLocalConfig(subsample=False, scale=False, batch_norm=False),
    NonLocalConfig(pairwise="gaussian", reduction=4),
    NonLocalConfig(pairwise="dot_product"),
    NonLocalConfig(pairwise="concatenation"),
]


def without_gradient(config: NonLocalConfig) -> set[str]:
    """A softmax takes off what is the same for all keys, and the last norm what all places are told alike."""
    of_keys = {"key.bias"} if config.softmax and config.embeds else set()
    told_alike = {"restore.0.bias"} | ({"value.bias"} if config.softmax else set())
    return of_keys | (told_alike if config.batch_norm else set())

"""Reference of the non-local block, with the matrix of all pairs of pixels."""

import torch
from torch import Tensor, nn

from vattn.modules.nonlocal_ import NonLocal, NonLocalConfig


def non_local(module: NonLocal, x: Tensor) -> Tensor:
    n, c, t, h, w = x.shape

    def project(layer: nn.Module, features: Tensor) -> Tensor:
        """Apply a 1x1x1 convolution, or nothing."""
        return layer(features.flatten(3)).unflatten(3, features.shape[3:])

    def sample(features: Tensor) -> Tensor:
        return nn.functional.max_pool3d(features, (1, 2, 2)) if module.subsample else features

    query = project(module.query, x).flatten(2)
    if module.samples_embeddings:
        key, value = (sample(project(layer, x)).flatten(2) for layer in (module.key, module.value))
    else:
        sampled = sample(x)
        key, value = (project(layer, sampled).flatten(2) for layer in (module.key, module.value))
    if module.compare is None:
        pairs = query.transpose(1, 2) @ key
    else:
        of_query, of_key = module.compare.weight.view(1, -1).chunk(2, dim=1)
        pairs = torch.relu((of_query @ query).transpose(1, 2) + of_key @ key)
    weights = torch.softmax(pairs * module.exponent, dim=-1) if module.softmax else pairs / key.shape[-1]
    attended = (weights @ value.transpose(1, 2)).transpose(1, 2)
    return x + module.restore(attended.reshape(n, -1, t, h * w)).view(n, c, t, h, w)


FORMS = {NonLocal: non_local}
CONFIGS = [
    NonLocalConfig(),
    NonLocalConfig(subsample=False, scale=False, batch_norm=False),
    NonLocalConfig(pairwise="gaussian", reduction=4),
    NonLocalConfig(pairwise="dot_product"),
    NonLocalConfig(pairwise="concatenation"),
    NonLocalConfig(maxima="embeddings", scale=False),
    NonLocalConfig(maxima="embeddings", pairwise="gaussian"),
]


def without_gradient(config: NonLocalConfig) -> set[str]:
    """Return the parameters without a gradient.

    A softmax cancels a constant over all keys. The last norm cancels a constant that is added to all pixels.
    """
    of_keys = {"key.bias"} if config.softmax and config.embeds else set()
    same_everywhere = {"restore.0.bias"} | ({"value.bias"} if config.softmax else set())
    return of_keys | (same_everywhere if config.batch_norm else set())

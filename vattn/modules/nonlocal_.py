"""Non-local block: attention among all pixels of all frames.

Xiaolong Wang, Ross Girshick, Abhinav Gupta and Kaiming He, "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971.
"""

from typing import Literal, Self

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.base import LATER
from vattn.modules._base import Every, ModuleConfig, Place, Site, Stages, check_divisors
from vattn.modules._fold import fold, rows, unfold

Tokens = Float[Tensor, "n l d"]


class NonLocalConfig(ModuleConfig, kind="nonlocal"):
    """Options of the non-local block.

    The defaults are those of the authors: the block is between residual blocks, before every second one of res3 and
    res4.
    """

    kind: Literal["nonlocal"] = "nonlocal"
    stages: Stages = (3, 4)
    position: Place = "block"
    every: Every = 2
    pairwise: Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"] = Field(
        "embedded_gaussian", description="f, function that gives the weight of a pair of pixels"
    )
    reduction: int = Field(2, ge=1, description="reduction of the channels in the embeddings: C -> C // reduction")
    scale: bool = Field(
        True,
        description="multiply the exponent of a Gaussian by 1 / sqrt(its dimension), as in the authors' code but not "
        "in the paper",
    )
    subsample: bool = Field(True, description="attend to the maxima of 2 x 2 pixels only, at a quarter of the cost")
    maxima: Literal["features", "embeddings"] = Field(
        "features",
        json_schema_extra=LATER,
        description="what subsample takes the maxima of: the features, as in the authors' code, or their embeddings, "
        "as in TSM's and MMAction2's",
    )
    batch_norm: bool = Field(True, description="batch norm after the last convolution")

    first: int = Field(
        0,
        ge=0,
        le=64,
        json_schema_extra=LATER,
        description="number of the first block of a stage that gets it; 1: the layout of TSM's and MMAction2's code, "
        "after the first, third, ... block",
    )

    authors_names = (
        (r"^g(?:\.0)?\.", "value."), (r"^theta\.", "query."), (r"^phi(?:\.0)?\.", "key."),
        (r"^W\.(weight|bias)$", r"restore.0.\1"), (r"^W\.", "restore."),
    )  # fmt: skip
    # The authors' block follows a residual block: it is before the next one.
    authors_network = (
        (r"(layer\d\.\d+)\.block\.", r"\1."),
        *((rf"(layer\d)\.{i}\.nl\.", rf"\g<1>.{i + 1}.at.block.0.module.") for i in range(64)),
    )
    # A norm follows, which has a bias itself.
    authors_zeros = (r"^restore\.0\.bias$",)

    @property
    def reversal_equivariant(self) -> bool:
        """True: the order of the frames has no effect."""
        return True

    @property
    def softmax(self) -> bool:
        """Whether weights are divided by their sum instead of by their number."""
        return self.pairwise in ("embedded_gaussian", "gaussian")

    @property
    def embeds(self) -> bool:
        """Whether the pairwise function takes embeddings instead of the features themselves."""
        return self.pairwise != "gaussian"

    @property
    def offset(self) -> int:
        """The first block of a stage that gets it."""
        return self.first

    def canonical(self) -> Self:
        """Return an equal block; only Gaussians use ``scale``, and only ``subsample`` takes maxima."""
        unused: dict[str, object] = {} if self.softmax else {"scale": True}
        unused |= {} if self.subsample else {"maxima": "features"}
        return self.model_copy(update=unused)

    @property
    def samples_embeddings(self) -> bool:
        """Whether keys and values are maxima of embeddings."""
        return self.subsample and self.maxima == "embeddings"

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``reduction`` leaves no channel, or a frame is too small for ``subsample``."""
        check_divisors(site, reduction=self.reduction)
        if self.subsample and min(site.height, site.width) < 2:
            raise ValueError(
                f"subsample: needs 2 x 2 pixels, and stage {site.stage} has {site.height} x {site.width} at position "
                f"{site.position}; write false, leave the stage out, or enlarge the crop (got true)"
            )

    def build(self, site: Site, frames: int) -> "NonLocal":
        """Return the block for the features at ``site``."""
        block = NonLocal(site.channels, self)
        if self.init == "identity":
            last = block.restore[-1]
            assert isinstance(last, nn.Conv2d | nn.BatchNorm2d)
            assert last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        return block

    def _queries_and_keys(self, site: Site, frames: int) -> tuple[int, int]:
        """Return the number of queries (all pixels of all frames) and of keys (after ``subsample``)."""
        sampled = (site.height // 2) * (site.width // 2) if self.subsample else site.height * site.width
        return frames * site.height * site.width, frames * sampled

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        c, d = site.channels, site.channels // self.reduction
        queries, keys = self._queries_and_keys(site, frames)
        projected = queries if self.samples_embeddings else keys
        convolutions = c * d * (queries + projected + (queries + projected if self.embeds else 0))
        if self.pairwise == "concatenation":
            compare = d * (queries + keys)
        else:
            compare = queries * keys * (d if self.embeds else c)
        return convolutions + compare + queries * keys * d

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        c, d = site.channels, site.channels // self.reduction
        embeddings = 3 if self.embeds else 1
        compare = 2 * d if self.pairwise == "concatenation" else 0
        return embeddings * (c + 1) * d + compare + (d + 1) * c + (2 * c if self.batch_norm else 0)

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: maxima and their indices, queries, keys, values, weights, attention output, outputs.

        The weights of a Gaussian are counted in full; torch's fused kernels for attention keep one value per query.
        """
        c, d = site.channels, site.channels // self.reduction
        queries, keys = self._queries_and_keys(site, frames)
        compared = (d if self.embeds else c) * (queries + keys)
        weights = d * d if self.pairwise == "dot_product" else queries * keys
        outputs = d * queries + c * queries * (1 + self.batch_norm)
        if self.samples_embeddings:
            # Inputs and indices of the maxima of values, and of keys or, without embeddings, of the features.
            maxima = d * (queries + keys) + (d * (queries + keys) if self.embeds else c * keys)
        else:
            maxima = 2 * c * keys * self.subsample
        return maxima + compared + d * keys + weights + outputs


class NonLocal(nn.Module):
    r"""Add to each pixel of a clip a weighted mean over the pixels of all frames.

    .. math:: Y_i = X_i + \mathrm{BN}\Big(W_z \frac{\sum_j f(X_i, X_j) \, W_g X_j}{C_i}\Big)

    i and j are pixels of any frame. :math:`f` is :math:`e^{\theta_i \cdot \phi_j}` (embedded Gaussian) or
    :math:`e^{X_i \cdot X_j}` (Gaussian), both with :math:`C_i = \sum_j f`; or :math:`\theta_i \cdot \phi_j` (dot
    product) or :math:`\mathrm{ReLU}(w \cdot [\theta_i, \phi_j])` (concatenation), both with :math:`C_i` the number of
    j. :math:`\theta = W_\theta X` and :math:`\phi = W_\phi X` are the embeddings.

    With ``subsample``, j are the maxima of 2 x 2 pixels of X, as in the authors' code. The paper also describes maxima
    of :math:`\phi` and :math:`W_g X`. The authors' code scales the exponent by 1 / sqrt(dimension), the paper does not
    (``scale``).

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int, config: NonLocalConfig) -> None:
        super().__init__()
        inner = channels // config.reduction
        self.value = nn.Conv2d(channels, inner, 1)
        self.query = nn.Conv2d(channels, inner, 1) if config.embeds else nn.Identity()
        self.key = nn.Conv2d(channels, inner, 1) if config.embeds else nn.Identity()
        self.compare = nn.Conv2d(2 * inner, 1, 1, bias=False) if config.pairwise == "concatenation" else None
        self.restore = nn.Sequential(
            nn.Conv2d(inner, channels, 1), *([nn.BatchNorm2d(channels)] if config.batch_norm else [])
        )
        self.softmax = config.softmax
        self.exponent = (inner if config.embeds else channels) ** -0.5 if config.scale else 1.0
        self.subsample, self.samples_embeddings = config.subsample, config.samples_embeddings

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        pixels = rows(x)
        query = _tokens(self.query(pixels))
        if self.samples_embeddings:
            key, value = (_tokens(_maxima(layer(pixels), x.shape[-2:])) for layer in (self.key, self.value))
        else:
            sampled = rows(unfold(F.max_pool2d(fold(x), 2), x.shape[2])) if self.subsample else pixels
            key, value = _tokens(self.key(sampled)), _tokens(self.value(sampled))
        if self.softmax:
            q, k, v = (tokens.unsqueeze(1) for tokens in (query, key, value))
            attended = F.scaled_dot_product_attention(q, k, v, scale=self.exponent).squeeze(1)
        elif self.compare is None:
            # (query key^T) value, in the order that avoids the matrix of all pairs.
            attended = query @ (key.mT @ (value / key.shape[1]))
        else:
            of_query, of_key = self.compare.weight.flatten().chunk(2)
            weights = F.relu((query @ of_query).unsqueeze(2) + (key @ of_key).unsqueeze(1))
            attended = weights @ (value / key.shape[1])
        attended = attended.unflatten(1, pixels.shape[-2:]).permute(0, 3, 1, 2)
        return x + self.restore(attended).view(x.shape)


def _maxima(features: Float[Tensor, "n d t p"], size: tuple[int, ...]) -> Float[Tensor, "n d t q"]:
    """Return the maxima of 2 x 2 pixels of frames of ``size``, which are rows of pixels."""
    frames = features.shape[2]
    return rows(unfold(F.max_pool2d(fold(features.unflatten(-1, size)), 2), frames))


def _tokens(features: Float[Tensor, "n d t p"]) -> Tokens:
    # Fused attention needs contiguous rows; this is a view under channels_last.
    return features.flatten(-2).mT.contiguous()

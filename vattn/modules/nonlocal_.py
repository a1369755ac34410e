"""Non-local blocks (Wang et al., CVPR 2018, arXiv:1711.07971)."""

from typing import Literal, Self

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Position, Site, check_divisors
from vattn.modules._fold import fold, unfold

Tokens = Float[Tensor, "n l d"]


class NonLocalConfig(ModuleConfig, kind="nonlocal"):
    """The defaults are the authors': the block stands between residual blocks, every other one of res3 and res4."""

    kind: Literal["nonlocal"] = "nonlocal"
    stages: tuple[int, ...] = Field((3, 4), description="residual stages, res2 ... res5")
    position: Position = "block"
    every: int = Field(2, ge=1, description="each n-th block of a stage, the first included")
    pairwise: Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"] = Field(
        "embedded_gaussian", description="f, how much one place weighs for another"
    )
    reduction: int = Field(2, ge=1, description="of the embeddings: C -> C // reduction")
    scale: bool = Field(
        True, description="of a Gaussian's exponent by 1 / sqrt(its dimension): the authors' code has it, the paper not"
    )
    subsample: bool = Field(True, description="weigh only the maxima of 2 x 2 pixels; 4 times cheaper")
    batch_norm: bool = Field(True, description="behind the last convolution")

    @property
    def reversal_equivariant(self) -> bool:
        """All places are alike, those of other frames too."""
        return True

    @property
    def softmax(self) -> bool:
        """Weights are normalised by their sum, not by their number."""
        return self.pairwise in ("embedded_gaussian", "gaussian")

    @property
    def embeds(self) -> bool:
        """Places are compared by their embeddings, not by their features."""
        return self.pairwise != "gaussian"

    def canonical(self) -> Self:
        """Only Gaussians have an exponent to scale."""
        return self if self.softmax else self.model_copy(update={"scale": True})

    def check(self, site: Site, frames: int) -> None:
        """Refuse a ``reduction`` that leaves no channel, and what cannot be subsampled."""
        check_divisors(site, reduction=self.reduction)
        if self.subsample and min(site.height, site.width) < 2:
            raise ValueError(
                f"subsample: needs 2 x 2 pixels, and stage {site.stage} has {site.height} x {site.width} at position "
                f"{site.position}; write false, leave the stage out, or enlarge the crop (got true)"
            )

    def build(self, site: Site, frames: int) -> "NonLocal":
        """Return a block for the features at ``site``."""
        block = NonLocal(site.channels, self)
        if self.init == "identity":
            last = block.restore[-1]
            assert isinstance(last, nn.Conv2d | nn.BatchNorm2d)
            assert last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        return block

    def _places(self, site: Site, frames: int) -> tuple[int, int]:
        """Return how many places there are, and how many of them are weighed for each."""
        sampled = (site.height // 2) * (site.width // 2) if self.subsample else site.height * site.width
        return frames * site.height * site.width, frames * sampled

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        c, d = site.channels, site.channels // self.reduction
        places, weighed = self._places(site, frames)
        convolutions = c * d * (places + weighed + (places + weighed if self.embeds else 0))
        if self.pairwise == "concatenation":
            compare = d * (places + weighed)
        else:
            compare = places * weighed * (d if self.embeds else c)
        return convolutions + compare + places * weighed * d

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        c, d = site.channels, site.channels // self.reduction
        embeddings = 3 if self.embeds else 1
        compare = 2 * d if self.pairwise == "concatenation" else 0
        return embeddings * (c + 1) * d + compare + (d + 1) * c + (2 * c if self.batch_norm else 0)

    def activations(self, site: Site, frames: int) -> int:
        """Maxima and where they were; what is compared and weighed; what places are told; the outputs.

        A Gaussian's weights too, of which torch's fused kernels for attention keep one value a place.
        """
        c, d = site.channels, site.channels // self.reduction
        places, weighed = self._places(site, frames)
        compared = (d if self.embeds else c) * (places + weighed)
        weights = d * d if self.pairwise == "dot_product" else places * weighed
        told = d * places + c * places * (1 + self.batch_norm)
        return 2 * c * weighed * self.subsample + compared + d * weighed + weights + told


class NonLocal(nn.Module):
    r"""Add to each place of a clip what all places say, weighted by how they compare with it.

    .. math:: Y_i = X_i + \mathrm{BN}\Big(W_z \frac{\sum_j f(X_i, X_j) \, W_g X_j}{C_i}\Big)

    A place is a pixel of a frame. :math:`f` is :math:`e^{\theta_i \cdot \phi_j}` (embedded Gaussian) or
    :math:`e^{X_i \cdot X_j}` (Gaussian), both with :math:`C_i = \sum_j f`; or :math:`\theta_i \cdot \phi_j` (dot
    product) or :math:`\mathrm{ReLU}(w \cdot [\theta_i, \phi_j])` (concatenation), both with the number of j for
    :math:`C_i`. :math:`\theta = W_\theta X`, :math:`\phi = W_\phi X`. Subsampled, j are the maxima of 2 x 2 pixels of
    X, as in the authors' code; the paper also says that they are those of :math:`\phi` and :math:`W_g X`.

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
        self.subsample = config.subsample

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        others = unfold(F.max_pool2d(fold(x), 2), x.shape[2]) if self.subsample else x
        places, others = x.flatten(-2), others.flatten(-2)
        query, key, value = _tokens(self.query(places)), _tokens(self.key(others)), _tokens(self.value(others))
        if self.softmax:
            q, k, v = (tokens.unsqueeze(1) for tokens in (query, key, value))
            said = F.scaled_dot_product_attention(q, k, v, scale=self.exponent).squeeze(1)
        elif self.compare is None:
            # (query key^T) value, in the order that needs no matrix of all pairs.
            said = query @ (key.mT @ (value / key.shape[1]))
        else:
            here, there = self.compare.weight.flatten().chunk(2)
            weights = F.relu((query @ here).unsqueeze(2) + (key @ there).unsqueeze(1))
            said = weights @ (value / key.shape[1])
        said = said.mT.unflatten(-1, places.shape[-2:])
        return x + self.restore(said).view(x.shape)


def _tokens(features: Float[Tensor, "n d t p"]) -> Tokens:
    # In rows that lie together, as fused attention wants them; a view under ``channels_last``.
    return features.flatten(-2).mT.contiguous()

"""CSTL: short-term and long-term temporal features of gait recognition.

Xiaohu Huang, Duowang Zhu, Hao Wang, Xinggang Wang, Bo Yang, Botao He, Wenyu Liu and Bin Feng, "Context-Sensitive
Temporal Feature Learning for Gait Recognition", ICCV 2021, pages 12909-12918.
"""

from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site
from vattn.modules._temporal import TemporalConv


class CSTLConfig(ModuleConfig, kind="cstl"):
    """Options of CSTL: one of its two scales beyond single frames."""

    kind: Literal["cstl"] = "cstl"
    term: Literal["short", "long"] = Field(
        "short",
        description="temporal scale: short: two serial temporal convolutions; long: weighted mean over all frames",
    )
    groups: int = Field(
        1,
        ge=1,
        description="number of groups of channels that are processed separately; the authors: one per body part",
    )
    reduction: int = Field(
        16, ge=1, description="reduction of the channels of a group in the scores of the long term: C -> C // reduction"
    )

    no_identity = "the mean over time and the norms change the features from the first step"
    authors_names = ((r"(^|\.)short_term\.0\.", r"\1first."), (r"(^|\.)short_term\.1\.", r"\1second."))

    @property
    def reversal_equivariant(self) -> bool:
        """True for the long term: a weighted mean does not depend on the order of the frames."""
        return self.term == "long"

    def canonical(self) -> Self:
        """Return an equal mechanism; the short term does not use ``reduction``."""
        return self.model_copy(update={"reduction": 16}) if self.term == "short" else self

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if the groups do not divide the channels, or ``reduction`` leaves no channel of a group."""
        c = site.channels
        place = f"stage {site.stage} has {c} at position {site.position}"
        if c % self.groups:
            fitting = ", ".join(str(n) for n in range(1, c + 1) if c % n == 0)
            raise ValueError(
                f"groups: must divide the channels, of which {place}; take one of {fitting} (got {self.groups})"
            )
        if self.term == "long" and c // self.groups < self.reduction:
            raise ValueError(
                f"reduction: must not exceed the channels of a group, of which {place} in {self.groups} groups; lower "
                f"reduction or groups (got {self.reduction})"
            )

    def build(self, site: Site, frames: int) -> "ShortTerm | LongTerm":
        """Return the module of the chosen scale for the features at ``site``."""
        if self.term == "short":
            return ShortTerm(site.channels, self.groups)
        return LongTerm(site.channels, self._reduced(site), self.groups)

    def _reduced(self, site: Site) -> int:
        return site.channels // self.groups // self.reduction * self.groups

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        return self._weights(site) * frames * site.height * site.width

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        return self._weights(site) + (4 * site.channels if self.term == "short" else 2 * self._reduced(site))

    def _weights(self, site: Site) -> int:
        """Return the number of weights of the convolutions."""
        c = site.channels
        return 2 * (3 * c * c if self.term == "short" else c * self._reduced(site)) // self.groups

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values.

        Short: outputs of both convolutions, the first output normalised, the sum. Long: input and output of the norm,
        scores, both sums over time, output.
        """
        c, pixels = site.channels, site.height * site.width
        if self.term == "short":
            return 4 * c * frames * pixels
        return pixels * (2 * self._reduced(site) * frames + 2 * c * frames + 2 * c)


class ShortTerm(nn.Module):
    r"""Sum the outputs of two serial temporal convolutions, which see 3 and 5 frames.

    .. math:: Y = S + \mathrm{BN}(W_2 \ast_T S), \quad S = \mathrm{BN}(W_1 \ast_T X)

    Both convolutions have 3 taps, are grouped, and have no bias and no activation. The authors apply them to one
    feature vector per body part, with all parts side by side in the channels. This module applies them at every pixel.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Sequential(TemporalConv(channels, channels, 3, groups), nn.BatchNorm3d(channels))
        self.second = nn.Sequential(TemporalConv(channels, channels, 3, groups), nn.BatchNorm3d(channels))

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        first = self.first(x)
        return first + self.second(first)


class LongTerm(nn.Module):
    r"""Replace each frame by the mean over all frames, weighted by a score per channel and pixel.

    .. math:: Y_t = \sum_s P_s \odot X_s \Big/ \sum_s P_s, \quad
        P = \sigma(W_2 \, \mathrm{LeakyReLU}(\mathrm{BN}(W_1 X)))

    W_1 (C -> C // r) and W_2 (back) are grouped 1x1 convolutions without biases.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int, reduced: int, groups: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            TemporalConv(channels, reduced, 1, groups), nn.BatchNorm3d(reduced), nn.LeakyReLU(inplace=True),
            TemporalConv(reduced, channels, 1, groups), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        score = self.score(x)
        mean = _sum_of_frames(x * score) / _sum_of_frames(score)
        # An expanded view would lose the memory format of x for the layers that follow.
        return torch.empty_like(x, dtype=mean.dtype).copy_(mean)


def _sum_of_frames(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c 1 h w"]:
    # In the order of memory under channels_last: torch gives a sum the default order of its dimensions.
    return x.permute(0, 2, 3, 4, 1).sum(1, keepdim=True).permute(0, 4, 1, 2, 3)

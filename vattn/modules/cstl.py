"""CSTL: context-sensitive temporal features of gait (Huang et al., ICCV 2021, pages 12909-12918)."""

from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site
from vattn.modules._temporal import TemporalConv


class CSTLConfig(ModuleConfig, kind="cstl"):
    """One of the two temporal scales beside that of single frames."""

    kind: Literal["cstl"] = "cstl"
    term: Literal["short", "long"] = Field("short", description="two convolutions over time, or a weighted mean")
    groups: int = Field(1, ge=1, description="of channels that stay apart; the authors have one for each body part")
    reduction: int = Field(16, ge=1, description="of the long term's scores: C -> C // reduction")

    no_identity = "a mean over time, or norms of the features themselves, change what comes in from the first step on"
    authors_names = ((r"(^|\.)short_term\.0\.", r"\1first."), (r"(^|\.)short_term\.1\.", r"\1second."))

    @property
    def reversal_equivariant(self) -> bool:
        """A weighted mean over time has no direction."""
        return self.term == "long"

    def canonical(self) -> Self:
        """The short term has no scores."""
        return self.model_copy(update={"reduction": 16}) if self.term == "short" else self

    def check(self, site: Site, frames: int) -> None:
        """Refuse groups that do not divide the channels, and a reduction that leaves a group none."""
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
        """Return the chosen scale for the features at ``site``."""
        if self.term == "short":
            return ShortTerm(site.channels, self.groups)
        return LongTerm(site.channels, self._reduced(site), self.groups)

    def _reduced(self, site: Site) -> int:
        return site.channels // self.groups // self.reduction * self.groups

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        return self._weights(site) * frames * site.height * site.width

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        return self._weights(site) + (4 * site.channels if self.term == "short" else 2 * self._reduced(site))

    def _weights(self, site: Site) -> int:
        """Of the convolutions."""
        c = site.channels
        return 2 * (3 * c * c if self.term == "short" else c * self._reduced(site)) // self.groups

    def activations(self, site: Site, frames: int) -> int:
        """Short: what each convolution gives, the first one normalised, the sum.

        Long: what the scores' norm takes and gives, the scores, both sums over time, the output.
        """
        c, pixels = site.channels, site.height * site.width
        if self.term == "short":
            return 4 * c * frames * pixels
        return pixels * (2 * self._reduced(site) * frames + 2 * c * frames + 2 * c)


class ShortTerm(nn.Module):
    r"""Two serial convolutions over time, so that what is added up has seen 3 frames and 5.

    .. math:: Y = S + \mathrm{BN}(W_2 \ast_T S), \quad S = \mathrm{BN}(W_1 \ast_T X)

    Both have 3 taps, each group of channels by itself, and no activation behind them. The authors run it on one row of
    features for each part of a body, all parts side by side in the channels; here it runs at every pixel.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Sequential(TemporalConv(channels, channels, 3, groups), nn.BatchNorm3d(channels))
        self.second = nn.Sequential(TemporalConv(channels, channels, 3, groups), nn.BatchNorm3d(channels))

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        three = self.first(x)
        return three + self.second(three)


class LongTerm(nn.Module):
    r"""Give every frame the same: the mean over all frames, weighted by scores of each channel and pixel.

    .. math:: Y_t = \sum_s P_s \odot X_s \Big/ \sum_s P_s, \quad
        P = \sigma(W_2 \, \mathrm{LeakyReLU}(\mathrm{BN}(W_1 X)))

    W_1 reduces the channels and W_2 restores them, each group of channels by itself.

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
        mean = (x * score).sum(2, keepdim=True) / score.sum(2, keepdim=True)
        # An expanded view has no memory order for what comes next to keep.
        return torch.empty_like(x, dtype=mean.dtype).copy_(mean)

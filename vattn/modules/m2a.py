"""M2A: motion aware attention (Gebotys, Wong and Clausi, 2021, arXiv:2111.09976)."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Position, Site, check_divisors
from vattn.modules._patch import Difference, FrameAttention, PatchAttention, by_frame, divides, normalised
from vattn.modules.tam import TAM, TAMConfig
from vattn.modules.tdn import LongTermDifference, TDNConfig
from vattn.modules.tea import MotionExcitation

_NAMES = (
    (r"(^|\.)conv_(down|up)\.", r"\1\2."),
    (r"(^|\.)modules_list\.0\.(motion_mod\.)?(conv|bn)", r"\1motion.\3"),
    (r"(^|\.)modules_list\.0\.(attn\.)?G\.", r"\1attention.kernel."),
    (r"(^|\.)modules_list\.0\.(attn\.)?L\.", r"\1attention.gate."),
)
#: Other mechanisms as they stand inside, where the channels are few already.
_TAM, _TDN = TAMConfig(beta=1), TDNConfig(reduction=1, shift=False)


class M2AConfig(ModuleConfig, kind="m2a"):
    """Which motion and which attention M2A is made of (Tables I and IV to VI); ``position`` a is the authors'."""

    kind: Literal["m2a"] = "m2a"
    position: Position = "a"
    reduction: int = Field(8, ge=1, description="R: motion and attention see C // R channels")
    motion: Literal["m2a", "tea", "tdn", "none"] = Field(
        "m2a", description="m2a: the next frame minus this one; tea, tdn: those mechanisms' motion, unreduced"
    )
    attention: Literal["m2a", "tam", "patch", "none"] = Field(
        "m2a",
        description="m2a: among whole frames; patch: among patches over time, then over space; tam: that mechanism",
    )
    patch_size: int = Field(
        4, ge=1, description="s, side of a patch, pixels; where it does not divide, pixels are tokens"
    )
    fill: Literal["zero", "first"] = Field(
        "zero",
        description="what follows the last frame in m2a's motion: zero as in the authors' code, or the first frame",
    )
    authors_code: bool = Field(
        False,
        description="keep two defects: tdn's mixed-up backward branch, and motion by pixels where no patch divides",
    )

    no_identity = "its gate 1 + sigmoid reaches 1 only in the limit, where it no longer learns"
    # With TSM behind it, which has no entry of its own, the convolution is the third of the sequence.
    authors_network = (
        (r"(layer\d\.\d+\.conv1)\.[12]\.", r"\1."),
        (r"(layer\d\.\d+)\.conv1\.0\.", r"\1.at.a.0.module."),
    )

    @property
    def authors_names(self) -> tuple[tuple[str, str], ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """With those of TDN's motion: the authors call its layers what they call TEA's."""
        inside = tuple((old.replace(r"(^|\.)", r"((?:^|\.)motion\.)"), new) for old, new in TDNConfig.authors_names)
        return _NAMES + (inside if self.motion == "tdn" else ())

    @property
    def reversal_equivariant(self) -> bool:
        """Attention among frames knows no order, and TDN's motion looks both ways."""
        return self.attention != "tam" and (self.motion == "none" or (self.motion == "tdn" and not self.authors_code))

    def canonical(self) -> Self:
        """Options of a part that is not there have no effect."""
        changes: dict[str, object] = {}
        if self.attention != "patch":
            changes |= {"patch_size": 4}
        if self.motion != "m2a":
            changes |= {"fill": "zero"}
        if self.motion != "tdn" and (self.motion, self.attention) != ("m2a", "patch"):
            changes |= {"authors_code": False}
        return self.model_copy(update=changes)

    def check(self, site: Site, frames: int) -> None:
        """Refuse a ``reduction`` that leaves no channel, and TDN on features that cannot be halved."""
        check_divisors(site, reduction=self.reduction)
        if self.motion == "tdn":
            _TDN.check(self._inside(site), frames)

    def _inside(self, site: Site) -> Site:
        """Return the site as the parts inside see it."""
        return replace(site, channels=site.channels // self.reduction)

    def build(self, site: Site, frames: int) -> "M2A":
        """Return an M2A for the features at ``site``, ``frames`` frames long."""
        return M2A(site.channels, frames, self)

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        inside = self._inside(site)
        c, t, pixels = inside.channels, frames, site.height * site.width
        macs = 2 * site.channels * c * t * pixels
        if self.motion == "tea":
            macs += c * t * pixels * (2 * c + 9)
        if self.motion == "tdn":
            macs += _TDN.macs(inside, t)
        if self.attention == "tam":
            macs += _TAM.macs(inside, t)
        elif self.attention != "none":
            # Two products for each pair of tokens.
            macs += 2 * c * sum(pairs * length for pairs, length in self._pairs(site, t))
        return macs

    def _pairs(self, site: Site, t: int) -> Iterator[tuple[int, int]]:
        """Yield for each attention how many pairs of tokens it has, and the pixels of a token."""
        pixels, s = site.height * site.width, self.patch_size
        if self.attention == "m2a":
            yield t * t, pixels
        elif divides(s, site.height, site.width):
            patches = pixels // s**2
            yield patches * t * t, s * s
            yield t * patches * patches, s * s
        else:
            yield (t * pixels) ** 2, 1

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        inside = self._inside(site)
        c = inside.channels
        params = 2 * site.channels * c + site.channels + c
        if self.motion == "tea":
            params += 2 * c * c + 9 * c + 4 * c
        if self.motion == "tdn":
            params += _TDN.params(inside, frames)
        if self.attention == "tam":
            params += _TAM.params(inside, frames)
        return params

    def activations(self, site: Site, frames: int) -> int:
        """The gate, the output, and in C // R channels what stands between the parts and in them.

        Attention among patches keeps less than this where torch has a fused kernel for it.
        """
        inside, t, pixels = self._inside(site), frames, site.height * site.width
        values = inside.channels * t * pixels
        kept = 2 * site.channels * t * pixels + values
        if self.motion == "tea":
            kept += 5 * values
        if self.motion == "tdn":
            # Its input, but not its output; with the defect, what one branch gives another.
            kept += _TDN.activations(inside, t) - values + values * self.authors_code
        if self.attention == "m2a":
            kept += 2 * t + t * t + 2 * values
        elif self.attention == "tam":
            kept += _TAM.activations(inside, t) + (0 if self.motion == "none" else 2 * t + values)
        elif self.attention == "patch":
            for pairs, length in self._pairs(site, t):
                # Tokens and what normalises them; queries, keys, values and weights.
                kept += 4 * values + 2 * t * pixels // length + pairs
        return kept


class M2A(nn.Module):
    r"""Gate every value by what motion and attention find in a few channels.

    .. math:: Z = W_{down} X, \quad A = Z + \mathrm{softmax}(M M^T / \sqrt d) M, \quad
        M_t = U_{t+1} - U_t, \quad U = LN(Z), \quad Y = X + X \odot \sigma(W_{up} A)

    Rows of M are whole frames of d values; LN is over one frame, without scale and shift. :math:`U_{T+1}` is zero, as
    in the authors' code; the paper takes :math:`U_1` (``fill``). Motion alone is :math:`A_t = Z_{t+1} - Z_t`, and TAM
    alone A = TAM(Z): neither has the norm or the sum.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W), with T = ``frames``.
    """

    def __init__(self, channels: int, frames: int, config: M2AConfig) -> None:
        super().__init__()
        reduced = channels // config.reduction
        self.down = nn.Conv2d(channels, reduced, 1)
        self.motion = _motion(reduced, config)
        self.attention = _attention(reduced, frames, config)
        self.alone = config.attention == "none" or (config.motion, config.attention) == ("none", "tam")
        self.up = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        # For a 1x1 convolution (T, H * W) is one image, and a view of x in either memory order.
        z = self.down(x.flatten(-2)).unflatten(-1, x.shape[-2:])
        gate = self.up(self._attended(z).flatten(-2)).sigmoid_().unflatten(-1, x.shape[-2:])
        return torch.addcmul(x, x, gate)

    def _attended(self, z: Float[Tensor, "n r t h w"]) -> Float[Tensor, "n r t h w"]:
        if isinstance(self.attention, PatchAttention):
            return self.attention(z, self.motion)
        if self.alone:
            return self.attention(self.motion(z))
        return z + self.attention(self.motion(by_frame(z, partial(normalised, dims=3))))


class TEAMotion(MotionExcitation):
    """TEA's motion at every pixel, up to its last norm.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return self.expand(self.motion(x))


class TDNMotion(LongTermDifference):
    """TDN's long-term gate, in (-0.5, 0.5).

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return self.gate(x)


def _motion(channels: int, config: M2AConfig) -> nn.Module:
    if config.motion == "m2a":
        return Difference(around=config.fill == "first")
    if config.motion == "tea":
        return TEAMotion(channels, reduction=1)
    if config.motion == "tdn":
        return TDNMotion(channels, reduction=1, authors_code=config.authors_code)
    return nn.Identity()


def _attention(channels: int, frames: int, config: M2AConfig) -> nn.Module:
    if config.attention == "m2a":
        return FrameAttention()
    if config.attention == "tam":
        return TAM(channels, frames, _TAM)
    if config.attention == "patch":
        return PatchAttention(config.patch_size, config.authors_code)
    return nn.Identity()

"""M2A: motion aware attention.

Brennan Gebotys, Alexander Wong and David A. Clausi, "M2A: Motion Aware Attention for Accurate Video Action
Recognition", 2021, arXiv:2111.09976.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Place, Site, check_divisors
from vattn.modules._fold import fold, unfold
from vattn.modules._m2a.attention import AttentionPart, FramePart, PatchPart, TAMPart
from vattn.modules._m2a.motion import FrameDifference, TDNPart, TEAPart
from vattn.modules._m2a.part import Part

_NAMES = (
    (r"(^|\.)conv_(down|up)\.", r"\1\2."),
    (r"(^|\.)modules_list\.0\.(motion_mod\.)?(conv|bn)", r"\1motion.\3"),
    (r"(^|\.)modules_list\.0\.(attn\.)?G\.", r"\1attention.kernel."),
    (r"(^|\.)modules_list\.0\.(attn\.)?L\.", r"\1attention.gate."),
)


class M2AConfig(ModuleConfig, kind="m2a"):
    """Options of M2A; the defaults are those of the authors. Other parts are those of Tables IV to VI of the paper."""

    kind: Literal["m2a"] = "m2a"
    position: Place = "a"
    reduction: int = Field(8, ge=1, description="R, reduction of the channels for motion and attention: C -> C // R")
    motion: Literal["m2a", "tea", "tdn", "none"] = Field(
        "m2a",
        description="motion part: m2a: next frame minus this frame; tea, tdn: motion of that mechanism, on all C // R "
        "channels",
    )
    attention: Literal["m2a", "tam", "patch", "none"] = Field(
        "m2a",
        description="attention part: m2a: self-attention among whole frames; patch: among patches, over time and then "
        "within a frame; tam: that mechanism",
    )
    patch_size: int = Field(
        4,
        ge=1,
        description="s, side of a patch, pixels, with attention: patch; where s does not divide the size of the "
        "features, each pixel is a token",
    )
    fill: Literal["zero", "first"] = Field(
        "zero",
        description="frame after the last one, with motion: m2a: zeros, as in the authors' code, or the first frame, "
        "as in the paper",
    )
    authors_code: bool = Field(
        False,
        description="reproduce two defects of the authors' code: a wrong input in the backward branch of tdn, and "
        "motion between pixels instead of frames where s does not divide the size of the features",
    )

    no_identity = "its gate 1 + sigmoid reaches 1 only in the limit, where the gradient is 0"
    # The convolution is entry 1 of a sequence after M2A; with TSM, which has no parameters, between them it is entry 2.
    authors_network = (
        (r"(layer\d\.\d+\.conv1)\.[12]\.", r"\1."),
        (r"(layer\d\.\d+)\.conv1\.0\.", r"\1.at.a.0.module."),
    )

    @property
    def motion_part(self) -> Part:
        """Motion part, chosen by ``motion``."""
        return _MOTIONS[self.motion](self)

    @property
    def attention_part(self) -> AttentionPart:
        """Attention part, chosen by ``attention``."""
        return _ATTENTIONS[self.attention](self)

    @property
    def authors_names(self) -> tuple[tuple[str, str], ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rules for the authors' names, including those of the motion part."""
        return _NAMES + self.motion_part.authors_names

    @property
    def reversal_equivariant(self) -> bool:
        """True if both parts are."""
        return self.motion_part.reversal_equivariant and self.attention_part.reversal_equivariant

    def canonical(self) -> Self:
        """Return an equal mechanism; an option has no effect if neither part uses it."""
        used = self.motion_part.options | self.attention_part.options
        defaults = {"patch_size": 4, "fill": "zero", "authors_code": False}
        return self.model_copy(update={name: value for name, value in defaults.items() if name not in used})

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``reduction`` leaves no channel, or the motion part cannot process the features."""
        check_divisors(site, reduction=self.reduction)
        self.motion_part.check(self._reduced(site), frames)

    def _reduced(self, site: Site) -> Site:
        """Return the site with the channels that the parts get."""
        return replace(site, channels=site.channels // self.reduction)

    def build(self, site: Site, frames: int) -> "M2A":
        """Return an M2A for the features at ``site``, ``frames`` frames long."""
        return M2A(site, frames, self)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        reduced = self._reduced(site)
        convs = 2 * site.channels * reduced.channels * frames * site.height * site.width
        return convs + sum(part.macs(reduced, frames) for part in (self.motion_part, self.attention_part))

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        c, reduced = site.channels, self._reduced(site)
        convs = 2 * c * reduced.channels + c + reduced.channels
        return convs + sum(part.params(reduced, frames) for part in (self.motion_part, self.attention_part))

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: gate, output, input of the last convolution, and those of both parts."""
        reduced = self._reduced(site)
        kept = (2 * site.channels + reduced.channels) * frames * site.height * site.width
        return kept + sum(part.activations(reduced, frames) for part in (self.motion_part, self.attention_part))


_MOTIONS: dict[str, Callable[[M2AConfig], Part]] = {
    "m2a": lambda config: FrameDifference(config.fill),
    "tea": lambda config: TEAPart(),
    "tdn": lambda config: TDNPart(config.authors_code),
    "none": lambda config: Part(),
}
_ATTENTIONS: dict[str, Callable[[M2AConfig], AttentionPart]] = {
    "m2a": lambda config: FramePart(),
    "tam": lambda config: TAMPart(with_motion=config.motion != "none"),
    "patch": lambda config: PatchPart(config.patch_size, config.authors_code, frame_difference=config.motion == "m2a"),
    "none": lambda config: AttentionPart(),
}


class M2A(nn.Module):
    r"""Gate every value by features that motion and attention compute on a few channels.

    .. math:: Z = W_{down} X, \quad A = Z + \mathrm{softmax}(M M^T / \sqrt d) M, \quad
        M_t = U_{t+1} - U_t, \quad U = LN(Z), \quad Y = X + X \odot \sigma(W_{up} A)

    :math:`W_{down}` (C -> C // R) and :math:`W_{up}` (back) are 1x1 convolutions with biases. Rows of M are whole
    frames of d values. LN normalises each frame, without scale and shift. The frame after the last one,
    :math:`U_{T+1}`, is zero in the authors' code, which gave the published numbers; in the paper it is :math:`U_1`
    (``fill``).

    Other parts may replace the difference and the softmax. Motion alone is :math:`A_t = Z_{t+1} - Z_t`, and TAM alone
    is A = TAM(Z), both without the norm and the sum. For attention among patches see `PatchAttention`.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W), with T = ``frames``.
    """

    def __init__(self, site: Site, frames: int, config: M2AConfig) -> None:
        super().__init__()
        reduced = replace(site, channels=site.channels // config.reduction)
        self.down = nn.Conv2d(site.channels, reduced.channels, 1)
        self.motion = config.motion_part.build(reduced, frames)
        self.attention_part = config.attention_part
        self.attention = self.attention_part.build(reduced, frames)
        self.up = nn.Conv2d(reduced.channels, site.channels, 1)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        z = unfold(self.down(fold(x)), x.shape[2])
        gate = unfold(self.up(fold(self.attend(z))).sigmoid_(), x.shape[2])
        return torch.addcmul(x, x, gate)

    def attend(self, z: Float[Tensor, "n r t h w"]) -> Float[Tensor, "n r t h w"]:
        """Return A, the result of motion and attention."""
        return self.attention_part.combine(z, self.motion, self.attention)

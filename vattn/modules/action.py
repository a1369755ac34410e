"""ACTION-Net: spatio-temporal, channel and motion excitation.

Zhengwei Wang, Qi She and Aljosa Smolic, "ACTION-Net: Multipath Excitation for Action Recognition", CVPR 2021,
arXiv:2103.07372.
"""

from typing import Literal, Self, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Place, Site, check_divisors
from vattn.modules._fold import fold, gated, unfold
from vattn.modules._temporal import LearnableShift, TemporalConv
from vattn.modules.tea import MotionExcitation

Path = Literal["ste", "ce", "me"]


class ActionConfig(ModuleConfig, kind="action"):
    """Options of ACTION; the defaults are those of the authors."""

    kind: Literal["action"] = "action"
    position: Place = "a"
    paths: tuple[Path, ...] = Field(
        get_args(Path),
        min_length=1,
        description="excitations that are summed: ste (spatio-temporal), ce (channel), me (motion); each once",
    )
    reduction: int = Field(
        16, ge=1, description="r, reduction of the channels in channel and motion excitation: C -> C // r"
    )
    div: int = Field(
        8, ge=2, description="the learnable shift starts by shifting C // div channels in each direction of time"
    )

    no_identity = "each path adds its input to the gated input, and the shift moves channels from the first step"
    authors_names = (
        (r"action_shift\.", "shift."), (r"action_p1_conv1\.", "ste."),
        (r"action_p2_squeeze\.", "ce.squeeze."), (r"action_p2_conv1\.", "ce.mix."),
        (r"action_p2_expand\.", "ce.expand."), (r"action_p3_squeeze\.", "me.conv1."),
        (r"action_p3_bn1\.", "me.bn1."), (r"action_p3_conv1\.", "me.conv2."), (r"action_p3_expand\.", "me.conv3."),
    )  # fmt: skip
    authors_network = ((r"\.conv1\.action_", ".at.a.0.module.action_"), (r"\.conv1\.net\.", ".conv1."))

    @field_validator("paths")
    @classmethod
    def _in_order(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        if len(set(paths)) < len(paths):
            raise ValueError("names a path twice; name each once")
        return tuple(sorted(paths, key=get_args(Path).index))

    def canonical(self) -> Self:
        """Return an equal mechanism; spatio-temporal excitation alone does not use ``reduction``."""
        return self.model_copy(update={"reduction": 16}) if self.paths == ("ste",) else self

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``reduction`` or ``div`` leaves no channel."""
        check_divisors(site, div=self.div)
        if self.paths != ("ste",):
            check_divisors(site, reduction=self.reduction)

    def build(self, site: Site, frames: int) -> "Action":
        """Return the shift with its excitations for the features at ``site``."""
        return Action(site.channels, self)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        c, r, pixels = site.channels, site.channels // self.reduction, site.height * site.width
        paths = {"ste": 27 * pixels, "ce": r * (2 * c + 3 * r), "me": r * (c * pixels + 9 * pixels + c)}
        return frames * (3 * c * pixels + sum(paths[path] for path in self.paths))

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        c, r = site.channels, site.channels // self.reduction
        paths = {"ste": 27, "ce": r * (2 * c + 3 * r), "me": r * (2 * c + 11)}
        return 3 * c + sum(paths[path] for path in self.paths)

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: output of the shift, inputs of layers, gates, sum of the gates, output."""
        c, r, pixels = site.channels, site.channels // self.reduction, site.height * site.width
        paths = {"ste": 2 * pixels, "ce": 2 * c + 2 * r, "me": r * (pixels + 10) + c}
        summed = c if self.paths != ("ste",) else 0
        return frames * (2 * c * pixels + summed + sum(paths[path] for path in self.paths))


class Action(nn.Module):
    r"""Shift channels over time, gate the result in three ways, and sum the three.

    .. math:: Y = \sum_{p \in \{STE, CE, ME\}} (Z + Z \odot \sigma(G_p(Z))), \quad Z = \text{shift}(X)

    The shift is a learnable depthwise temporal convolution, initialised as the shift of TSM. :math:`G_{STE}` is a 3x3x3
    convolution of the mean over channels, one gate per pixel and frame. :math:`G_{CE}` is `ChannelExcitation`.
    :math:`G_{ME}` is the motion excitation of TEA without its last norm. The paper sums all three paths; a subset of
    the paths is a variant of this library.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int, config: ActionConfig) -> None:
        super().__init__()
        self.shift = LearnableShift(channels, config.div)
        self.ste = self.ce = self.me = None
        if "ste" in config.paths:
            self.ste = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        if "ce" in config.paths:
            self.ce = ChannelExcitation(channels, config.reduction)
        if "me" in config.paths:
            self.me = MotionExcitation(channels, config.reduction, gate_norm=False)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        images, gates = fold(self.shift(x)), []
        z = unfold(images, x.shape[2])
        if self.ce is not None:
            gates.append(fold(self.ce(z)).sigmoid())
        if self.me is not None:
            gates.append(fold(self.me.logits(z)).sigmoid())
        if self.ste is None:
            return unfold(images * (sum(gates) + len(gates)), x.shape[2])
        pixels = fold(self.ste(unfold(images.mean(1, keepdim=True), x.shape[2]))).sigmoid()
        if not gates:
            return unfold(torch.addcmul(images, images, pixels), x.shape[2])
        return unfold(gated(images, sum(gates[1:], gates[0]) + (len(gates) + 1), pixels), x.shape[2])


class ChannelExcitation(nn.Module):
    r"""Return the logits of squeeze-and-excitation with a temporal convolution between its layers.

    .. math:: G = W_2 \, \mathrm{ReLU}(K \ast_T (W_1 \bar X))

    :math:`\bar X` is the mean over the pixels of a frame. W_1 (C -> C // r) and W_2 (back) are 1x1 convolutions, K has
    3 taps. Nothing has a bias or a norm.

    Shape: (N, C, T, H, W) -> (N, C, T, 1, 1).
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        reduced = channels // reduction
        self.squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.mix = TemporalConv(reduced, reduced, 3)
        self.expand = nn.Conv2d(reduced, channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t 1 1"]:
        squeezed = unfold(self.squeeze(fold(x).mean((2, 3), keepdim=True)), x.shape[2])
        return self.expand(F.relu(self.mix(squeezed)).squeeze(-1)).unsqueeze(-1)

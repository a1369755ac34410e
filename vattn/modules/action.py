"""ACTION-Net: spatio-temporal, channel and motion excitation (Wang et al., CVPR 2021, arXiv:2103.07372)."""

from typing import Literal, Self, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Position, Site, check_divisors
from vattn.modules._fold import frame_means
from vattn.modules._temporal import LearnableShift, TemporalConv
from vattn.modules.tea import MotionExcitation

Path = Literal["ste", "ce", "me"]


class ActionConfig(ModuleConfig, kind="action"):
    """Which paths there are behind the shift; the defaults are the authors'."""

    kind: Literal["action"] = "action"
    position: Position = "a"
    paths: tuple[Path, ...] = Field(get_args(Path), min_length=1, description="excitations that are added up")
    reduction: int = Field(16, ge=1, description="r: channel and motion excitation work in C // r channels")
    div: int = Field(8, ge=2, description="the shift starts with C // div channels going each way")

    no_identity = "each path adds its input to what it gates, and the shift moves channels from the first step"
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
        """Spatio-temporal excitation alone reduces nothing."""
        return self.model_copy(update={"reduction": 16}) if self.paths == ("ste",) else self

    def check(self, site: Site, frames: int) -> None:
        """Refuse a ``reduction`` or ``div`` that leaves no channel."""
        check_divisors(site, div=self.div)
        if self.paths != ("ste",):
            check_divisors(site, reduction=self.reduction)

    def build(self, site: Site, frames: int) -> "Action":
        """Return the shift and its excitations for the features at ``site``."""
        return Action(site.channels, self)

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        c, r, pixels = site.channels, site.channels // self.reduction, site.height * site.width
        paths = {"ste": 27 * pixels, "ce": r * (2 * c + 3 * r), "me": r * (c * pixels + 9 * pixels + c)}
        return frames * (3 * c * pixels + sum(paths[path] for path in self.paths))

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        c, r = site.channels, site.channels // self.reduction
        paths = {"ste": 27, "ce": r * (2 * c + 3 * r), "me": r * (2 * c + 11)}
        return 3 * c + sum(paths[path] for path in self.paths)

    def activations(self, site: Site, frames: int) -> int:
        """What the shift gives, what each path's layers take and its sigmoid gives, the sum of gates, the output."""
        c, r, pixels = site.channels, site.channels // self.reduction, site.height * site.width
        paths = {"ste": 2 * pixels, "ce": 2 * c + 2 * r, "me": r * (pixels + 10) + c}
        summed = c if self.paths != ("ste",) else 0
        return frames * (2 * c * pixels + summed + sum(paths[path] for path in self.paths))


class Action(nn.Module):
    r"""Shift, then gate by pixel, by channel over time, and by motion, and add the three up.

    .. math:: Y = \sum_{p} (Z + Z \odot \sigma(G_p(Z))), \quad Z = \text{shift}(X)

    The shift is a learnable depthwise temporal convolution that starts as TSM's. :math:`G_{STE}` is a 3x3x3 convolution
    of the mean over channels; for :math:`G_{CE}` see `ChannelExcitation`; :math:`G_{ME}` is TEA's motion excitation
    without its last norm. The paper's sum is over all three paths; over any subset of them it is a variant.

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
        z = self.shift(x)
        gates = []
        if self.ce is not None:
            gates.append(self.ce(z).sigmoid())
        if self.me is not None:
            gates.append(self.me.logits(z).sigmoid())
        if self.ste is None:
            return z * (sum(gates) + len(gates))
        # Added behind the product: the sum of all gates is as large as z, and autograd would keep it.
        y = z * (sum(gates) + len(gates) + 1) if gates else z
        return torch.addcmul(y, z, self.ste(z.mean(1, keepdim=True)).sigmoid())


class ChannelExcitation(nn.Module):
    """Squeeze-and-excitation with a temporal convolution in the middle; gives what its sigmoid takes.

    Shape: (N, C, T, H, W) -> (N, C, T, 1, 1).
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        reduced = channels // reduction
        self.squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.mix = TemporalConv(reduced, reduced, 3)
        self.expand = nn.Conv2d(reduced, channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t 1 1"]:
        squeezed = self.squeeze(frame_means(x).unsqueeze(-1))
        mixed = F.relu(self.mix(squeezed.unsqueeze(-1)))
        return self.expand(mixed.squeeze(-1)).unsqueeze(-1)

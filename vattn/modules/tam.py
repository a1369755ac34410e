"""TAM: temporal adaptive module (Liu et al., ICCV 2021, arXiv:2005.06803)."""

from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site


class TAMConfig(ModuleConfig, kind="tam"):
    """Sizes of the two branches; the defaults are the authors'."""

    kind: Literal["tam"] = "tam"
    alpha: int = Field(2, ge=1, description="width of the global branch: T -> alpha * T")
    beta: int = Field(4, ge=1, description="reduction of the local branch: C -> C // beta")
    kernel_size: int = Field(3, ge=1, description="K, taps of the temporal kernel; odd")
    local_kernel_size: Literal["auto"] | int = Field(
        "auto", description="taps of the local branch's convolution; odd; auto: K"
    )
    batch_norm: bool = Field(True, description="in the global branch: the authors' code has it, the paper has not")
    branches: Literal["full", "global", "local", "global_se"] = Field(
        "full", description="the paper's ablations; global_se: squeeze-and-excitation in place of the local branch"
    )
    order: Literal["local_first", "global_first"] = Field("local_first", description="global_first is TANet-R")

    no_identity = "the gate's sigmoid and the kernel's softmax reach 1 only in the limit, where they no longer learn"
    authors_names = ((r"(^|\.)G\.", r"\1kernel."), (r"(^|\.)L\.", r"\1gate."))
    authors_network = ((r"(^|\.)net\.", r"\1"), (r"(^|\.)tam\.", r"\1at.b.0.module."))

    @field_validator("kernel_size", "local_kernel_size")
    @classmethod
    def _odd(cls, k: int | str) -> int | str:
        if isinstance(k, int) and (k < 1 or k % 2 == 0):
            raise ValueError(f"must be odd, so that T frames in give T frames out; try {max(k + 1, 1)}")
        return k

    @property
    def local_taps(self) -> int:
        """Taps of the local branch's convolution."""
        return self.kernel_size if self.local_kernel_size == "auto" else self.local_kernel_size

    @property
    def has_kernel(self) -> bool:
        """The global branch is there."""
        return self.branches != "local"

    @property
    def has_gate(self) -> bool:
        """The local branch, or what stands in its place, is there."""
        return self.branches != "global"

    def canonical(self) -> Self:
        """Options of a branch that is not there have no effect, nor has the order of less than two."""
        changes: dict[str, object] = {}
        if not self.has_kernel:
            changes |= {"alpha": 2, "batch_norm": True, "kernel_size": 3, "local_kernel_size": self.local_taps}
        if self.branches in ("global", "global_se"):
            changes |= {"local_kernel_size": "auto"}
        if not self.has_gate:
            changes |= {"beta": 4}
        if not (self.has_kernel and self.has_gate) or self.branches == "global_se":
            # A gate that is the same for all frames passes through the sum over frames.
            changes |= {"order": "local_first"}
        same = self.model_copy(update=changes)
        return same.model_copy(update={"local_kernel_size": "auto"}) if same.local_taps == same.kernel_size else same

    def check(self, site: Site, frames: int) -> None:
        """Refuse a ``beta`` that leaves the local branch no channel."""
        if self.has_gate and site.channels < self.beta:
            raise ValueError(
                f"beta: must not exceed the channels, of which stage {site.stage} has {site.channels} at position "
                f"{site.position}; lower beta, or leave the stage out (got {self.beta})"
            )

    def build(self, site: Site, frames: int) -> "TAM":
        """Return a TAM for the features at ``site``, ``frames`` frames long."""
        return TAM(site.channels, frames, self)

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation.

        A gate without a kernel is a product by values and, as elsewhere, not counted.
        """
        c, t, reduced = site.channels, frames, site.channels // self.beta
        gates = {"global": 0, "global_se": 2 * c * reduced}
        gate = gates.get(self.branches, t * c * reduced * (self.local_taps + 1))
        if not self.has_kernel:
            return gate
        predict = c * (self.alpha * t) * (t + self.kernel_size)
        return predict + gate + self.kernel_size * c * t * site.height * site.width

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        c, hidden, reduced = site.channels, self.alpha * frames, site.channels // self.beta
        kernel = hidden * (frames + self.kernel_size + 2 * self.batch_norm) if self.has_kernel else 0
        gates = {"global": 0, "global_se": 2 * c * reduced}
        return kernel + gates.get(self.branches, c * reduced * (self.local_taps + 1) + 2 * reduced)

    def activations(self, site: Site, frames: int) -> int:
        """Means, what stands between the layers of the branches, T x T matrices, a copy of the input, the output."""
        c, t, reduced = site.channels, frames, site.channels // self.beta
        values = c * t * site.height * site.width
        gates = {"global": 0, "global_se": 2 * c + reduced}
        kept = c * t + gates.get(self.branches, 2 * reduced * t + c * t) + values
        if self.has_kernel:
            kept += c * (self.alpha * t) * (1 + self.batch_norm) + c * self.kernel_size
            kept += c * t * t * (1 + self.has_gate) + values
        return kept


class TAM(nn.Module):
    r"""Gate every frame, then convolve over time with a kernel predicted per clip and channel.

    .. math:: Y = \mathcal G(\bar X) \ast_T (\mathcal L(\bar X) \odot X)

    :math:`\bar X` is the spatial mean of X (N, C, T). :math:`\mathcal L` gives gates in (0, 1),
    :math:`\mathcal G` gives K taps that sum to 1. In TANet-R (``order: global_first``) the gate comes last:
    :math:`\mathcal L(\bar X) \odot (\mathcal G(\bar X) \ast_T X)`. Written from the paper. The authors' code pads by 1
    unless told otherwise, so only K = 3 runs as it stands; here padding follows K.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W), with T = ``frames``.
    """

    def __init__(self, channels: int, frames: int, config: TAMConfig) -> None:
        super().__init__()
        hidden, reduced, k = config.alpha * frames, channels // config.beta, config.local_taps
        self.kernel: nn.Module | None = None
        self.gate: nn.Module | None = None
        if config.has_kernel:
            self.kernel = nn.Sequential(
                nn.Linear(frames, hidden, bias=False),
                *([nn.BatchNorm1d(hidden)] if config.batch_norm else []),
                nn.ReLU(inplace=True), nn.Linear(hidden, config.kernel_size, bias=False), nn.Softmax(dim=-1),
            )  # fmt: skip
        if config.branches == "global_se":
            self.gate = nn.Sequential(
                nn.AdaptiveAvgPool1d(1), nn.Conv1d(channels, reduced, 1, bias=False), nn.ReLU(inplace=True),
                nn.Conv1d(reduced, channels, 1, bias=False), nn.Sigmoid(),
            )  # fmt: skip
        elif config.has_gate:
            self.gate = nn.Sequential(
                nn.Conv1d(channels, reduced, k, padding=k // 2, bias=False), nn.BatchNorm1d(reduced),
                nn.ReLU(inplace=True), nn.Conv1d(reduced, channels, 1, bias=False), nn.Sigmoid(),
            )  # fmt: skip
        self.gate_last = config.order == "global_first"

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        n, c, t = x.shape[:3]
        mean = x.mean(dim=(-2, -1))
        gate = None if self.gate is None else self.gate(mean)
        if self.kernel is None:
            assert gate is not None
            return x * gate[..., None, None]
        taps = self.kernel(mean.reshape(n * c, t)).view(n, c, -1)
        mixing = mixing_matrix(taps, t)
        if gate is not None:
            mixing = mixing * (gate[..., :, None] if self.gate_last else gate[..., None, :])
        # Gate and kernel are one T x T matrix per clip and channel: one batched product, no copy of x.
        return (mixing @ x.flatten(-2)).view_as(x)


def mixing_matrix(taps: Float[Tensor, "n c k"], frames: int) -> Float[Tensor, "n c {frames} {frames}"]:
    """Return M with M[t, s] = taps[s - t + K // 2], and 0 outside the window."""
    k, frame = taps.shape[-1], torch.arange(frames, device=taps.device)
    tap = frame - frame[:, None] + k // 2
    inside = (tap >= 0) & (tap < k)
    return taps[..., tap.clamp(0, k - 1)] * inside

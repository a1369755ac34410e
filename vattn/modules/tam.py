"""TAM: temporal adaptive module.

Zhaoyang Liu, Limin Wang, Wayne Wu, Chen Qian and Tong Lu, "TAM: Temporal Adaptive Module for Video Recognition", ICCV
2021, arXiv:2005.06803.
"""

from collections.abc import Iterator
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Site, check_divisors
from vattn.modules._fold import frame_means, frame_sums


class TAMConfig(ModuleConfig, kind="tam"):
    """Options of TAM; the defaults are those of the authors."""

    kind: Literal["tam"] = "tam"
    alpha: int = Field(2, ge=1, description="alpha, expansion of the global branch: T -> alpha * T hidden units")
    beta: int = Field(4, ge=1, description="beta, reduction of the channels in the local branch: C -> C // beta")
    kernel_size: int = Field(3, ge=1, description="K, taps of the predicted temporal kernel; odd")
    local_kernel_size: Literal["auto"] | int = Field(
        "auto", description="taps of the temporal convolution in the local branch; odd; auto: K"
    )
    batch_norm: bool = Field(
        True, description="batch norm in the global branch, as in the authors' code but not in the paper"
    )
    branches: Literal["full", "global", "local", "global_se"] = Field(
        "full",
        description="branches that are used: both, or an ablation of the paper; global_se: the global branch with "
        "squeeze-and-excitation instead of the local branch",
    )
    order: Literal["local_first", "global_first"] = Field(
        "local_first", description="local_first: gate, then convolve; global_first: convolve, then gate (TANet-R)"
    )

    no_identity = (
        "the sigmoid of the gate and the softmax of the kernel reach 1 only in the limit, where gradients are 0"
    )
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
        """Number of taps of the convolution in the local branch."""
        return self.kernel_size if self.local_kernel_size == "auto" else self.local_kernel_size

    @property
    def has_kernel(self) -> bool:
        """Whether the global branch is used."""
        return self.branches != "local"

    @property
    def has_gate(self) -> bool:
        """Whether the local branch, or squeeze-and-excitation instead of it, is used."""
        return self.branches != "global"

    @property
    def reversal_equivariant(self) -> bool:
        """True if each frame is gated alone or all by one gate, and the kernel has one tap, whose weight is 1."""
        one_tap = not self.has_kernel or self.kernel_size == 1
        return one_tap and (self.branches in ("global", "global_se") or self.local_taps == 1)

    def canonical(self) -> Self:
        """Return an equal mechanism; options of an unused branch, and the order of fewer than two, have no effect."""
        changes: dict[str, object] = {}
        if not self.has_kernel:
            changes |= {"alpha": 2, "batch_norm": True, "kernel_size": 3, "local_kernel_size": self.local_taps}
        if self.branches in ("global", "global_se"):
            changes |= {"local_kernel_size": "auto"}
        if not self.has_gate:
            changes |= {"beta": 4}
        if not (self.has_kernel and self.has_gate) or self.branches == "global_se":
            # A gate that is the same for all frames commutes with the sum over frames.
            changes |= {"order": "local_first"}
        equal = self.model_copy(update=changes)
        return (
            equal.model_copy(update={"local_kernel_size": "auto"}) if equal.local_taps == equal.kernel_size else equal
        )

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if ``beta`` leaves no channel in the local branch."""
        if self.has_gate:
            check_divisors(site, beta=self.beta)

    def build(self, site: Site, frames: int) -> "TAM":
        """Return a TAM for the features at ``site``, ``frames`` frames long."""
        return TAM(site.channels, frames, self)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip.

        The product of gate and features is elementwise, which is not counted in any mechanism.
        """
        c, t, reduced = site.channels, frames, site.channels // self.beta
        gates = {"global": 0, "global_se": 2 * c * reduced}
        gate = gates.get(self.branches, t * c * reduced * (self.local_taps + 1))
        if not self.has_kernel:
            return gate
        predict = c * (self.alpha * t) * (t + self.kernel_size)
        return predict + gate + self.kernel_size * c * t * site.height * site.width

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        c, hidden, reduced = site.channels, self.alpha * frames, site.channels // self.beta
        kernel = hidden * (frames + self.kernel_size + 2 * self.batch_norm) if self.has_kernel else 0
        gates = {"global": 0, "global_se": 2 * c * reduced}
        return kernel + gates.get(self.branches, c * reduced * (self.local_taps + 1) + 2 * reduced)

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: means, hidden values of both branches, K weights per frame and channel, output."""
        c, t, reduced = site.channels, frames, site.channels // self.beta
        gates = {"global": 0, "global_se": 2 * c + reduced}
        kept = c * t + gates.get(self.branches, 2 * reduced * t + c * t) + c * t * site.height * site.width
        if self.has_kernel:
            kept += c * (self.alpha * t) * (1 + self.batch_norm) + c * self.kernel_size * (1 + t)
            if self.branches == "full" and self.order == "local_first":
                kept += c * (t + self.kernel_size - 1)
        return kept


class TAM(nn.Module):
    r"""Gate every frame, then convolve over time with a kernel predicted per clip and channel.

    .. math:: Y = \mathcal G(\bar X) \ast_T (\mathcal L(\bar X) \odot X)

    :math:`\bar X` (N, C, T) is the spatial mean of X. The local branch :math:`\mathcal L` gives gates in (0, 1): a
    temporal convolution C -> C // beta, norm, ReLU, a 1x1 convolution back, and a sigmoid. The global branch
    :math:`\mathcal G` gives K taps that sum to 1: linear layers T -> alpha * T -> K with a norm and a ReLU between
    them, and a softmax. In TANet-R (``order: global_first``) the gate is last: :math:`\mathcal L(\bar X) \odot
    (\mathcal G(\bar X) \ast_T X)`.

    The module is written from the paper. The paper has no norm in :math:`\mathcal G`, the authors' code does. The
    authors' code pads by 1 by default, so that only K = 3 keeps the number of frames; here padding follows K. The code
    uses K for the convolution of the local branch too; here ``local_kernel_size`` may differ.

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
        # A gate that is the same for all frames commutes with the sum over frames.
        self.gate_last = config.order == "global_first" or config.branches == "global_se"

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        n, c, t = x.shape[:3]
        mean = frame_means(x)
        gate = None if self.gate is None else self.gate(mean)
        if self.kernel is None:
            assert gate is not None
            return x * gate[..., None, None]
        weights = self.kernel(mean.reshape(n * c, t)).view(n, c, 1, -1)
        if gate is not None:
            weights = weights * (gate[..., None] if self.gate_last else _windows(gate, weights.shape[-1]))
        return aggregate(x, weights.expand(-1, -1, t, -1))


def aggregate(x: Float[Tensor, "n c t h w"], weights: Float[Tensor, "n c t k"]) -> Float[Tensor, "n c t h w"]:
    r"""Return :math:`y_t = \sum_k w_{tk} x_{t + k - K // 2}` for each clip, channel and pixel, 0 outside the clip.

    Memory bandwidth limits the speed, so both forms read and write x few times, in any memory format. Compiled, it is
    one kernel that reads K frames for each frame that it writes. Otherwise, K products are added in place.
    """
    t, k = weights.shape[2:]
    weights = weights.to(x.dtype)
    if torch.compiler.is_compiling():
        padded = F.pad(x, (0, 0, 0, 0, k // 2, k // 2))
        products = [padded[:, :, tap : tap + t] * weights[..., tap, None, None] for tap in range(k)]
        return sum(products[1:], products[0])
    # channels_last: where x has this format too, the products run along contiguous channels.
    return _Aggregate.apply(x, weights.contiguous(memory_format=torch.channels_last))


class _Aggregate(torch.autograd.Function):
    """Compute `aggregate` and its gradients. Autograd would keep, and read, K tensors of the size of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, weights)
        y = x * weights[..., weights.shape[-1] // 2, None, None]
        for tap, to, source in _shifts(weights):
            y[:, :, to].addcmul_(x[:, :, source], weights[:, :, to, tap, None, None])
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            # `once_differentiable` raises no error if the incoming gradient is a constant.
            raise RuntimeError("tam: has no second derivative here; leave create_graph out, or compile the network")
        (grad,), (x, weights) = grads, ctx.saved_tensors
        middle, shifts = weights.shape[-1] // 2, tuple(_shifts(weights))
        grad_weights = torch.zeros_like(weights)
        # The products of each tap and then the gradient of x share one buffer, because allocation takes longer than
        # filling.
        grad_x = grad * x
        grad_weights[..., middle] = frame_sums(grad_x)
        for tap, to, source in shifts:
            product = torch.mul(grad[:, :, to], x[:, :, source], out=grad_x[:, :, to])
            grad_weights[:, :, to, tap] = frame_sums(product)
        torch.mul(grad, weights[..., middle, None, None], out=grad_x)
        for tap, to, source in shifts:
            grad_x[:, :, source].addcmul_(grad[:, :, to], weights[:, :, to, tap, None, None])
        return grad_x, grad_weights


def _shifts(weights: Float[Tensor, "n c t k"]) -> Iterator[tuple[int, slice, slice]]:
    """Yield each tap except the middle one, its target frames and its source frames; skip taps outside the clip."""
    t, k = weights.shape[2:]
    for tap in range(k):
        shift = tap - k // 2
        if 0 < abs(shift) < t:
            yield tap, slice(max(0, -shift), t - max(0, shift)), slice(max(0, shift), t + min(0, shift))


def _windows(gate: Float[Tensor, "n c t"], k: int) -> Float[Tensor, "n c t {k}"]:
    """Return for each frame the gates of the K frames in its window, 0 outside the clip."""
    return F.pad(gate, (k // 2, k // 2)).unfold(-1, k, 1)

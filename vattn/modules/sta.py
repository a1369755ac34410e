"""STA: spatio-temporal attention for 3D networks.

Jun Li, Xianglong Liu, Wenxuan Zhang, Mingyuan Zhang, Jingkuan Song and Nicu Sebe, "Spatio-Temporal Attention Networks
for Action Recognition and Detection", IEEE Transactions on Multimedia, 2020.
"""

from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Place, Site


class STAConfig(ModuleConfig, kind="sta"):
    """Options of STA; the defaults are those of the paper, except ``init``."""

    kind: Literal["sta"] = "sta"
    stages: Annotated[
        tuple[int, ...],
        Field(
            description="residual stages that get the mechanism; 2 is res2, 5 is res5; each once; the paper prefers "
            "res5 to res2 (Table VIII)"
        ),
    ] = (5,)
    position: Place = "d"
    weights: Literal["sta", "ta", "sa"] = Field(
        "sta", description="W has one weight per frame and channel (sta), per frame (ta), or per channel (sa)"
    )
    deconv: bool = Field(True, description="deconvolution over time before Conv2; false is the ablation of Table IX")
    step: int = Field(1, ge=1, le=16, description="s, stride of the deconvolution and of Conv2, frames (Figure 7)")
    kernel_size: int = Field(
        3, ge=1, le=15, description="k, taps of the deconvolution and of Conv2; odd without deconv"
    )
    init: Literal["default", "live", "identity"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        "live",
        description="initial state: default: as in PyTorch, where the ReLU is inactive for a quarter of the seeds and "
        "never learns; live: a bias of 1, so that the ReLU is active; identity: not available",
    )

    no_identity = "the sigmoid reaches 1 only in the limit, where its gradient is 0"

    @model_validator(mode="after")
    def _frames_stay(self) -> Self:
        if not self.deconv and self.kernel_size % 2 == 0:
            raise ValueError(
                "kernel_size: must be odd without deconv, so that T frames in give T frames out; try "
                f"{self.kernel_size + 1} (got {self.kernel_size})"
            )
        return self

    @property
    def reversal_equivariant(self) -> bool:
        """True if no frame affects the weights of another frame; SA has separate weights for each frame."""
        return self.weights != "sa" and self.kernel_size <= (self.step if self.deconv else 1)

    def canonical(self) -> Self:
        """Return an equal mechanism.

        A step larger than the kernel inserts values that no window reads, and SA has a row of one value, without steps.
        """
        steps = self.deconv and self.weights != "sa"
        return self.model_copy(update={"step": min(self.step, self.kernel_size) if steps else 1})

    def build(self, site: Site, frames: int) -> "STA":
        """Return an STA for the features at ``site``, ``frames`` frames long."""
        return STA(site, frames, self)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip by Table IV, without the product of weights and features.

        The table counts this product as one per frame and channel: c * l. The sum is then the paper's
        c * l * (h * w + 4) + 3 * l, with l frames.
        """
        rows = self._rows(frames)
        values = site.channels * frames * site.height * site.width
        return values + rows * self.kernel_size * (self.deconv + self._outputs(site))

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters: c * (h * w + 4) + 5 with the default options, as in Table IV."""
        depth = frames if self.weights == "sa" else 1
        squeeze = site.channels * depth * site.height * site.width + 1
        return squeeze + (self.kernel_size + 1) * (self.deconv + self._outputs(site))

    def published_alternative(self, site: Site, frames: int) -> tuple[str, int, int] | None:
        """Return the cost of STC by Table IV, with r = 16; None for TA and SA, which the table does not compare.

        STC is from Ali Diba et al., "Spatio-Temporal Channel Correlation Networks for Action Classification", ECCV
        2018, arXiv:1806.07754.
        """
        if self.weights != "sta":
            return None
        params = site.channels**2 * (frames**2 + frames + 2) // 16
        return "stc", params + site.channels * (frames + 3), params

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: outputs of Conv1 and of the deconvolution, weights, output."""
        rows = self._rows(frames)
        stretched = ((rows - 1) * self.step + self.kernel_size) * self.deconv
        return rows + stretched + rows * self._outputs(site) + site.channels * frames * site.height * site.width

    def _rows(self, frames: int) -> int:
        """Return the length of the output of Conv1: one value per frame, or one per clip for SA."""
        return 1 if self.weights == "sa" else frames

    def _outputs(self, site: Site) -> int:
        """Return the number of output channels of Conv2."""
        return 1 if self.weights == "ta" else site.channels


class STA(nn.Module):
    r"""Multiply features by weights that are predicted from all values of a frame and of its neighbours.

    .. math:: Y = W \odot X, \quad
        W = \sigma(\mathrm{Conv}_2(\mathrm{ReLU}(\mathrm{Deconv}(\mathrm{Conv}_1(X)))))

    Conv1 maps each frame to one number (for SA, the whole clip), with a weight for each value. Deconv is a transposed
    convolution over time with kernel k and step s, T -> (T - 1) s + k. Conv2 has the same kernel and step, returns to T
    frames, and gives a weight per channel (for TA, one for all channels). Without Deconv, Conv2 has step 1 and pads
    with zeros.

    The module is written from the paper, because the authors published no code. ``init: live`` is not in the paper:
    with PyTorch's initialisation, the ReLU is inactive for all frames in 28 % of 200 seeds (C = 256, T = 4, 4 x 4
    pixels), and then nothing before it learns.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W). H and W are those of the site; for SA, T is too.

    Raises:
        ValueError: in `forward`, if the features have another size than Conv1's kernel.
    """

    def __init__(self, site: Site, frames: int, config: STAConfig) -> None:
        super().__init__()
        k, outputs = config.kernel_size, 1 if config.weights == "ta" else site.channels
        depth = frames if config.weights == "sa" else 1
        self.squeeze = nn.Conv3d(site.channels, 1, (depth, site.height, site.width))
        self.deconv = nn.ConvTranspose1d(1, 1, k, config.step) if config.deconv else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        if config.deconv:
            self.expand = nn.Conv1d(1, outputs, k, config.step)
        else:
            self.expand = nn.Conv1d(1, outputs, k, padding=k // 2)
        self.frames = frames if config.weights == "sa" else None
        if config.init == "live":
            # On normalised features, the output of Conv1 has a standard deviation of 0.58, that of Deconv less.
            bias = (self.deconv if isinstance(self.deconv, nn.ConvTranspose1d) else self.squeeze).bias
            assert bias is not None
            nn.init.ones_(bias)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return x * self.weigh(x)[..., None, None]

    def weigh(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d s"]:
        """Return W: (N, C, T) for STA, (N, 1, T) for TA, (N, C, 1) for SA."""
        height, width = self.squeeze.kernel_size[1:]
        if tuple(x.shape[-2:]) != (height, width) or self.frames not in (None, x.shape[2]):
            built, given = ("x".join(map(str, size)) for size in ((self.frames or "T", height, width), x.shape[2:]))
            raise ValueError(
                f"sta: has a weight for each value of {built} features, and was given {given}; "
                "keep to the frames and the size in pixels that the model was built for"
            )
        row = self.squeeze(x).flatten(2)
        return torch.sigmoid(self.expand(self.relu(self.deconv(row))))

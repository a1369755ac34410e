"""STA: spatio-temporal attention for 3D networks (Li et al., IEEE Transactions on Multimedia, 2020)."""

from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vattn.modules._base import ModuleConfig, Position, Site


class STAConfig(ModuleConfig, kind="sta"):
    """What is weighted, and how wide its view over time is; the defaults are the paper's."""

    kind: Literal["sta"] = "sta"
    stages: Annotated[tuple[int, ...], Field(description="the paper prefers conv5 to conv2 (Table VIII)")] = (5,)
    position: Position = "d"
    weights: Literal["sta", "ta", "sa"] = Field(
        "sta", description="of each frame and channel (sta), of each frame (ta), of each channel (sa)"
    )
    deconv: bool = Field(True, description="stretch time before it is weighted; off in Table IX")
    step: int = Field(1, ge=1, le=16, description="the deconvolution's stride, in frames (Figure 7)")
    kernel_size: int = Field(3, ge=1, le=15, description="taps of the deconvolution and of the convolution behind it")
    init: Literal["default", "live", "identity"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        "live", description="live: the ReLU starts active; by PyTorch's default, in a quarter of seeds it never learns"
    )

    no_identity = "the sigmoid reaches 1 only in the limit, where it no longer learns"

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
        """Where no frame reaches the weights of another one; SA has one row of weights for each frame."""
        return self.weights != "sa" and self.kernel_size <= (self.step if self.deconv else 1)

    def canonical(self) -> Self:
        """A step beyond the kernel stretches into places that nothing reads; one row has nowhere to step to."""
        steps = self.deconv and self.weights != "sa"
        return self.model_copy(update={"step": min(self.step, self.kernel_size) if steps else 1})

    def build(self, site: Site, frames: int) -> "STA":
        """Return an STA for the features at ``site``, ``frames`` frames long."""
        return STA(site, frames, self)

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by Table IV, without the product of weights and features.

        The table counts that product as one for each frame and channel, c l; with it, c l (h w + 4) + 3 l for the
        paper's STA.
        """
        rows = self._rows(frames)
        values = site.channels * frames * site.height * site.width
        return values + rows * self.kernel_size * (self.deconv + self._outputs(site))

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters; c (h w + 4) + 5 for the paper's STA."""
        seen = frames if self.weights == "sa" else 1
        squeeze = site.channels * seen * site.height * site.width + 1
        return squeeze + (self.kernel_size + 1) * (self.deconv + self._outputs(site))

    def rival(self, site: Site, frames: int) -> tuple[str, int, int] | None:
        """STC (Diba et al., ECCV 2018, arXiv:1806.07754) by the same table, which is of the whole STA; r = 16."""
        if self.weights != "sta":
            return None
        params = site.channels**2 * (frames**2 + frames + 2) // 16
        return "stc", params + site.channels * (frames + 3), params

    def activations(self, site: Site, frames: int) -> int:
        """The squeezed row, the stretched one, the weights, the output."""
        rows = self._rows(frames)
        stretched = ((rows - 1) * self.step + self.kernel_size) * self.deconv
        return rows + stretched + rows * self._outputs(site) + site.channels * frames * site.height * site.width

    def _rows(self, frames: int) -> int:
        """Length of what is left of a clip: one number for each frame, or for all."""
        return 1 if self.weights == "sa" else frames

    def _outputs(self, site: Site) -> int:
        return 1 if self.weights == "ta" else site.channels


class STA(nn.Module):
    r"""Weight features by what all pixels and channels of their frame say, and of the frames around it.

    .. math:: Y = W \odot X, \quad
        W = \sigma(\mathrm{Conv}_2(\mathrm{ReLU}(\mathrm{Deconv}(\mathrm{Conv}_1(X)))))

    Conv1 makes one number of each frame (of the whole clip for SA), with a weight for each of its values. Deconv
    stretches that row over time, and Conv2 brings it back to its length with a weight for each channel (one for all for
    TA). Written from the paper; no code of its authors is public.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W), of the site's height and width, and of its T for SA. Raises ValueError
    for others, as there are no weights for them.
    """

    def __init__(self, site: Site, frames: int, config: STAConfig) -> None:
        super().__init__()
        k, outputs = config.kernel_size, 1 if config.weights == "ta" else site.channels
        seen = frames if config.weights == "sa" else 1
        self.squeeze = nn.Conv3d(site.channels, 1, (seen, site.height, site.width))
        self.deconv = nn.ConvTranspose1d(1, 1, k, config.step) if config.deconv else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        if config.deconv:
            self.expand = nn.Conv1d(1, outputs, k, config.step)
        else:
            self.expand = nn.Conv1d(1, outputs, k, padding=k // 2)
        self.frames = frames if config.weights == "sa" else None
        if config.init == "live":
            # Of normalised features the squeezed row has a standard deviation of 0.58, the stretched one of less.
            bias = (self.deconv if isinstance(self.deconv, nn.ConvTranspose1d) else self.squeeze).bias
            assert bias is not None
            nn.init.ones_(bias)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return x * self.weigh(x)[..., None, None]

    def weigh(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d s"]:
        """Return W: (N, C, T) for STA, (N, 1, T) for TA, (N, C, 1) for SA."""
        height, width = self.squeeze.kernel_size[1:]
        if tuple(x.shape[-2:]) != (height, width) or self.frames not in (None, x.shape[2]):
            built, given = ("x".join(map(str, s)) for s in ((self.frames or "T", height, width), x.shape[2:]))
            raise ValueError(
                f"sta: has a weight for each value of {built} features, and was given {given}; "
                "keep to the frames and the size in pixels that the model was built for"
            )
        row = self.squeeze(x).flatten(2)
        return torch.sigmoid(self.expand(self.relu(self.deconv(row))))

"""Sparse spatial attention by class peak responses.

Source: Zhou, Li, Wang and Li, "Integrating Temporal and Spatial Attention for Video Action Recognition", Security and
Communication Networks, 2022; equations and tables in this file are its. It builds on S3N (Ding, Zhou, Zhu, Ye and Jiao,
"Selective Sparse Sampling for Fine-Grained Image Recognition", ICCV 2019), whose public code gives the defaults, and on
the saliency sampler (Recasens, Kellnhofer, Stent, Matusik and Torralba, "Learning to Zoom: A Saliency-Based Sampling
Layer for Neural Networks", ECCV 2018).
"""

import math
from functools import partial
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vattn.base import Config
from vattn.modules._fold import fold, unfold

Branch = Literal["original", "discriminative", "complementary"]
BRANCHES: tuple[Branch, ...] = ("original", "discriminative", "complementary")
#: How peaks are assigned to the two sets: all to both; each by a uniform draw; the highest to one, the lowest to the
#: other.
Split = Literal["all", "random", "extreme"]

#: Side of the maps of response and saliency, cells.
SIDE = 31
#: Number of best classes whose maps may be used.
TOP = 5
#: Saliency added everywhere, which keeps the surroundings of peaks visible.
BASE = 0.09
#: Radius of the resampler's Gaussian kernel, cells of the map.
REACH = 30
#: Full width at half maximum of the resampler's Gaussian kernel, cells of the map.
FWHM = 13
#: Initial width of discriminative kernels, in sides of the map.
_BETA1 = 0.09
#: Initial width of complementary kernels, in sides of the map.
_BETA2 = 0.3
#: Smallest squared width of a kernel in the division, cells squared.
_SMALLEST_SPREAD = 1e-6


class SparseConfig(Config):
    """Up to three branches (original, discriminative, complementary) through one network.

    The defaults are those of the public code. The variants in Table 4 are values of ``branches``. The paper trains the
    network alone first, but does not say for how long, so the defaults of ``alone`` and ``warmup`` are not its.
    """

    branches: tuple[Branch, ...] = Field(
        BRANCHES,
        description="versions of a clip that the network is applied to: the original, and its discriminative or "
        "complementary regions, enlarged",
    )
    delta: float = Field(
        0.2,
        ge=0,
        description="entropy threshold, nats: below it, peaks are searched in the map of the best class, otherwise in "
        "the sum of the maps of the 5 best classes",
    )
    window: Literal[3, 5] = Field(3, description="side of the window in which a peak is the maximum, cells")
    peak_filter: Literal["mean", "none"] = Field(
        "mean", description="mean: only peaks that are not below the mean of their map; none: all peaks"
    )
    beta1: float = Field(
        _BETA1, gt=0, description="initial value of the learnable width of discriminative kernels, in sides of the map"
    )
    beta2: float = Field(
        _BETA2, gt=0, description="initial value of the learnable width of complementary kernels, in sides of the map"
    )
    paper_kernels: bool = Field(
        False,
        description="use equation 6 as printed: widths in cells without the factor 2, and no base saliency; the "
        "initial kernels are the same",
    )
    alone: float = Field(
        0.4, ge=0, lt=1, description="fraction of the epochs, at the start, in which the network is trained alone"
    )
    warmup: float = Field(
        0.2, ge=0, le=1, description="fraction of the epochs, after those, in which both branches get all peaks"
    )

    @field_validator("branches")
    @classmethod
    def _sorted_set(cls, branches: tuple[Branch, ...]) -> tuple[Branch, ...]:
        if not branches:
            raise ValueError(
                f"must name at least one of {', '.join(BRANCHES)}; for the network alone write sparse: none"
            )
        if len(set(branches)) < len(branches):
            raise ValueError("names a branch twice; name each once")
        return tuple(branch for branch in BRANCHES if branch in branches)

    @property
    def resampled(self) -> tuple[Branch, ...]:
        """The branches that see resampled clips."""
        return tuple(branch for branch in self.branches if branch != "original")

    @property
    def resampler_macs(self) -> int:
        """Multiply-accumulates for one resampled frame: the Gaussian on the saliency, and on it times x and times y."""
        return 3 * (2 * REACH + 1) ** 2 * SIDE**2

    def canonical(self) -> Self:
        """Return the canonical form: the width of a branch that is not used gets its default value."""
        defaults = {"discriminative": {"beta1": _BETA1}, "complementary": {"beta2": _BETA2}}
        changes = {k: v for branch, width in defaults.items() if branch not in self.branches for k, v in width.items()}
        return self.model_copy(update=changes)

    def stage(self, epoch: int, epochs: int) -> Literal["alone"] | Split:
        """Return the stage of training of epoch ``epoch``, from 1, of ``epochs``: alone, or a split of the peaks."""
        # Rounded down, so that the last epoch always trains the branches.
        alone = int(self.alone * epochs)
        warm = alone + int(self.warmup * epochs)
        return "alone" if epoch <= alone else "all" if epoch <= warm else "random"


class Peaks(NamedTuple):
    """The peaks of a batch of maps, as masks, whose size does not depend on their number.

    Each peak is in the discriminative set, in the complementary set, in both, or in neither.
    """

    response: Float[Tensor, "b h w"]
    discriminative: Bool[Tensor, "b h w"]
    complementary: Bool[Tensor, "b h w"]


def class_maps(
    features: Float[Tensor, "b c h w"], weight: Float[Tensor, "s c"], bias: Float[Tensor, " s"]
) -> Float[Tensor, "b s h w"]:
    """Return the response of each class at each pixel; its mean is the class's score (equation 1, without bias)."""
    return F.conv2d(features, weight[..., None, None], bias)


def entropy(scores: Float[Tensor, "b s"]) -> Float[Tensor, " b"]:
    """Return the entropy, nats, of the 5 best classes' probabilities, which are not normalised again (equation 2)."""
    best = scores.softmax(1).topk(min(TOP, scores.shape[1])).values
    return torch.special.entr(best).sum(1)


def response_map(
    maps: Float[Tensor, "b s h w"], scores: Float[Tensor, "b s"], delta: float
) -> Float[Tensor, "b side side"]:
    """Return the map in which peaks are searched, `SIDE` x `SIDE`, scaled to 0 to 1 (equations 3 and 4).

    It is the map of the best class where the entropy is below ``delta``, otherwise the sum over the 5 best classes.
    """
    best = scores.topk(min(TOP, scores.shape[1])).indices
    chosen = maps.gather(1, best[..., None, None].expand(-1, -1, *maps.shape[-2:]))
    sure = (entropy(scores) < delta)[:, None, None]
    # Sum and interpolation are linear, so only one map per frame is enlarged instead of five.
    summed = torch.where(sure, chosen[:, 0], chosen.sum(1))
    large = F.interpolate(summed[:, None], (SIDE, SIDE), mode="bilinear", align_corners=True)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low).clamp(min=torch.finfo(large.dtype).tiny)


def peak_mask(maps: Float[Tensor, "b h w"], window: int, above_mean: bool) -> Bool[Tensor, "b h w"]:
    """Return where a map has the maximum of its ``window`` x ``window``; of equal values, the first in reading order.

    ``above_mean`` excludes peaks below the mean of their map.
    """
    h, w = maps.shape[-2:]
    _, highest = F.max_pool2d(maps[:, None], window, stride=1, padding=window // 2, return_indices=True)
    own = torch.arange(h * w, device=maps.device).view(h, w)
    is_peak = highest[:, 0] == own
    return is_peak & (maps >= maps.mean((1, 2), keepdim=True)) if above_mean else is_peak


def find_peaks(
    response: Float[Tensor, "b h w"], window: int, above_mean: bool, split: Split, draws: Tensor | None = None
) -> Peaks:
    """Return the peaks of maps with values from 0 to 1, assigned to the two sets by ``split`` (equation 5).

    ``draws`` are the uniform random numbers for ``split="random"``, one for each cell; None draws them from torch.
    """
    # A response of 0 is the minimum of its map (a flat map has only those), and has no height 1 / 0.
    mask = peak_mask(response, window, above_mean) & (response > 0)
    if split == "all":
        return Peaks(response, mask, mask)
    if split == "random":
        high = response >= (torch.rand_like(response) if draws is None else draws)
        return Peaks(response, mask & high, mask & ~high)
    place = torch.arange(response[0].numel(), device=response.device).view(response.shape[1:])
    highest = response.where(mask, -math.inf).flatten(1).argmax(1)[:, None, None]
    lowest = response.where(mask, math.inf).flatten(1).argmin(1)[:, None, None]
    return Peaks(response, mask & (place == highest), mask & (place == lowest))


def saliency(peaks: Peaks, branch: Branch, beta: Tensor, paper_kernels: bool) -> Float[Tensor, "b h w"]:
    r"""Return for each image the sum of Gaussian kernels around the peaks of ``branch``, `SIDE` x `SIDE`.

    .. math:: A_i = R_i e^{-d^2 / 2 R_i (31 \beta_1)^2}, \quad A_i = \frac{1}{R_i} e^{-d^2 / 2 R_i (31 \beta_2)^2}

    The first is for discriminative and the second for complementary peaks (equations 6 and 7), and a base of 0.09 is
    added. ``paper_kernels`` uses equation 6 as printed, without the factors 2 and 31 and the base; the saliency of an
    image without peaks is then 1 everywhere.
    """
    mask = peaks.discriminative if branch == "discriminative" else peaks.complementary
    r = peaks.response.where(mask, 1.0)
    spread = r * beta**2 if paper_kernels else 2 * r * (beta * SIDE) ** 2
    height = (r if branch == "discriminative" else 1 / r) * mask
    # If training reduces a width to 0, the kernel is the peak itself instead of 0 / 0.
    spread = spread.clamp(min=_SMALLEST_SPREAD).flatten(1)[..., None]
    cells = torch.arange(SIDE, device=r.device)
    # A Gaussian is the product of one in y and one in x, so the sum over all cells is a product of two matrices. It
    # needs no list of the peaks, for whose length the host would wait.
    y, x = cells[:, None].expand(SIDE, SIDE).flatten(), cells.repeat(SIDE)
    in_y, in_x = (torch.exp(-((cells - place[:, None]) ** 2) / spread) for place in (y, x))
    summed = (height.flatten(1)[..., None] * in_y).mT @ in_x
    if not paper_kernels:
        return summed + BASE
    return summed + ~mask.flatten(1).any(1)[:, None, None]


def blur() -> tuple[Float[Tensor, "31 31"], Float[Tensor, "31 31"]]:
    """Return matrices A and B that convolve a map with the resampler's Gaussian.

    A s A' is a map s with replicated borders, convolved with the 61 x 61 Gaussian. B is A with each value weighted by
    its position, which is 0 at the first cell of the map and 1 at the last.
    """
    cell = torch.arange(SIDE, dtype=torch.float64)
    padded = torch.arange(-REACH, SIDE + REACH, dtype=torch.float64)
    offset = padded - cell[:, None]
    taps = torch.exp(-4 * math.log(2) * offset**2 / FWHM**2) * (offset.abs() <= REACH)
    borders = F.one_hot(padded.long().clamp(0, SIDE - 1), SIDE).double()
    return (taps @ borders).float(), ((taps * padded / (SIDE - 1)) @ borders).float()


class SparseAttention(nn.Module):
    r"""Resample each clip twice: one result enlarges discriminative regions, the other complementary regions.

    Each frame is sampled on a grid that is attracted by the saliency S (Recasens et al., equation 3):

    .. math:: u(x) = \frac{\sum_{x'} S(x') k(x, x') x'}{\sum_{x'} S(x') k(x, x')}

    The result is differentiable with respect to the pixels, ``beta1``, ``beta2``, and the class maps through the peaks'
    responses, but not the places of the peaks. (The public code stops the gradient at the class maps.) The Gaussian k
    and its product with x' are separable into rows and columns, so a 61 x 61 convolution over a padded map equals
    products with two 31 x 31 matrices.
    """

    blur: Tensor
    moved: Tensor
    #: of saliencies and coordinates, which need more than bfloat16 and TF32; autocast leaves products of float64 alone
    precision: torch.dtype = torch.float64

    def __init__(self, config: SparseConfig) -> None:
        super().__init__()
        self.config = config
        # The printed form has widths in cells without the factor 2; this gives the same initial kernels.
        unit = SIDE * math.sqrt(2) if config.paper_kernels else 1.0
        self.betas = nn.ParameterDict({
            branch: nn.Parameter(torch.tensor(unit * (config.beta1 if branch == "discriminative" else config.beta2)))
            for branch in config.resampled
        })  # fmt: skip
        with torch.device("cpu"):
            matrices = blur()
        for name, matrix in zip(("blur", "moved"), matrices, strict=True):
            self.register_buffer(name, matrix, persistent=False)

    def forward(
        self, clips: Float[Tensor, "n colours f h w"], maps: Float[Tensor, "n t s i j"], split: Split
    ) -> dict[str, Float[Tensor, "n colours f h w"]]:
        """Return the resampled clips by branch.

        The class maps are those of T frames. F is T, or a multiple of T with several frames per segment.
        """
        n, frames = clips.shape[0], clips.shape[2]
        # The index of the map for each frame of the clip; temporal strides reduce the number of maps.
        map_of_frame = torch.arange(frames, device=clips.device) * maps.shape[1] // frames
        resampled = {}
        for branch, salient in self.saliencies(maps.to(self.precision), split).items():
            by_frame = salient.unflatten(0, (n, -1))[:, map_of_frame].flatten(0, 1)
            resampled[branch] = unfold(self.resample(fold(clips), by_frame), frames)
        return resampled

    def saliencies(
        self, maps: Float[Tensor, "n t s i j"], split: Split, draws: Tensor | None = None
    ) -> dict[str, Float[Tensor, "nt side side"]]:
        """Return the saliency map of each of the T frames, by branch."""
        by_frame, config = maps.flatten(0, 1), self.config
        response = response_map(by_frame, by_frame.mean((-2, -1)), config.delta)
        peaks = find_peaks(response, config.window, config.peak_filter == "mean", split, draws)
        # The kernels are computed again in the backward pass, because those of all cells would need more memory than
        # the maps by far.
        once_more = partial(checkpoint, saliency, use_reentrant=False, preserve_rng_state=False)
        return {
            branch: once_more(peaks, branch, self.betas[branch], config.paper_kernels) for branch in config.resampled
        }

    def resample(
        self, images: Float[Tensor, "b c h w"], saliency: Float[Tensor, "b side side"]
    ) -> Float[Tensor, "b c h w"]:
        """Return ``images`` in the same size, with their salient regions enlarged."""
        grid = F.interpolate(self.grid(saliency), images.shape[-2:], mode="bilinear", align_corners=True)
        return F.grid_sample(images, grid.permute(0, 2, 3, 1).to(images.dtype), mode="bilinear", align_corners=True)

    def grid(self, saliency: Float[Tensor, "b side side"]) -> Float[Tensor, "b 2 side side"]:
        """Return the coordinates at which each cell is sampled: x and y from -1 to 1 across the image."""
        blur, moved = self.blur.to(saliency.dtype), self.moved.to(saliency.dtype)
        weight = blur @ saliency @ blur.T
        x, y = blur @ saliency @ moved.T, moved @ saliency @ blur.T
        return (torch.stack([x, y], 1) / weight[:, None] * 2 - 1).clamp(-1, 1)

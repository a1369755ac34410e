"""Sparse spatial attention by class peak responses (Zhou et al., "Integrating Temporal and Spatial Attention for Video
Action Recognition", 2022), after S3N (Ding et al., ICCV 2019) and the saliency sampler (Recasens et al., ECCV 2018).
"""

import math
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from pydantic import Field, field_validator
from torch import Tensor, nn

from vattn.base import Config
from vattn.modules._fold import fold, unfold

Branch = Literal["original", "discriminative", "complementary"]
BRANCHES: tuple[Branch, ...] = ("original", "discriminative", "complementary")
#: How peaks are shared out: all to both; by a uniform draw each; the highest to one and the lowest to the other.
Split = Literal["all", "random", "extreme"]

#: Side of the maps of response and saliency.
SIDE = 31
#: Classes whose maps may be looked at.
TOP = 5
#: Saliency where no peak is near, so that a frame's surroundings are kept.
BASE = 0.09
#: Of the resampler: the Gaussian's reach to each side and its full width at half maximum, in cells of the map.
REACH, FWHM = 30, 13


class SparseConfig(Config):
    """Three branches (original, discriminative, complementary) through one network; defaults are the public code's.

    Table 4's variants are values of ``branches``. The shares ``alone`` and ``warmup`` are ours: the paper says that the
    network is trained first, and not for how long.
    """

    branches: tuple[Branch, ...] = BRANCHES
    delta: float = Field(0.2, ge=0, description="entropy in nats, below which the best class's map is trusted alone")
    window: Literal[3, 5] = 3
    peak_filter: Literal["mean", "none"] = "mean"
    beta1: float = Field(0.09, gt=0, description="learnable width of discriminative kernels: the start, in map sides")
    beta2: float = Field(0.3, gt=0, description="learnable width of complementary kernels: the start, in map sides")
    paper_kernels: bool = Field(
        False, description="eq. 6 as printed: widths in cells without the factor 2, no base saliency; the same start"
    )
    alone: float = Field(0.4, ge=0, lt=1, description="share of the epochs in which the network first learns alone")
    warmup: float = Field(
        0.2, ge=0, le=1, description="share of the epochs after it in which both branches get all peaks"
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
        """The branches that see new clips."""
        return tuple(branch for branch in self.branches if branch != "original")

    @property
    def resampler_macs(self) -> int:
        """Multiply-accumulates of one new frame: the Gaussian over the saliency, and over it times x and times y."""
        return 3 * (2 * REACH + 1) ** 2 * SIDE**2

    def canonical(self) -> Self:
        """Return the same attention with the width of a branch that is not there at its default."""
        absent = {"discriminative": {"beta1": 0.09}, "complementary": {"beta2": 0.3}}
        changes = {k: v for branch, start in absent.items() if branch not in self.branches for k, v in start.items()}
        return self.model_copy(update=changes)

    def stage(self, epoch: int, epochs: int) -> Literal["alone"] | Split:
        """Return what ``epoch``, counted from 1, of ``epochs`` trains: the network alone, or branches by a split."""
        # Rounded down: the last epoch trains the branches, whatever the shares.
        alone = int(self.alone * epochs)
        warm = alone + int(self.warmup * epochs)
        return "alone" if epoch <= alone else "all" if epoch <= warm else "random"


class Peaks(NamedTuple):
    """The P peaks of a batch of maps, in the order (image, y, x); each is of one set, of both, or of none."""

    image: Int64[Tensor, " p"]
    y: Int64[Tensor, " p"]
    x: Int64[Tensor, " p"]
    response: Float[Tensor, " p"]
    discriminative: Bool[Tensor, " p"]
    complementary: Bool[Tensor, " p"]


def class_maps(
    features: Float[Tensor, "b c h w"], weight: Float[Tensor, "s c"], bias: Float[Tensor, " s"]
) -> Float[Tensor, "b s h w"]:
    """Return the response of each class at each pixel, whose mean is the class's score (eq. 1, which has no bias)."""
    return F.conv2d(features, weight[..., None, None], bias)


def entropy(scores: Float[Tensor, "b s"]) -> Float[Tensor, " b"]:
    """Return the entropy, in nats, of the five best classes' probabilities, which are not normalised again (eq. 2)."""
    best = scores.softmax(1).topk(min(TOP, scores.shape[1])).values
    return torch.special.entr(best).sum(1)


def response_map(
    maps: Float[Tensor, "b s h w"], scores: Float[Tensor, "b s"], delta: float
) -> Float[Tensor, "b side side"]:
    """Return the map in which peaks are looked for, `SIDE` x `SIDE`, from 0 to 1 (eqs. 3 and 4).

    That of the best class where the network is sure (entropy below ``delta``), else the sum of the five best classes'.
    """
    best = scores.topk(min(TOP, scores.shape[1])).indices
    chosen = maps.gather(1, best[..., None, None].expand(-1, -1, *maps.shape[-2:]))
    sure = (entropy(scores) < delta)[:, None, None]
    # Sum and enlargement are linear: one map a frame is enlarged, not five.
    summed = torch.where(sure, chosen[:, 0], chosen.sum(1))
    large = F.interpolate(summed[:, None], (SIDE, SIDE), mode="bilinear", align_corners=True)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low).clamp(min=torch.finfo(large.dtype).tiny)


def peak_mask(maps: Float[Tensor, "b h w"], window: int, above_mean: bool) -> Bool[Tensor, "b h w"]:
    """Return where a map is the highest of its ``window`` x ``window``; of equal ones the first in reading order is.

    ``above_mean`` leaves out peaks below the mean of their map.
    """
    h, w = maps.shape[-2:]
    _, highest = F.max_pool2d(maps[:, None], window, stride=1, padding=window // 2, return_indices=True)
    own = torch.arange(h * w, device=maps.device).view(h, w)
    found = highest[:, 0] == own
    return found & (maps >= maps.mean((1, 2), keepdim=True)) if above_mean else found


def find_peaks(
    response: Float[Tensor, "b h w"], window: int, above_mean: bool, split: Split, draws: Tensor | None = None
) -> Peaks:
    """Return the peaks of maps from 0 to 1, shared out by ``split`` (eq. 5).

    ``draws`` are the uniform numbers of ``split="random"``, one a peak; drawn here where they are not given.
    """
    # A response of 0 is the bottom of its map (a flat one has nothing else), and 1 / 0 no height.
    mask = peak_mask(response, window, above_mean) & (response > 0)
    image, y, x = mask.nonzero(as_tuple=True)
    heights = response[image, y, x]
    if split == "all":
        one = other = torch.ones_like(image, dtype=torch.bool)
    elif split == "random":
        draws = torch.rand_like(heights) if draws is None else draws
        one = heights >= draws
        other = ~one
    else:
        place = y * response.shape[-1] + x
        one = response.where(mask, -math.inf).flatten(1).argmax(1)[image] == place
        other = response.where(mask, math.inf).flatten(1).argmin(1)[image] == place
    return Peaks(image, y, x, heights, one, other)


def saliency(peaks: Peaks, branch: Branch, beta: Tensor, images: int, paper_kernels: bool) -> Float[Tensor, "b h w"]:
    r"""Return each image's sum of Gaussian kernels around the peaks of ``branch`` (eqs. 6 and 7), `SIDE` x `SIDE`.

    .. math:: A_i = R_i e^{-d^2 / 2 R_i (31 \beta_1)^2}, \quad A_i = \frac{1}{R_i} e^{-d^2 / 2 R_i (31 \beta_2)^2}

    for discriminative and complementary peaks, plus a base of 0.09. Eq. 6 as printed lacks the factors 2 and 31 and the
    base; then an image without peaks is the same everywhere.
    """
    mine = peaks.discriminative if branch == "discriminative" else peaks.complementary
    image, y, x, r = (of[mine] for of in peaks[:4])
    cells = torch.arange(SIDE, device=r.device)
    distance = (cells - y[:, None])[:, :, None] ** 2 + (cells - x[:, None])[:, None, :] ** 2  # squared
    spread = r * beta**2 if paper_kernels else 2 * r * (beta * SIDE) ** 2
    height = r if branch == "discriminative" else 1 / r
    # A width that training brought to 0 leaves the peak itself, not 0 / 0.
    kernels = height[:, None, None] * torch.exp(-distance / spread.clamp(min=1e-6)[:, None, None])
    summed = kernels.new_zeros(images, SIDE, SIDE).index_add(0, image, kernels)
    if not paper_kernels:
        return summed + BASE
    none = torch.bincount(image, minlength=images) == 0
    return summed + none[:, None, None]


def blur() -> tuple[Float[Tensor, "31 31"], Float[Tensor, "31 31"]]:
    """Return matrices (A, B): A s A' is the 61 x 61 Gaussian over a map s that goes on as at its border.

    B is A with each value weighed by where it stands, 0 and 1 being the first and last cell of the map.
    """
    cell = torch.arange(SIDE, dtype=torch.float64)
    padded = torch.arange(-REACH, SIDE + REACH, dtype=torch.float64)
    away = padded - cell[:, None]
    taps = torch.exp(-4 * math.log(2) * away**2 / FWHM**2) * (away.abs() <= REACH)
    borders = F.one_hot(padded.long().clamp(0, SIDE - 1), SIDE).double()
    return (taps @ borders).float(), ((taps * padded / (SIDE - 1)) @ borders).float()


class SparseAttention(nn.Module):
    r"""Two new clips of each clip: one enlarges what the class is seen by, one what complements it.

    Each frame is sampled on a grid that the saliency S draws towards itself (Recasens et al., eq. 3):

    .. math:: u(x) = \frac{\sum_{x'} S(x') k(x, x') x'}{\sum_{x'} S(x') k(x, x')}

    Differentiable in the pixels, in ``beta1`` and ``beta2``, and through the peaks' responses in the class maps; the
    places of the peaks are not. (The public code stops the gradient at the class maps.) The Gaussian k and its weighing
    by x' separate into rows and columns, so that a 61 x 61 convolution over a map with padding is two 31 x 31 matrices.
    """

    blur: Tensor
    moved: Tensor

    def __init__(self, config: SparseConfig) -> None:
        super().__init__()
        self.config = config
        # The printed form's widths are in cells, and without the 2: the same kernels at the start.
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
        self, clips: Float[Tensor, "n 3 f h w"], maps: Float[Tensor, "n t s i j"], split: Split
    ) -> dict[str, Float[Tensor, "n 3 f h w"]]:
        """Return the new clips by branch, from the class maps of T frames; F is T, or several frames for each of T."""
        n, frames = clips.shape[0], clips.shape[2]
        # Which of the T maps a frame of the clip is seen in; networks may shorten time.
        seen = torch.arange(frames, device=clips.device) * maps.shape[1] // frames
        clips_of = {}
        # Places in an image need float32.
        with torch.autocast(clips.device.type, enabled=False):
            for branch, found in self.saliencies(maps.float(), split).items():
                by_frame = found.unflatten(0, (n, -1))[:, seen].flatten(0, 1)
                clips_of[branch] = unfold(self.resample(fold(clips), by_frame), frames)
        return clips_of

    def saliencies(
        self, maps: Float[Tensor, "n t s i j"], split: Split, draws: Tensor | None = None
    ) -> dict[str, Float[Tensor, "nt side side"]]:
        """Return what each branch looks at in each of the T frames."""
        by_frame, config = maps.flatten(0, 1), self.config
        response = response_map(by_frame, by_frame.mean((-2, -1)), config.delta)
        peaks = find_peaks(response, config.window, config.peak_filter == "mean", split, draws)
        return {
            branch: saliency(peaks, branch, self.betas[branch], len(by_frame), config.paper_kernels)
            for branch in config.resampled
        }

    def resample(
        self, images: Float[Tensor, "b c h w"], saliency: Float[Tensor, "b side side"]
    ) -> Float[Tensor, "b c h w"]:
        """Return ``images`` with what is salient in them enlarged, in the same size."""
        grid = F.interpolate(self.grid(saliency), images.shape[-2:], mode="bilinear", align_corners=True)
        return F.grid_sample(images, grid.permute(0, 2, 3, 1), mode="bilinear", align_corners=True)

    def grid(self, saliency: Float[Tensor, "b side side"]) -> Float[Tensor, "b 2 side side"]:
        """Return where each cell is sampled: x and y from -1 to 1 across the image."""
        weight = self.blur @ saliency @ self.blur.T
        x, y = self.blur @ saliency @ self.moved.T, self.moved @ saliency @ self.blur.T
        return (torch.stack([x, y], 1) / weight[:, None] * 2 - 1).clamp(-1, 1)

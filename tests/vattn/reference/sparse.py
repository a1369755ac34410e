"""Reference of sparse attention, the oracle for values and gradients, and its recordings."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.vattn.golden import Case, State
from vattn.sparse import (
    BASE,
    FWHM,
    REACH,
    SIDE,
    Branch,
    Peaks,
    SparseAttention,
    SparseConfig,
    Split,
    find_peaks,
    peak_mask,
    response_map,
)


def gaussian(dtype: torch.dtype = torch.float32) -> Tensor:
    offset = torch.arange(-REACH, REACH + 1, dtype=dtype)
    return torch.exp(-4 * math.log(2) * (offset[:, None] ** 2 + offset**2) / FWHM**2)


def grid(saliency: Tensor) -> Tensor:
    """Return the sampling grid, by 61 x 61 convolutions over a map padded with its border.

    The resampler is that of Adria Recasens, Petr Kellnhofer, Simon Stent, Wojciech Matusik and Antonio Torralba,
    "Learning to Zoom: a Saliency-Based Sampling Layer for Neural Networks", ECCV 2018.
    """
    padded = F.pad(saliency[:, None], [REACH] * 4, mode="replicate")
    place = torch.arange(-REACH, SIDE + REACH, dtype=saliency.dtype) / (SIDE - 1)
    weighed = torch.cat([padded * place, padded * place[:, None], padded], 1)
    x, y, whole = F.conv2d(weighed.flatten(0, 1)[:, None], gaussian(saliency.dtype)[None, None]).view(
        -1, 3, SIDE, SIDE
    ).unbind(1)  # fmt: skip
    return (torch.stack([x / whole, y / whole], 1) * 2 - 1).clamp(-1, 1)


def saliency(peaks: Peaks, branch: Branch, beta: Tensor, paper_kernels: bool) -> Tensor:
    """Return for each image the sum of the kernels of its peaks, peak by peak."""
    mask = peaks.discriminative if branch == "discriminative" else peaks.complementary
    summed = torch.zeros_like(peaks.response)
    cells = torch.arange(SIDE)
    for image, y, x in mask.nonzero().tolist():
        r = peaks.response[image, y, x]
        distance = (cells[:, None] - y) ** 2 + (cells - x) ** 2
        spread = r * beta**2 if paper_kernels else 2 * r * (beta * SIDE) ** 2
        kernel = (r if branch == "discriminative" else 1 / r) * torch.exp(-distance / spread)
        summed = summed.index_add(0, torch.tensor([image]), kernel[None])
    return summed + ~mask.any(2).any(1)[:, None, None] if paper_kernels else summed + BASE


def draws_of_cells(attention: SparseAttention, maps: Tensor, draws: Tensor) -> Tensor:
    """Return draws for all cells of maps (N, T, S, I, J), where ``draws`` are those of the peaks in reading order."""
    by_frame, config = maps.flatten(0, 1), attention.config
    response = response_map(by_frame, by_frame.mean((-2, -1)), config.delta)
    peaks = find_peaks(response, config.window, config.peak_filter == "mean", "all")
    # Recordings without draws have none.
    return torch.zeros_like(response).masked_scatter(peaks.discriminative, draws) if len(draws) else response


class Plain(SparseAttention):
    def saliencies(self, maps: Tensor, split: Split, draws: Tensor | None = None) -> dict[str, Tensor]:
        by_frame, config = maps.flatten(0, 1), self.config
        response = response_map(by_frame, by_frame.mean((-2, -1)), config.delta)
        peaks = find_peaks(response, config.window, config.peak_filter == "mean", split, draws)
        return {
            branch: saliency(peaks, branch, self.betas[branch], config.paper_kernels) for branch in config.resampled
        }

    def grid(self, saliency: Tensor) -> Tensor:
        return grid(saliency)


class Aggregation(nn.Module):
    """Return the mean over the peaks of a map; its gradient shows which pixels are peaks."""

    def __init__(self, window: int, above_mean: bool) -> None:
        super().__init__()
        self.window, self.above_mean = window, above_mean

    def forward(self, maps: Tensor) -> Tensor:
        mask = peak_mask(maps.flatten(0, 1), self.window, above_mean=self.above_mean).view_as(maps)
        return (maps * mask).sum((2, 3)) / mask.sum((2, 3))


def _above_mean(filter_: str | None) -> bool:
    assert filter_ is None or filter_.startswith("mean"), f"unknown filter of peaks: {filter_!r}"
    return filter_ is not None


def _peaks(meta: dict[str, Any]) -> Case:
    options = meta["config"]
    return Case(Aggregation(options["win_size"], _above_mean(options["peak_filter"])), dict)


def _betas(state: State) -> dict[str, Tensor]:
    names = {"radius.scale": "betas.discriminative", "radius_inv.scale": "betas.complementary"}
    return {names[name]: value.squeeze() for name, value in state.items()}


def _resampled(meta: dict[str, Any]) -> Case:
    """Return the resampled images of both branches, in float32 as in the authors' code.

    In float64 the result differs from the recording by more than its tolerance: bilinear sampling has kinks at whole
    pixels, so its gradient jumps where a sampling position differs by 1e-6.
    """
    splits: dict[int, Split] = {0: "all", 1: "random", 2: "extreme"}
    options = meta["config"]
    split = splits[options["p"]]
    sizes = {"grid_size": 31, "padding_size": 30, "fwhm": 13, "gaussian_kernel": 61, "base_ratio": 0.09}
    assert {name: options[name] for name in sizes} == sizes, "the resampler's sizes are those of the authors"
    for name in ("task_input_size", "num_classes", "radius", "radius_inv"):
        options.seen_in_parameters(name)
    peak_filter = "mean" if _above_mean(options["peak_filter"]) else "none"
    config = SparseConfig(delta=options["entropy_delta"], window=options["win_size"], peak_filter=peak_filter)

    def run(net: SparseAttention, images: Tensor, maps: Tensor, draws: Tensor) -> Tensor:
        of_cells = draws_of_cells(net, maps[:, None], draws.float())
        saliencies = net.saliencies(maps[:, None], split, of_cells)
        return torch.cat([net.resample(images, saliencies[b]) for b in ("discriminative", "complementary")], 1)

    return Case(Plain(config), _betas, run, given=("class_response_maps", "uniform_draws"))


GOLDEN = {
    "S3N/PRM peak_stimulation": _peaks,
    "S3N sparse attention + learning-to-zoom resampler (generate_map)": _resampled,
}

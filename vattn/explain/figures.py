"""Draw the values that `vattn.explain.evidence` computes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from vattn.explain.evidence import (
    BranchViews,
    ClassMaps,
    Images,
    Kernels,
    ShownFrames,
    STAValues,
    TAMValues,
    spread_over_time,
)
from vattn.files import replacing, writing

#: resolution of the pictures, dots per inch
_DPI = 110
#: the way out where a file cannot be written
WAY_OUT = "make room, or name another place with --out"
_BLUE = "#0072B2"
#: Number of channels with the highest weights, and number with the lowest, whose features are drawn.
_SHOWN_CHANNELS = 4


def save(figure: Figure, file: Path) -> None:
    """Write a picture; raise StorageError if it cannot be written."""
    with writing(file, WAY_OUT), replacing(file) as part:
        figure.savefig(part, dpi=_DPI, bbox_inches="tight")


def draw_branches(views: BranchViews, shown: ShownFrames) -> Figure:
    """Draw the original frames, and for each branch its saliency and its resampled frames."""
    rows: dict[str, Images | list[np.ndarray]] = shown.rows()
    for branch, frames in views.frames.items():
        rows[f"{branch}\nregions"] = views.saliencies[branch]
        rows[f"{branch}\nframes"] = frames
    title = "Where classes respond most (discriminative) and least (complementary), and the frames enlarged there"
    return _strips(rows, shown, title)


def draw_grad_cam(class_maps: ClassMaps, shown: ShownFrames, labels: Sequence[str]) -> Figure:
    """Draw the Grad-CAM maps of the best class by layer over the original frames."""
    answers = [
        f'"{labels[label]}" {probability:.0%}'
        for label, probability in zip(class_maps.classes, class_maps.probabilities, strict=True)
    ]
    rows: dict[str, Images | list[np.ndarray]] = shown.rows()
    rows |= {name: spread_over_time(maps, len(shown.pixels)) for name, maps in class_maps.maps.items()}
    title = f"Grad-CAM: evidence for {answers[0]}, by layer"
    if class_maps.truth:
        title += f"; {describe_truth(class_maps, labels)}"
    return _strips(rows, shown, f"{title}\nnext best: {', '.join(answers[1:])}" if answers[1:] else title)


def describe_truth(class_maps: ClassMaps, labels: Sequence[str]) -> str:
    """Return the true class in words, beside the prediction; empty if it is not known."""
    if class_maps.truth is None:
        return ""
    label, probability = class_maps.truth
    if label == class_maps.classes[0]:
        return "this is right"
    return f'the truth is "{labels[label]}" ({probability:.0%})'


def draw_mechanism(values: TAMValues | STAValues, shown: ShownFrames, i3d: tuple[str, Kernels] | None) -> Figure:
    """Draw the values of a TAM or an STA; ``i3d`` is the place and the kernels of I3D to draw beside a TAM."""
    return _draw_tam(values, shown, i3d) if isinstance(values, TAMValues) else _draw_sta(values, shown)


def _draw_tam(values: TAMValues, shown: ShownFrames, i3d: tuple[str, Kernels] | None) -> Figure:
    panels: list[tuple[str, str, str, Callable[[Axes], None]]] = []
    if (taps := values.kernel) is not None:
        offsets = _offsets(taps)
        panels.append(("kernel Θ", "offset, frames", "weight", lambda axes: _violins(axes, taps, offsets)))
        panels.append(("kernel Θ", "weight", "channels", lambda axes: _histogram(axes, taps, offsets)))
    if values.gate is not None:
        gate = values.gate.expand(-1, len(shown.pixels))
        panels.append(("importance V", "frame", "gate", lambda axes: _violins(axes, gate, shown.numbers)))
    if i3d:
        weights = i3d[1]
        title = f"I3D {weights.shape[1]}x1x1 in {i3d[0]}"
        panels.append((title, "offset, frames", "weight", lambda axes: _violins(axes, weights, _offsets(weights))))
    title = f"TAM in {values.place}: distribution over channels, with the lowest value, the median and the highest"
    figure, below = _under_frames(shown, title, 3.6)
    for axes, (title, across, up, draw) in zip(below.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
        axes.set(title=title, xlabel=across, ylabel=up)
    return figure


def _offsets(kernels: Kernels) -> list[int]:
    taps = kernels.shape[1]
    return [tap - taps // 2 for tap in range(taps)]


def _draw_sta(values: STAValues, shown: ShownFrames) -> Figure:
    """Draw the weights by frame and by channel, and some channels' features in the frame with the highest weight."""
    features, weights = values.features, values.weights
    of_channels = weights.shape[0] > 1
    of_frames = weights.shape[1] > 1 or not of_channels
    frames = features.shape[1]
    full = weights.expand(len(features), frames)
    # After temporal strides, one frame of the features stands for several frames of the clip.
    feature_frames = spread_over_time(torch.arange(frames), len(shown.pixels))
    labels = ["-".join(str(n) for n in _ends(shown.numbers, feature_frames, t)) for t in range(frames)]
    title = f"STA in {values.place}: weights from 0 to 1 of {len(features)} channels in {frames} frames"
    figure, below = _under_frames(shown, title, 3 + 2.6 * of_channels)
    curves, maps = np.asarray(below.subfigures(2, 1, height_ratios=(5, 4))) if of_channels else (below, None)
    panels = iter(curves.subplots(1, of_channels + of_frames, squeeze=False)[0])
    if of_frames:
        axes = next(panels)
        _band(axes, full.T)
        axes.set_xticks(range(frames), labels)
        axes.set(title="by frame: mean and range over channels", xlabel="frame", ylabel="weight")
    if maps:
        axes = next(panels)
        _band(axes, full[full.mean(1).argsort(descending=True)])
        axes.set(title="by channel: mean and range over frames", xlabel="channels, sorted", ylabel="weight")
        frame = int(full.mean(0).argmax())
        ranked = full[:, frame].argsort(descending=True)
        chosen = torch.cat([ranked[:_SHOWN_CHANNELS], ranked[_SHOWN_CHANNELS:][-_SHOWN_CHANNELS:]])
        maps.suptitle(f"features of frame {labels[frame]}: the channels with the highest and the lowest weights")
        for axes, channel in zip(maps.subplots(1, len(chosen)), chosen.tolist(), strict=True):
            axes.imshow(features[channel, frame].numpy(), cmap="gray")
            axes.set_title(f"channel {channel}\n{full[channel, frame]:.3f}", fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def _ends(numbers: Sequence[int], feature_frames: Sequence[np.ndarray], t: int) -> list[int]:
    """Return the first and the last number of the frames that frame ``t`` of the features stands for, or the only."""
    covered = [number for number, frame in zip(numbers, feature_frames, strict=True) if frame == t]
    return sorted({covered[0], covered[-1]})


def _strips(rows: Mapping[str, Images | list[np.ndarray]], shown: ShownFrames, title: str) -> Figure:
    """Draw one row of pictures per entry; maps are drawn over the original frames."""
    figure = Figure(figsize=(1.4 * len(shown.pixels) + 2, 1.45 * len(rows) + 0.8), layout="constrained")
    grid = figure.subplots(len(rows), len(shown.pixels), squeeze=False)
    height, width = shown.pixels.shape[1:3]
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        top = max(float(np.max(picture)) for picture in pictures) or 1.0
        for axes, picture, frame in zip(line, pictures, shown.pixels, strict=True):
            axes.imshow(picture if picture.ndim == 3 else frame)
            if picture.ndim == 2:
                # The frame is visible where the map is 0.
                axes.imshow(
                    picture / top, cmap="turbo", alpha=0.7 * picture / top, vmin=0, vmax=1,
                    interpolation="bilinear", extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                )  # fmt: skip
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center", labelpad=8)
    for axes, number in zip(grid[0], shown.numbers, strict=True):
        axes.set_title(f"frame {number}", fontsize=9)
    scale = figure.colorbar(ScalarMappable(cmap="turbo"), ax=grid, shrink=0.5, aspect=30, ticks=[0, 1])
    scale.set_label("share of the highest value in a row")
    figure.suptitle(title)
    return figure


def _under_frames(shown: ShownFrames, title: str, inches: float) -> tuple[Figure, SubFigure]:
    """Return a figure with a title and the frames, and its lower part, which is ``inches`` high."""
    frames = len(shown.pixels)
    width = max(12.0, 1.3 * frames)
    strip = width / frames + 0.5
    figure = Figure(figsize=(width, strip + inches), layout="constrained")
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(strip, inches)))
    for axes, pixels, number in zip(
        above.subplots(1, frames, squeeze=False)[0], shown.pixels, shown.numbers, strict=True
    ):
        axes.imshow(pixels)
        axes.set_title(f"frame {number}", fontsize=9)
        axes.set_axis_off()
    above.suptitle(title)
    return figure, below


def _violins(axes: Axes, values: Float[Tensor, "n k"], offsets: Sequence[int]) -> None:
    """Draw the distribution of each column, with its lowest value, median and highest value."""
    axes.violinplot(list(values.numpy().T), range(len(offsets)), showmedians=True, widths=0.8)
    axes.set_xticks(range(len(offsets)), [str(offset) for offset in offsets])


def _histogram(axes: Axes, taps: Kernels, offsets: Sequence[int]) -> None:
    axes.hist(taps.numpy(), bins=30, histtype="step", label=[f"offset {offset:+d}" for offset in offsets])
    axes.legend(fontsize=8)


def _band(axes: Axes, rows: Float[Tensor, "n k"]) -> None:
    """Draw the mean of each row, and its range from the lowest to the highest value."""
    at = np.arange(len(rows))
    axes.fill_between(at, rows.amin(1).numpy(), rows.amax(1).numpy(), alpha=0.25, color=_BLUE, linewidth=0)
    axes.plot(at, rows.mean(1).numpy(), color=_BLUE, marker="o" if len(rows) <= 64 else "")

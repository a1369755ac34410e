"""Pictures of tests clip by clip: the confusion of classes, and clips as strips of frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search.report.clips.tested import Tested
from vattn.data.cache.format import Frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: classes up to which a confusion has their names at its sides
NAMED = 60
#: inches of a cell with and without names, and the least side
_CELL, _SMALL_CELL, _LEAST = 0.22, 0.03, 3.0
_DPI = 110
#: classes up to which each cell has its number of clips
_COUNTED = 20


class Strip(NamedTuple):
    """One clip to draw: lines of text, and frames in order, each with its number."""

    text: str
    frames: Sequence[Frame]
    numbers: Sequence[int]


def _figure(width: float, height: float) -> "Figure":
    # Matplotlib takes half a second to import, and most commands that import this file draw nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_confusion(test: Tested, file: Path) -> None:
    """Draw for each class the share of its clips that were taken for each class, as PNG."""
    counts = test.confusion()
    of_class = counts.sum(1, keepdims=True)
    shares = np.where(of_class > 0, counts / np.maximum(of_class, 1), np.nan)
    classes = len(test.classes)
    side = max((_CELL if classes <= NAMED else _SMALL_CELL) * classes, _LEAST)
    figure = _figure(side + 3, side + 2.2)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the clips of the class")
    if classes <= NAMED:
        axes.set_xticks(range(classes), test.classes, rotation=90, fontsize=8)
        axes.set_yticks(range(classes), test.classes, fontsize=8)
    if classes <= _COUNTED:
        for i, j in np.argwhere(counts > 0).tolist():
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=6, color=colour)
    axes.set(xlabel="taken for", ylabel="class", title=f"{test.name}: {test.accuracy.value:.1%} of {len(test.labels)}")
    figure.savefig(file, format="png")


def draw_strips(strips: Sequence[Strip], title: str, file: Path) -> None:
    """Draw clips, at least one, as rows of frames beside their texts, as PNG."""
    columns = max(len(strip.frames) for strip in strips)
    figure = _figure(3.2 + 1.25 * columns, 0.7 + 1.4 * len(strips))
    grid = figure.subplots(len(strips), columns + 1, squeeze=False, width_ratios=[2.4, *[1.0] * columns])
    for line, strip in zip(grid, strips, strict=True):
        for axes in line:
            axes.set_axis_off()
        line[0].text(0, 0.5, strip.text, fontsize=8, va="center", ha="left", wrap=True, transform=line[0].transAxes)
        for axes, frame, number in zip(line[1:], strip.frames, strip.numbers, strict=False):
            axes.imshow(frame)
            axes.set_title(f"frame {number}", fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(file, format="png")

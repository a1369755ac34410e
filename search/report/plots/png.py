"""The front as a PNG to show: the points of the front have the numbers of their trials."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.analysis.pareto import Objectives
from search.ledger.history import History
from search.report.plots.picture import FAINT, FRESH, GREY, STOPPED, Picture, picture_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: width and height, inches: at 390 pixels, as on a phone, its texts of 9 points are 9 pixels high
_SIZE = (5, 4)
#: points between two numbers of trials below which the second is left out: to the side, and upwards
_LABEL_WIDTH = 20
_LABEL_HEIGHT = 11


def front_png(history: History, objectives: Objectives, path: Path, width: int = 1200) -> None:
    """Write the plot of `search.report.plots.html.front_html` to ``path`` as a PNG, ``width`` pixels wide."""
    front_figure(history, objectives, width).savefig(path)


def front_figure(history: History, objectives: Objectives, width: int = 1200) -> "Figure":
    """Return the plot of the front as a figure of matplotlib, ``width`` pixels wide."""
    # Not pyplot: its global state belongs to the main thread, and MLflow's thread draws too.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    picture = picture_of(history, objectives)
    figure = Figure(figsize=_SIZE, dpi=width / _SIZE[0], layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if picture.partial:
        x, y = zip(*map(picture.at, picture.partial), strict=True)
        axes.scatter(x, y, s=22, marker="x", color=GREY, alpha=FAINT, label=STOPPED)
    if picture.steps:
        x, y = zip(*picture.steps, strict=True)
        axes.plot(x, y, color="black", linewidth=1.2, zorder=2, label=picture.front_name)
    for colour, (name, trials) in zip(picture.colours, picture.finished.items(), strict=True):
        x, y = zip(*map(picture.at, trials), strict=True)
        axes.scatter(x, y, s=36, color=colour, edgecolors="white", linewidths=0.6, zorder=3, label=name)
    if picture.confirmed:
        x, y, halves = picture.bars
        axes.errorbar(
            x, y, halves, fmt="D", markersize=4, markerfacecolor="white", color="black", linewidth=1, capsize=2,
            zorder=4, label=FRESH,
        )  # fmt: skip
    if picture.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.06)
    x_label, y_label = picture.axes
    axes.set(xlabel=x_label, ylabel=y_label, title=picture.title)
    axes.title.set_fontsize(10)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=3)
    _number(axes, picture)
    return figure


def _number(axes: Any, picture: Picture) -> None:
    """Write trial numbers above and left of the front's points, leaving out those that would cover another."""
    written: list[tuple[float, float]] = []
    points = 72 / axes.figure.dpi
    for trial in sorted(picture.front, key=lambda trial: -trial.metrics[picture.y]):
        x, y = axes.transData.transform(picture.at(trial)) * points
        if all(abs(x - a) > _LABEL_WIDTH or abs(y - b) > _LABEL_HEIGHT for a, b in written):
            written.append((x, y))
            axes.annotate(
                f"{trial.number}", picture.at(trial), (-4, 4), textcoords="offset points", ha="right", fontsize=9
            )

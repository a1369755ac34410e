"""The front as a picture: accuracy against cost, as a page to explore and as a PNG to show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from search.analysis.confirmation import LEVEL, Confirmation, Row, confirmation
from search.analysis.front import front_of
from search.analysis.metrics import RATES
from search.analysis.pareto import Direction, Objectives
from search.ledger.history import History, Trial
from search.report.confirmation import points, with_reach
from search.report.describe import describe, label, shown
from vattn.files import replacing, writing

#: Okabe and Ito's colours, told apart by colour-blind readers too; black is kept for the front
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")


_FRESH = f"fresh seeds, {100 * LEVEL:.0f} % interval"


AXIS_LABELS = {
    "top1": "top-1 accuracy (%)",
    "top5": "top-5 accuracy (%)",
    "mean_class": "mean class accuracy (%)",
    "gflops": "GFLOPs of one clip",
    "params_m": "parameters (millions)",
    "activation_mb": "activations (MB)",
    "latency_ms": "latency (ms)",
}


@dataclass(frozen=True)
class _Picture:
    """What both renderers draw: points by the label of their mechanisms, and the steps of the front."""

    x: str
    y: str
    log: bool
    finished: dict[str, list[Trial]]
    partial: list[Trial]
    front: list[Trial]
    steps: list[tuple[float, float]]
    confirmed: Confirmation | None

    @property
    def bars(self) -> tuple[list[float], list[float], list[float]]:
        """Cost and quality of each retrained trial, by its fresh seeds, and half of the interval of its quality."""
        rows = self.confirmed.rows if self.confirmed else []
        x, y = zip(*(self.at(row.trial) for row in rows), strict=True) if rows else ((), ())
        # A single training tells of no spread: a bar without length.
        reach = [_scaled(self.y, half) if math.isfinite(half := row.reach.get(self.y, 0.0)) else 0.0 for row in rows]
        return list(x), list(y), reach

    def at(self, trial: Trial) -> tuple[float, float]:
        return _scaled(self.x, trial.metrics[self.x]), _scaled(self.y, trial.metrics[self.y])


def draw(history: History, objectives: Objectives, path: Path) -> None:
    """Draw the front to ``path``, as `figure_html` or `figure_png` by its suffix; raises ValueError for another.

    The file is the old picture or the new one, whole; raises OSError, naming it, where it cannot be written.
    """
    drawn = {".html": figure_html, ".png": figure_png}.get(path.suffix.lower())
    if drawn is None:
        raise ValueError(f"{path}: a picture of the front is a .html or .png file; change the ending")
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "make room, and draw it with `vattn pareto --plot`"), replacing(path) as part:
        drawn(history, objectives, part)


def figure_html(history: History, objectives: Objectives, path: Path) -> None:
    """Write an interactive scatter of a search to ``path``, an HTML file that needs no network.

    Finished trials are coloured by their mechanisms, trials stopped early are faint at the value that they had
    reached, and the front is a line of steps. Once it was confirmed, that is the front by fresh seeds, and each
    retrained trial has their mean with its interval too. The axes are the first two objectives: cost to the right,
    quality up.
    """
    import plotly.graph_objects as go

    picture = _arrange(history, objectives)
    figure = go.Figure()

    def draw_points(name: str, trials: Sequence[Trial], **style: Any) -> None:
        at = [picture.at(trial) for trial in trials]
        figure.add_scatter(
            name=name, mode="markers", x=[x for x, _ in at], y=[y for _, y in at],
            text=[_hover(trial, objectives) for trial in trials], hovertemplate="%{text}<extra></extra>", **style,
        )  # fmt: skip

    draw_points("stopped early (partial)", picture.partial, marker={"color": "#999999", "opacity": 0.45, "symbol": "x"})
    figure.add_scatter(
        name="front", mode="lines", x=[x for x, _ in picture.steps], y=[y for _, y in picture.steps],
        line={"color": "black", "width": 1.5}, hoverinfo="skip",
    )  # fmt: skip
    for colour, (name, trials) in zip(_colours(picture), picture.finished.items(), strict=True):
        draw_points(name, trials, marker={"color": colour, "size": 9, "line": {"color": "white", "width": 1}})
    if picture.confirmed:
        x, y, reach = picture.bars
        figure.add_scatter(
            name=_FRESH, mode="markers", x=x, y=y, error_y={"array": reach}, hovertemplate="%{text}<extra></extra>",
            text=[_hover_fresh(row, picture) for row in picture.confirmed.rows],
            marker={"color": "black", "symbol": "diamond-open", "size": 8},
        )  # fmt: skip
    figure.update_layout(
        title=_title(history, picture).replace("\n", "<br>"), template="plotly_white",
        xaxis_title=_axis(picture.x), yaxis_title=_axis(picture.y),
        legend={"title": {"text": "mechanisms"}},
    )  # fmt: skip
    if picture.log:
        figure.update_xaxes(type="log", dtick="D2")
    figure.write_html(path, include_plotlyjs=True)


def figure_png(history: History, objectives: Objectives, path: Path) -> None:
    """Write the picture of `figure_html` to ``path`` as a PNG, with the trial numbers of the front at its points."""
    # No pyplot: its global state belongs to the main thread, and this is also drawn by the one that logs.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    picture = _arrange(history, objectives)
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if picture.partial:
        x, y = zip(*map(picture.at, picture.partial), strict=True)
        axes.scatter(x, y, s=22, marker="x", color="#999999", alpha=0.45, label="stopped early (partial)")
    if picture.steps:
        x, y = zip(*picture.steps, strict=True)
        axes.plot(x, y, color="black", linewidth=1.2, zorder=2, label="front")
    for colour, (name, trials) in zip(_colours(picture), picture.finished.items(), strict=True):
        x, y = zip(*map(picture.at, trials), strict=True)
        axes.scatter(x, y, s=36, color=colour, edgecolors="white", linewidths=0.6, zorder=3, label=name)
    if picture.confirmed:
        x, y, reach = picture.bars
        axes.errorbar(
            x, y, reach, fmt="D", markersize=4, markerfacecolor="white", color="black", linewidth=1, capsize=2,
            zorder=4, label=_FRESH,
        )  # fmt: skip
    if picture.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.06)
    axes.set(xlabel=_axis(picture.x), ylabel=_axis(picture.y), title=_title(history, picture))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    _number(axes, picture)
    figure.savefig(path)


def _number(axes: Any, picture: _Picture) -> None:
    """Write trial numbers above and left of the front's points, leaving out those that would cover another."""
    taken: list[tuple[float, float]] = []
    for trial in sorted(picture.front, key=lambda trial: -trial.metrics[picture.y]):
        x, y = axes.transData.transform(picture.at(trial))
        if all(abs(x - a) > 40 or abs(y - b) > 22 for a, b in taken):
            taken.append((x, y))
            axes.annotate(
                f"{trial.number}", picture.at(trial), (-4, 4), textcoords="offset points", ha="right", fontsize=8
            )


def _arrange(history: History, objectives: Objectives) -> _Picture:
    """Choose the axes and group the trials; a cost of its own is drawn where the search has one objective."""
    names = list(objectives)
    costs = [name for name in names if objectives[name] == "min"]
    y = next((name for name in names if objectives[name] == "max"), names[0])
    x = next((name for name in [*costs, *names, "gflops"] if name != y), "gflops")

    def drawn(trial: Trial) -> bool:
        return all(math.isfinite(trial.metrics.get(name, math.nan)) for name in (x, y))

    finished = [trial for trial in history.in_state("finished") if drawn(trial)]
    grouped: dict[str, list[Trial]] = {}
    for trial in sorted(finished, key=lambda trial: (bool(trial.config["model"]["attention"]), label(trial))):
        grouped.setdefault(label(trial), []).append(trial)
    partial = [trial for trial in history.in_state("stopped") if drawn(trial)]
    spread = [trial.metrics[x] for trial in [*finished, *partial]]
    plane: dict[str, Direction] = {name: objectives.get(name, "min") for name in (y, x)}
    front = [trial for trial in front_of(history, plane) if drawn(trial)]
    return _Picture(
        x=x, y=y, log=min(spread, default=0.0) > 0 and max(spread) > 10 * min(spread),
        finished=grouped, partial=partial, front=front, steps=_steps(front, x, y, max(spread, default=0.0), plane),
        confirmed=confirmation(history, plane),
    )  # fmt: skip


def _steps(front: list[Trial], x: str, y: str, end: float, plane: Objectives) -> list[tuple[float, float]]:
    """Return the corners of the line below which everything is dominated; right of the last point it goes on level."""
    points = sorted((_scaled(x, trial.metrics[x]), _scaled(y, trial.metrics[y])) for trial in front)
    if plane[x] == "max":
        return points
    corners = points[:1]
    for (_, low), (right, high) in pairwise(points):
        corners += [(right, low), (right, high)]
    return [*corners, (_scaled(x, end), points[-1][1])] if points else []


def _colours(picture: _Picture) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(picture.finished))]


def _scaled(name: str, value: float) -> float:
    return 100 * value if name in RATES else value


def _axis(name: str) -> str:
    return AXIS_LABELS.get(name, name)


def _title(history: History, picture: _Picture) -> str:
    counts = [f"{len(trials)} {state}" for state in ("finished", "stopped") if (trials := history.in_state(state))]
    title = f"{history.name if history.search else 'search'}: {', '.join(counts) or 'no trial is finished yet'}"
    return f"{title}\noptimism {points(picture.confirmed)}" if picture.confirmed else title


def _hover_fresh(row: Row, picture: _Picture) -> str:
    """Return what a reader sees at the mean of a trial's fresh seeds."""
    mean = with_reach(picture.y, row.trial.metrics[picture.y], row.reach.get(picture.y, math.nan))
    return "<br>".join([
        f"<b>trial {row.trial.number}</b>, {row.seeds} fresh seeds", f"{picture.y} {mean}",
        f"in the search {shown(picture.y, row.searched[picture.y])}",
        f"on the front with probability {row.probability:.2f}",
    ])  # fmt: skip


def _hover(trial: Trial, objectives: Objectives) -> str:
    """Return what a reader sees at a point: its number, its objectives and cost, and its config."""
    state = "" if trial.state == "finished" else f", stopped after {trial.epoch} epochs: partial"
    named = [f"{name} {shown(name, trial.metrics[name])}" for name in dict.fromkeys([*objectives, *trial.cost])]
    return "<br>".join([f"<b>trial {trial.number}</b>{state}", *describe(trial).split(" + "), *named])

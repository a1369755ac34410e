"""The front as a page to explore: points have the trial's config and metrics."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.analysis.confirmation import Row
from search.analysis.pareto import Objectives
from search.ledger.history import History, Trial
from search.report.plots.picture import FAINT, FRESH, GREY, STOPPED, Picture, picture_of
from search.report.wording.trials import describe
from search.report.wording.values import format_mean, format_metric, format_probability


def front_html(history: History, objectives: Objectives, path: Path) -> None:
    """Write an interactive scatter plot of a search to ``path``, an HTML file that needs no network.

    Finished trials are coloured by the kinds of their mechanisms. Trials stopped early are faint, at their last values.
    The front is a line of steps. Once it was confirmed, it is the front of the means over fresh seeds, and each
    retrained trial has its mean and interval as well. `picture_of` says which axes there are.
    """
    import plotly.graph_objects as go

    picture = picture_of(history, objectives)
    figure = go.Figure()

    def draw_points(name: str, trials: Sequence[Trial], **style: Any) -> None:
        places = [picture.at(trial) for trial in trials]
        figure.add_scatter(
            name=name, mode="markers", x=[x for x, _ in places], y=[y for _, y in places],
            text=[_hover(trial, objectives) for trial in trials], hovertemplate="%{text}<extra></extra>", **style,
        )  # fmt: skip

    draw_points(STOPPED, picture.partial, marker={"color": GREY, "opacity": FAINT, "symbol": "x"})
    figure.add_scatter(
        name=picture.front_name, mode="lines", x=[x for x, _ in picture.steps], y=[y for _, y in picture.steps],
        line={"color": "black", "width": 1.5}, hoverinfo="skip",
    )  # fmt: skip
    for colour, (name, trials) in zip(picture.colours, picture.finished.items(), strict=True):
        draw_points(name, trials, marker={"color": colour, "size": 9, "line": {"color": "white", "width": 1}})
    if picture.confirmed:
        x, y, halves = picture.bars
        figure.add_scatter(
            name=FRESH, mode="markers", x=x, y=y, error_y={"array": halves}, hovertemplate="%{text}<extra></extra>",
            text=[_hover_fresh(row, picture) for row in picture.confirmed.rows],
            marker={"color": "black", "symbol": "diamond-open", "size": 8},
        )  # fmt: skip
    x_label, y_label = picture.axes
    figure.update_layout(
        title=picture.title.replace("\n", "<br>"), template="plotly_white",
        xaxis_title=x_label, yaxis_title=y_label, legend={"title": {"text": "mechanisms"}},
    )  # fmt: skip
    if picture.log:
        figure.update_xaxes(type="log", dtick="D2")
    figure.write_html(path, include_plotlyjs=True)


def _hover_fresh(row: Row, picture: Picture) -> str:
    """Return the text at the mean of a trial's fresh seeds."""
    mean = format_mean(picture.y, row.trial.metrics[picture.y], row.half_width.get(picture.y, math.nan))
    return "<br>".join([
        f"<b>trial {row.trial.number}</b>, {row.seeds} fresh seeds", f"{picture.y} {mean}",
        f"in the search {format_metric(picture.y, row.searched[picture.y])}",
        f"probability to be on the front {format_probability(row.probability)}",
    ])  # fmt: skip


def _hover(trial: Trial, objectives: Objectives) -> str:
    """Return the text at a point: the trial's number, config, objectives and cost."""
    state = "" if trial.state == "finished" else f", stopped after epoch {trial.epoch}: partial"
    names = dict.fromkeys([*objectives, *trial.cost])
    values = [f"{name} {format_metric(name, trial.metrics[name])}" for name in names]
    return "<br>".join([f"<b>trial {trial.number}</b>{state}", *describe(trial).split(" + "), *values])

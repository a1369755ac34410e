"""What is drawn of a search, whatever the format: axes, groups of points, the line of the front, intervals, texts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from search.analysis.confirmation import Confirmation, confirmation
from search.analysis.front import front_of
from search.analysis.intervals import LEVEL
from search.analysis.metrics import RATES
from search.analysis.pareto import Direction, Objectives
from search.ledger.history import History, Trial
from search.report.tables.confirmation import format_optimism
from search.report.wording.trials import mechanism_kinds

#: Okabe and Ito's colours, which colour-blind readers can distinguish; black is kept for the front
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")

#: colour of trials that were stopped early
GREY = "#999999"

#: opacity of trials that were stopped early
FAINT = 0.45

#: names in the legend
STOPPED = "stopped early (partial)"
FRESH = f"fresh seeds, {100 * LEVEL:.0f} % interval"

#: labels of the axes, by metric
AXIS_LABELS = {
    "top1": "top-1 accuracy (%)",
    "top5": "top-5 accuracy (%)",
    "mean_class": "mean class accuracy (%)",
    "map": "mean average precision, IoU 0.3 to 0.5 (%)",
    "gflops": "GFLOPs of one clip",
    "gflops_video": "GFLOPs of one video, all views",
    "params_m": "parameters (millions)",
    "activation_mb": "activations (MB)",
    "latency_ms": "latency (ms)",
}

#: ratio of the greatest to the least value of the x axis above which it is logarithmic
_LOG_RATIO = 10


@dataclass(frozen=True)
class Picture:
    """The content of a plot. Rates are in percent."""

    title: str
    x: str
    """the metric to the right: a cost, if there is one"""
    y: str
    """the metric upwards: the first objective to maximise, if there is one"""
    log: bool
    """whether the x axis is logarithmic"""
    finished: Mapping[str, list[Trial]]
    """finished trials by the kinds of their mechanisms"""
    partial: list[Trial]
    """trials that were stopped early"""
    front: list[Trial]
    steps: list[tuple[float, float]]
    """corners of the line of the front"""
    confirmed: Confirmation | None

    @property
    def axes(self) -> tuple[str, str]:
        """The labels of the two axes."""
        return AXIS_LABELS.get(self.x, self.x), AXIS_LABELS.get(self.y, self.y)

    @property
    def front_name(self) -> str:
        """The name of the front in the legend."""
        return "front of the means" if self.confirmed else "front"

    @property
    def colours(self) -> list[str]:
        """A colour for each group of finished trials."""
        return [COLOURS[index % len(COLOURS)] for index in range(len(self.finished))]

    @property
    def bars(self) -> tuple[list[float], list[float], list[float]]:
        """The retrained trials by their fresh seeds: x, mean of y, and half the width of the interval of y.

        The width is 0 where it is not known, as no trial has two fresh seeds.
        """
        rows = self.confirmed.rows if self.confirmed else []
        x, y = zip(*(self.at(row.trial) for row in rows), strict=True) if rows else ((), ())
        halves = [
            _scaled(self.y, half) if math.isfinite(half := row.half_width.get(self.y, 0.0)) else 0.0 for row in rows
        ]
        return list(x), list(y), halves

    def at(self, trial: Trial) -> tuple[float, float]:
        """Return the place of a trial."""
        return _scaled(self.x, trial.metrics[self.x]), _scaled(self.y, trial.metrics[self.y])


def picture_of(history: History, objectives: Objectives) -> Picture:
    """Choose the axes and group the trials.

    The axes are the first two objectives: a cost to the right and a quality up, as far as there are any. A search with
    one objective is drawn against GFLOPs.
    """
    names = list(objectives)
    costs = [name for name in names if objectives[name] == "min"]
    y = next((name for name in names if objectives[name] == "max"), names[0])
    x = next((name for name in [*costs, *names, "gflops"] if name != y), "gflops")

    def has_place(trial: Trial) -> bool:
        return all(math.isfinite(trial.metrics.get(name, math.nan)) for name in (x, y))

    finished = [trial for trial in history.in_state("finished") if has_place(trial)]
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(finished, key=lambda trial: (bool(trial.config["model"]["attention"]), mechanism_kinds(trial))):
        groups.setdefault(mechanism_kinds(trial), []).append(trial)
    partial = [trial for trial in history.in_state("stopped") if has_place(trial)]
    values = [trial.metrics[x] for trial in [*finished, *partial]]
    plane: dict[str, Direction] = {name: objectives.get(name, "min") for name in (y, x)}
    front = [trial for trial in front_of(history, plane) if has_place(trial)]
    confirmed = confirmation(history, plane)
    return Picture(
        title=_title(history, confirmed), x=x, y=y,
        log=min(values, default=0.0) > 0 and max(values) > _LOG_RATIO * min(values),
        finished=groups, partial=partial, front=front,
        steps=_steps(front, x, y, max(values, default=0.0), plane), confirmed=confirmed,
    )  # fmt: skip


def _steps(front: list[Trial], x: str, y: str, end: float, plane: Objectives) -> list[tuple[float, float]]:
    """Return the corners of the line that bounds the dominated area, level from the last point to x = ``end``."""
    points = sorted((_scaled(x, trial.metrics[x]), _scaled(y, trial.metrics[y])) for trial in front)
    if plane[x] == "max":
        return points
    corners = points[:1]
    for (_, low), (right, high) in pairwise(points):
        corners += [(right, low), (right, high)]
    return [*corners, (_scaled(x, end), points[-1][1])] if points else []


def _scaled(name: str, value: float) -> float:
    return 100 * value if name in RATES else value


def _title(history: History, confirmed: Confirmation | None) -> str:
    counts = [f"{len(trials)} {state}" for state in ("finished", "stopped") if (trials := history.in_state(state))]
    title = f"{history.name if history.search else 'search'}: {', '.join(counts) or 'no trial is finished yet'}"
    return f"{title}\noptimism of the search: {format_optimism(confirmed)}" if confirmed else title

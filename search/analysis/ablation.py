"""Tables of two settings, in the form of the papers' ablations: the mean accuracy of the runs in each cell.

Rows and columns are all values that the space has, so that a cell is empty where nothing was measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from search.analysis.intervals import Estimate, num_clips, of_mean
from search.ledger.history import History, Trial
from spaces.space import Space, SpaceError

#: configs of a space that are read for its values
MAX_CONFIGS = 2_000
#: rows or columns of a table at most; those with most runs are kept
MAX_VALUES = 24

#: returns the text of a setting of a model, and None where a model has no such setting
Setting = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True)
class Cell:
    """The finished trainings with one pair of settings."""

    trials: tuple[int, ...]
    """numbers of the trainings: trials of the search and their retrainings"""
    mean: Estimate
    """mean accuracy, with the interval of `search.analysis.intervals.of_mean`"""


@dataclass(frozen=True)
class Ablation:
    """One table."""

    title: str
    source: str
    """the table or figure of a paper that has this form; empty for none"""
    row: str
    column: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    """by row and column; a pair that was not measured is missing"""


def _module(kind: str, field: str) -> Setting:
    """Return the setting ``field`` of the first mechanism of that kind."""

    def setting(model: Mapping[str, Any]) -> str | None:
        modules = model.get("attention")
        for module in modules if isinstance(modules, list | tuple) else ():
            if isinstance(module, Mapping) and module.get("kind") == kind:
                return None if field not in module else _text(module[field])
        return None

    return setting


def _mechanism(model: Mapping[str, Any]) -> str | None:
    modules = model.get("attention")
    if not isinstance(modules, list | tuple) or not all(isinstance(module, Mapping) for module in modules):
        return None
    return " + ".join(str(module["kind"]) for module in modules) or "none"


def _detector(model: Mapping[str, Any]) -> str | None:
    """Return a detector with its mechanisms, such as "rc3d + sta"; None for a classifier."""
    detector, mechanisms = model.get("detector"), _mechanism(model)
    if not isinstance(detector, Mapping) or mechanisms is None:
        return None
    return str(detector["kind"]) + (f" + {mechanisms}" if mechanisms != "none" else "")


def _frames(model: Mapping[str, Any]) -> str | None:
    return _text(model["frames"]) if "frames" in model else None


def _backbone(field: str) -> Setting:
    def setting(model: Mapping[str, Any]) -> str | None:
        backbone = model.get("backbone")
        return _text(backbone[field]) if isinstance(backbone, Mapping) and field in backbone else None

    return setting


def dilations(layout: Sequence[Sequence[int]]) -> str:
    """Return the dilations of T-CNN as "1,4,4,4 | 1,2": stages apart, without those of one pair of dilation 1."""
    stages = [",".join(map(str, stage)) for stage in layout]
    return " | ".join(stage for stage in stages if stage != "1") or "1"


def _dilations(model: Mapping[str, Any]) -> str | None:
    backbone = model.get("backbone")
    layout = backbone.get("dilations") if isinstance(backbone, Mapping) else None
    if not isinstance(layout, list | tuple) or not all(isinstance(stage, list | tuple) for stage in layout):
        return None
    return dilations(layout)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.4g}"
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


#: title, source, name and setting of rows, name and setting of columns
_FORMS: tuple[tuple[str, str, str, Setting, str, Setting], ...] = (
    ("Mechanism by frames", "", "mechanism", _mechanism, "frames", _frames),
    ("Mechanism by width", "", "mechanism", _mechanism, "width", _backbone("width")),
    ("Mechanism by depth", "", "mechanism", _mechanism, "depth", _backbone("depth")),
    ("TAM: α by β", "TAM, ablation of α and β", "α", _module("tam", "alpha"), "β", _module("tam", "beta")),
    ("TAM: kernel size by frames", "TAM, ablation of K", "K", _module("tam", "kernel_size"), "frames", _frames),
    ("TAM: stages by style", "TAM, Table 5", "stages", _module("tam", "stages"), "style", _module("tam", "position")),
    ("TSM: stages by frames", "", "stages", _module("tsm", "stages"), "frames", _frames),
    ("STA: step of the deconvolution by frames", "STA, Figure 7", "step", _module("sta", "step"), "frames", _frames),
    ("STA: weights by stages", "STA, Table VIII", "weights", _module("sta", "weights"), "stages",
     _module("sta", "stages")),
    ("STA: deconvolution by stages", "STA, Table IX", "deconvolution", _module("sta", "deconv"), "stages",
     _module("sta", "stages")),
    ("T-CNN: dilations by frames", "T-CNN, Table 1", "dilations", _dilations, "frames", _frames),
    ("M2A: motion by attention", "M2A, Tables IV to VI", "motion", _module("m2a", "motion"), "attention",
     _module("m2a", "attention")),
    ("M2A: stages by reduction", "", "stages", _module("m2a", "stages"), "R", _module("m2a", "reduction")),
)  # fmt: skip


def ablations(history: History, metric: str) -> list[Ablation]:
    """Return the tables of a metric for which the space, or a training, has at least two values of a setting."""
    clips = num_clips(history)
    finished = [trial for trial in history.trials.values() if trial.state == "finished"]
    finished += [trial for trial in history.extras.values() if trial.state == "finished" and not trial.base]
    finished = [trial for trial in finished if metric in trial.metrics]
    models = [*_models(history.began.spec), *(trial.config["model"] for trial in history.trials.values())]
    tables = []
    for title, source, row, row_of, column, column_of in _FORMS:
        places: dict[tuple[str, str], list[Trial]] = {}
        for trial in finished:
            place = (row_of(trial.config["model"]), column_of(trial.config["model"]))
            if place[0] is not None and place[1] is not None:
                places.setdefault((place[0], place[1]), []).append(trial)
        # The frames of models without TAM are none of TAM's.
        own = [model for model in models if row_of(model) is not None]
        rows, columns = (_values(setting, own, places, n) for n, setting in enumerate((row_of, column_of)))
        if places and (min if row == "mechanism" else max)(len(rows), len(columns)) > 1:
            cells = {
                place: _cell(trials, metric, clips)
                for place, trials in places.items()
                if place[0] in rows and place[1] in columns
            }
            tables.append(Ablation(title, source, row, column, rows, columns, cells))
    return [*_by_threshold(finished, models), *tables]


def _by_threshold(finished: Sequence[Trial], models: Sequence[Mapping[str, Any]]) -> list[Ablation]:
    """Return the table of detectors by threshold of IoU, if trials are detectors."""
    prefix = "map_"
    places: dict[tuple[str, str], list[Trial]] = {}
    for trial in finished:
        for name in trial.metrics:
            if name.startswith(prefix) and (detector := _detector(trial.config["model"])):
                places.setdefault((detector, name.removeprefix(prefix)), []).append(trial)
    if not places:
        return []
    rows = _values(_detector, models, places, 0)
    columns = tuple(sorted({column for _, column in places}, key=_order))
    cells = {place: _cell(trials, f"{prefix}{place[1]}", None) for place, trials in places.items() if place[0] in rows}
    return [Ablation("mAP by threshold of IoU", "STA, Table VI", "detector", "IoU", rows, columns, cells)]


def _models(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return model sections of the space in which each range takes each of its values."""
    try:
        space = Space({"model": (spec.get("trial") or {}).get("model") or {}})
    except SpaceError:
        return []
    return [tree["model"] for _, tree in islice(space.one_at_a_time(), MAX_CONFIGS)]


def _values(
    setting: Setting, models: Sequence[Mapping[str, Any]], places: Mapping[tuple[str, str], Sequence[Trial]], at: int
) -> tuple[str, ...]:
    """Return the values of a setting in order, at most `MAX_VALUES`: those with most runs."""
    values = dict.fromkeys(value for model in models if (value := setting(model)) is not None)
    counts = {value: sum(len(trials) for place, trials in places.items() if place[at] == value) for value in values}
    if len(values) > MAX_VALUES:
        values = dict.fromkeys(sorted(values, key=lambda value: -counts[value])[:MAX_VALUES])
    return tuple(sorted(values, key=_order))


def _order(value: str) -> tuple[int, float, str]:
    """Return a key that puts numbers in their order, before lists by length and words by name."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1 if value == "none" else 2, value.count(","), value)


def _cell(trials: Sequence[Trial], metric: str, clips: int | None) -> Cell:
    values = [trial.metrics[metric] for trial in trials]
    mean = of_mean(metric, values, clips)
    return Cell(tuple(trial.number for trial in trials), mean)

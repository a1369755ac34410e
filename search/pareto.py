"""The front of a search: which trials are best at their cost, how much they cover, and which one to take."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.ledger import History, State, Trial

Direction = Literal["max", "min"]
Objectives = Mapping[Any, Direction]

#: values in 0 ... 1 that are shown in percent
RATES = ("top1", "top5", "mean_class")
_MARGIN = 1.1


def _gains(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.float64]:
    """Return the points (n, objectives) with the sign of every objective such that more is better."""
    sign = np.array([1.0 if direction == "max" else -1.0 for direction in directions])
    return np.asarray(points, dtype=float).reshape(-1, len(sign)) * sign


def front(points: ArrayLike, directions: Sequence[Direction]) -> list[int]:
    """Return the indices of the points (n, objectives) that no other point dominates, in ascending order.

    One point dominates another where it is nowhere worse and somewhere better. Of equal points the first stays; a
    point with a value that is not finite is on no front.
    """
    return next(layers(points, directions), [])


def layers(points: ArrayLike, directions: Sequence[Direction]) -> Iterator[list[int]]:
    """Yield the indices on the front of the points (n, objectives), those on the front of the rest, and so on."""
    gains = _gains(points, directions)
    order = np.flatnonzero(np.isfinite(gains).all(axis=1))
    # Best first, by the first objective, then the next: what dominates a point stands before it, as does an equal one.
    order = order[np.lexsort(-gains[order].T[::-1])]
    columns = [gains[order, n] for n in range(gains.shape[1])]
    while len(order):
        first, rest, left = np.zeros(len(order), dtype=bool), np.arange(len(order)), columns
        while len(rest):
            first[rest[0]] = True
            ahead = np.logical_or.reduce([column > column[0] for column in left])
            rest, left = rest[ahead], [column[ahead] for column in left]
        yield sorted(order[first].tolist())
        order, columns = order[~first], [column[~first] for column in columns]


def dominates(one: Mapping[str, float], other: Mapping[str, float], objectives: Objectives) -> bool:
    """Whether one trial's values are nowhere worse than another's and somewhere better."""
    gains = [(one[name] - other[name]) * (1 if way == "max" else -1) for name, way in objectives.items()]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def hypervolume(points: ArrayLike, reference: Sequence[float], directions: Sequence[Direction]) -> float:
    """Return the volume that the points (n, objectives) dominate, as far as ``reference``; exact.

    Points that are not better than the reference in every objective add nothing. Its unit is the product of the
    objectives' units, such as accuracy times GFLOPs.
    """
    gains = (_gains(points, directions) - _gains(reference, directions))[front(points, directions)]
    return _volume(gains[(gains > 0).all(axis=1)])


def _volume(gains: NDArray[np.float64]) -> float:
    """Sum, from the top down along the last axis, the slabs under the points reached so far."""
    if not len(gains):
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    gains = gains[np.argsort(-gains[:, -1], kind="stable")]
    thickness = -np.diff(gains[:, -1], append=0.0)
    return sum(_volume(gains[: n + 1, :-1]) * high for n, high in enumerate(thickness.tolist()) if high)


def knee(points: ArrayLike, directions: Sequence[Direction]) -> int:
    """Return the index of the point of a front (n >= 1, objectives) at which more of one costs most of another.

    Every objective is scaled to 0 (worst on the front) ... 1 (best on it); the point with the greatest sum is the one
    farthest beyond the chord through a front's two ends, or beyond the plane through three. Of equals, such as the two
    ends where nothing lies beyond the chord, it is the best by the first objective.
    """
    gains = _gains(points, directions)
    low, span = gains.min(axis=0), np.ptp(gains, axis=0)
    scaled = (gains - low) / np.where(span > 0, span, 1.0)
    return int(np.lexsort((gains[:, 0], scaled.sum(axis=1).round(12)))[-1])


def values(trials: Sequence[Trial], objectives: Objectives) -> NDArray[np.float64]:
    """Return the trials' objectives, (trials, objectives); NaN where one is not measured."""
    rows = [[trial.metrics.get(name, math.nan) for name in objectives] for trial in trials]
    return np.array(rows, dtype=float).reshape(-1, len(objectives))


def front_of(history: History, objectives: Objectives) -> list[Trial]:
    """Return the front of the finished trials, cheapest first (see `in_order`).

    Once they were trained again with fresh seeds it is the front of those, `Trial.settled`.
    """
    candidates = settled(history, objectives) or history.in_state("finished")
    return in_order(on_front(candidates, objectives), objectives)


def on_front(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Return those that no other one dominates, by number."""
    return [trials[index] for index in front(values(trials, objectives), list(objectives.values()))]


def settled(history: History, objectives: Objectives) -> list[Trial]:
    """Return the trials with fresh seeds, each with the mean of these; [] until the whole front was trained again."""
    finished = history.in_state("finished")
    if not all(trial.confirmed for trial in on_front(finished, objectives)):
        return []
    return [trial.settled() for trial in finished if trial.confirmed and trial.fresh]


def in_order(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Return the trials cheapest first, by the first objective that is a cost; without one, best first."""
    known = trials[0].cost if trials else {}
    order = next((name for name in objectives if name in known), next(iter(objectives)))
    sign = 1 if objectives[order] == "min" else -1
    return sorted(trials, key=lambda trial: sign * trial.metrics[order])


def reference(trials: Sequence[Trial], objectives: Objectives, constraints: Mapping[str, Any]) -> list[float]:
    """Return the point from which a search's hypervolume is measured.

    0 for what is maximised (rates of success). For what is minimised: its upper limit, where ``constraints`` (as in a
    spec, ``{"gflops": {"max": 1.0}}``) has one, which makes hypervolumes comparable between searches; else 1.1 times
    the greatest finite value of ``trials``. The latter can only move away while a search grows, so its hypervolume
    never falls; compare two moments of such a search with one reference, taken from all of its trials.
    """

    def far(name: str) -> float:
        limit = (constraints.get(name) or {}).get("max")
        if limit is not None:
            return float(limit)
        known = [value for trial in trials if math.isfinite(value := trial.metrics.get(name, math.nan))]
        return _MARGIN * max(known, default=0.0)

    return [0.0 if direction == "max" else far(name) for name, direction in objectives.items()]


def spec_of(history: History) -> tuple[dict[str, Direction], dict[str, Any]]:
    """Return the objectives and the constraints that a search's ledger begins with."""
    spec = history.search["spec"]
    return spec["objectives"], spec.get("constraints") or {}


def covered(trials: Sequence[Trial], objectives: Objectives, constraints: Mapping[str, Any]) -> float:
    """Return the hypervolume of finished trials from their own `reference`."""
    at = reference(trials, objectives, constraints)
    return hypervolume(values(trials, objectives), at, list(objectives.values()))


def pick(history: History, objectives: Objectives, rule: str) -> Trial:
    """Return the finished trial that ``rule`` names.

    ``knee``: see `knee`. ``best``: the best in the first objective. ``trial=ID``: that one. ``gflops<=X``, or any other
    metric or cost: the best in the first other objective among those within X. Of a front that was confirmed, trials
    have the means of their fresh seeds for metrics (`settled`).

    Raises ValueError, naming what there is, where no finished trial fits or the rule is none.
    """
    finished = history.in_state("finished")
    if match := re.fullmatch(r"trial\s*=\s*(\d+)", rule.strip()):
        trial = _by_number(history, int(match[1]))
        return next((other for other in settled(history, objectives) if other.number == trial.number), trial)
    bound = re.fullmatch(r"(\w+)\s*<=\s*([-+.\deE]+)", rule.strip())
    if rule not in ("knee", "best") and not bound:
        raise ValueError(f"pick: must be knee, best, trial=ID or NAME<=X, such as gflops<=0.5 (got {rule!r})")
    candidates = front_of(history, objectives)
    if not candidates:
        raise ValueError(f"pick {rule}: no trial is finished yet ({counts(history)}); wait, or resume the search")
    if rule == "knee":
        return candidates[knee(values(candidates, objectives), list(objectives.values()))]
    if bound:
        candidates = _within(finished, objectives, bound[1], bound[2])
    name = next((name for name in objectives if not bound or name != bound[1]), next(iter(objectives)))
    sign = 1 if objectives[name] == "max" else -1
    # Of equally good ones the first: the cheapest, for both lists are in that order.
    return max(candidates, key=lambda trial: sign * trial.metrics[name])


def _within(finished: list[Trial], objectives: Objectives, name: str, limit: str) -> list[Trial]:
    """Return the front among the trials with metric ``name`` at most ``limit``, cheapest first."""
    known = sorted(set.intersection(*(set(trial.metrics) for trial in finished)))
    if name not in known:
        raise ValueError(f"pick {name}<={limit}: no metric is named so; there are {', '.join(known)}")
    try:
        most = float(limit)
    except ValueError:
        raise ValueError(f"pick {name}<={limit}: {limit!r} is not a number") from None
    within = History(trials={trial.number: trial for trial in finished if trial.metrics[name] <= most})
    if candidates := front_of(within, objectives):
        return candidates
    least = min(trial.metrics[name] for trial in finished)
    raise ValueError(f"pick {name}<={limit}: no finished trial is within it; the least {name} is {least:.4g}")


def _by_number(history: History, number: int) -> Trial:
    finished = ", ".join(str(trial.number) for trial in history.in_state("finished")) or "none yet"
    trial = history.trials.get(number)
    if trial is None:
        raise ValueError(f"pick trial={number}: there is no such trial; finished are {finished}")
    if trial.state != "finished":
        state = {"stopped": "was stopped early", "proposed": "waits to be started"}.get(
            trial.state, f"is {trial.state}"
        )
        raise ValueError(
            f"pick trial={number}: it {state} after {trial.epoch} epochs, with partial metrics; finished are {finished}"
        )
    return trial


def table(trials: Sequence[Trial], objectives: Objectives) -> list[dict[str, Any]]:
    """Return one plain row a trial: its number, objectives, further cost, seconds of training and description."""
    return [
        {"trial": trial.number}
        | {name: trial.metrics.get(name, math.nan) for name in [*objectives, *trial.cost]}
        | {"seconds": round(trial.seconds, 1), "description": describe(trial), "identity": trial.identity}
        for trial in trials
    ]


def as_json(history: History, objectives: Objectives) -> dict[str, Any]:
    """Return the front for machines: the search's name, objectives, trials by state, hypervolume and the rows."""
    finished, (_, constraints) = history.in_state("finished"), spec_of(history)
    at, shown_front = reference(finished, objectives, constraints), front_of(history, objectives)
    return {
        "name": history.search["name"],
        "objectives": dict(objectives),
        "trials": tally(history),
        "hypervolume": hypervolume(values(shown_front, objectives), at, list(objectives.values())),
        "reference": at,
        "front": table(shown_front, objectives),
    }


def render(history: History, objectives: Objectives) -> str:
    """Return the front as a table for people, cheapest first, with the picks marked; one line where there is none."""
    trials = front_of(history, objectives)
    if not trials:
        return f"no trial is finished yet: {counts(history)}"
    picks = {rule: pick(history, objectives, rule).number for rule in ("best", "knee")}
    names = list(dict.fromkeys([*objectives, *trials[0].cost]))
    rows = [["trial", *names, "", "model"]]
    for trial in trials:
        numbers = [shown(name, trial.metrics[name]) for name in names]
        marks = " ".join(rule for rule, number in picks.items() if number == trial.number)
        rows.append([str(trial.number), *numbers, marks, describe(trial)])
    return aligned(rows, right=len(names) + 1)


def aligned(rows: Sequence[Sequence[str]], right: int) -> str:
    """Return rows of cells as a text whose first ``right`` columns end at one place, and the others begin there."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if n < right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def tally(history: History) -> dict[State, int]:
    """Return how many trials are in each state that occurs."""
    states = [trial.state for trial in history.trials.values()]
    return {state: states.count(state) for state in get_args(State) if state in states}


def counts(history: History) -> str:
    """Return `tally` in words, such as "2 running, 5 finished"."""
    return ", ".join(f"{count} {state}" for state, count in tally(history).items()) or "no trial is proposed"


def shown(name: str, value: float) -> str:
    """Return a metric as people read it: rates in percent, the others with four digits."""
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f} %" if name in RATES else f"{value:.4g}"


def label(trial: Trial) -> str:
    """Return the kinds of a trial's mechanisms in their order, such as "tsm + tam", or "no attention"."""
    return " + ".join(module["kind"] for module in trial.config["model"]["attention"]) or "no attention"


def describe(trial: Trial) -> str:
    """Return a trial's config in a few words, such as "tam a2 b4 K3 @res2-5 b, T8, lr 0.05".

    The mechanisms with their numbers, and with their words and switches where these were searched; the frames; what
    else of the config was searched. Of a training with a fresh seed, which trial it trains again.
    """
    if trial.confirms is not None:
        return f"trial {trial.confirms} again, seed {trial.config['train']['seed']}"
    words = [mechanisms(trial), f"T{trial.config['model']['frames']}"]
    for name, value in searched(trial).items():
        if "attention" not in name and name != "model.frames":
            words.append(f"{name.rpartition('.')[-1]} {worded(value)}")
    return ("base of others: " if trial.base else "") + ", ".join(words)


def mechanisms(trial: Trial) -> str:
    """Return a trial's mechanisms in their order as `describe` shows them, or "no attention"."""
    varied = {re.split(r"[./]", name)[-1] for name in trial.params}
    return " + ".join(_module(module, varied) for module in trial.config["model"]["attention"]) or "no attention"


def searched(trial: Trial) -> dict[str, Any]:
    """Return what was chosen for a trial: its mechanisms, and the value of each range by a name with dots.

    A ledger has the index of an option, such as ``model.frames: 1``; here is what stands in the config, 8.
    """
    found: dict[str, Any] = {"attention": label(trial)}
    for name in trial.params:
        keys = [key for key in re.split(r"[./\[\]]+", name) if key]
        value = _at(trial.config, keys)
        if keys != ["model", "attention"]:
            found[".".join(keys)] = value.get("kind") if isinstance(value, Mapping) else value
    return found


def _at(tree: Any, keys: Sequence[str]) -> Any:
    """Return what stands in a config at the keys of a range's name, where labels of options stand between the keys."""
    for key in keys:
        if isinstance(tree, list):
            named = {str(n): item for n, item in enumerate(tree)}
            named |= {item["kind"]: item for item in tree if isinstance(item, Mapping) and "kind" in item}
            if key not in named and len(tree) == 1 and isinstance(tree[0], Mapping):
                named = tree[0]
            tree = named.get(key, tree)
        elif isinstance(tree, Mapping):
            tree = tree.get(key, tree)
    return tree


def _module(module: Mapping[str, Any], varied: Collection[str]) -> str:
    """Return one mechanism as "tam a2 b4 K3 @res2-5 b"."""
    words = [module["kind"]]
    for name, value in module.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in ("kind", "stages", "position", "every") or not (number or name in varied):
            continue
        if number:
            short = "K" if name == "kernel_size" else "".join(part[0] for part in name.split("_"))
            words.append(short + worded(value))
        else:
            words.append(f"{name} {worded(value)}")
    if "stages" in module:
        words.append(f"@res{_stages(module['stages'])}")
    words.append(str(module.get("position", "")))
    if module.get("every", 1) != 1:
        words.append(f"every {module['every']}")
    return " ".join(filter(None, words))


def _stages(stages: Sequence[int]) -> str:
    """Return 2, 3, 4, 5 as "2-5" and 2, 4, 5 as "2,4,5"."""
    together = len(stages) > 2 and list(stages) == list(range(stages[0], stages[-1] + 1))
    return f"{stages[0]}-{stages[-1]}" if together else ",".join(map(str, stages))


def worded(value: Any) -> str:
    """Return a value of a config as people read it: yes and no, numbers in four digits, kinds, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return str(value.get("kind", "")) or " ".join(f"{key} {worded(item)}" for key, item in value.items())
    return ",".join(map(worded, value)) if isinstance(value, list | tuple) else str(value)

"""Warm start (``search.warm_start``): reading the finished trials of earlier searches for use in this one.

An earlier search may have used other data, other epochs, another training config or smaller networks, so its accuracies
are not trusted at first. The best trials of its front are trained again. As they and other trials finish, the
accuracies of both searches are compared (`search.proposals.trust`).
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from typing import Any

from pydantic import ValidationError

from search.analysis.metrics import RATES
from search.analysis.pareto import front
from search.ledger.events import EarlierTrial, WarmStarted
from search.ledger.history import History, Trial
from search.ledger.runs import open_run
from search.spec.schema import Spec
from spaces.space import RANGES, Params, Problem
from vattn.canonical import architecture_id, trial_id
from vattn.config import ModelConfig, TrialConfig
from vattn.errors import UserError

#: most trials of earlier fronts that are trained again first
REPEATS = 5

#: ways to write one earlier config in this space that are tried at most
MAX_READINGS = 1_000

#: sizes of a network, by their paths: the number and side of its frames, and of its layers
SIZES = (("frames",), ("size",), ("backbone", "depth"), ("backbone", "width"))


def read_sources(spec: Spec, known: Collection[str] = ()) -> list[WarmStarted]:
    """Read the ledgers that ``search.warm_start`` names, except those in ``known``.

    Raises SpecError with one line for each name without a search.
    """
    sources, problems = [], []
    for place, run in enumerate(spec.search.warm_start):
        if run in known:
            continue
        try:
            sources.append(_source(spec, run, open_run(run)))
        except UserError as error:
            problems.append(Problem(("search", "warm_start", place), str(error)))
    if problems:
        raise spec.error(*problems)
    return sources


def _source(spec: Spec, run: str, history: History) -> WarmStarted:
    """Return the trials of an earlier search that this one can use, at most one for each config of this search.

    Of several trials with one config it is the trial whose data and training differ least, and of these the last.
    """
    left_out: Counter[str] = Counter()
    chosen: dict[str, tuple[EarlierTrial, list[str]]] = {}
    for trial in history.in_state("finished"):
        try:
            earlier, differs = _convert(spec, trial)
        except ValueError as error:
            left_out[str(error)] += 1
            continue
        known = chosen.get(earlier.identity)
        if known is not None:
            left_out["another trial has its config, and is more like those here"] += 1
        if known is None or len(differs) <= len(known[1]):
            chosen[earlier.identity] = earlier, differs
    return WarmStarted(
        source=run,
        id=history.began.id,
        name=history.began.name,
        trials=tuple(earlier for earlier, _ in chosen.values()),
        left_out=dict(left_out),
        differs=tuple(sorted({path for _, differs in chosen.values() for path in differs})),
    )


def _convert(spec: Spec, trial: Trial) -> tuple[EarlierTrial, list[str]]:
    """Return an earlier trial as choices in this space, and the paths in data and training that differ.

    The space must contain its network, and each range must be able to take its value. Data, and values of training
    and sizes of the network (`SIZES`) without a range, may differ. Raises ValueError, whose text is the reason why the
    trial cannot be used.
    """
    try:
        # With the defaults of options that were added since.
        known_tree = TrialConfig.parse(trial.config).tree()
    except ValidationError:
        raise ValueError("it has options that there no longer are") from None
    for resized, params in islice(_readings(spec, known_tree), MAX_READINGS):
        config = spec.trial_config(spec.space.replay(params))
        tree = config.tree()
        same = all(_at(tree, path) == _at(known_tree, path) for path in _ranges(spec.trial) if path[0] != "model")
        if same and architecture_id(config.model) == architecture_id(resized):
            break
    else:
        raise ValueError("it is not in this space")
    cost = spec.cost(config)
    if broken := spec.broken_limits(cost):
        raise ValueError(f"it is over a limit: {broken[0].partition(' ')[0]}")
    metrics = trial.reports[-1].metrics | cost
    for name in spec.objectives:
        if not math.isfinite(metrics.get(name, math.nan)):
            raise ValueError(f"it has no {name}")
    differs = [
        *_differing(tree["data"], known_tree["data"], "data"),
        *(".".join(("model", *path)) for path in SIZES if _get(tree["model"], path) != _get(known_tree["model"], path)),
        *_differing(tree["train"], known_tree["train"], "train"),
    ]
    return EarlierTrial(trial=trial.number, params=params, identity=trial_id(config), metrics=metrics), differs


def _readings(spec: Spec, known: Mapping[str, Any]) -> Iterator[tuple[ModelConfig, Params]]:
    """Yield the params of this space that can be an earlier config, each with the network that they must give.

    That is the network of the config as it is, and then with the sizes that are fixed in this space.
    """
    fixed = [
        {path: value for path in SIZES if isinstance(value := _get(option, path), int | float)}
        for option in spec.trial["model"].get("choice", [spec.trial["model"]])
    ]
    for sizes in ({}, *fixed):
        resized = known["model"]
        for path, value in sizes.items():
            resized = _put(resized, path, value)
        if resized == known["model"] and sizes:
            continue
        try:
            network = ModelConfig.parse(resized)
        except ValidationError:
            continue  # the backbone of this config has no such size
        for params in spec.space.recover({**known, "model": network.tree()}):
            yield network, params


def _get(tree: Any, path: Sequence[str]) -> Any:
    """Return the value at a path of nested mappings; None if there is none."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _put(tree: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return nested mappings with another value at a path."""
    key, *rest = path
    return {**tree, key: _put(tree[key], rest, value) if rest else value}


def _ranges(tree: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of the outermost ranges of a tree."""
    if isinstance(tree, Mapping):
        if RANGES.keys() & tree.keys():
            return [path]
        return [inner for key, value in tree.items() for inner in _ranges(value, (*path, key))]
    if isinstance(tree, list):
        return [inner for index, value in enumerate(tree) for inner in _ranges(value, (*path, index))]
    return []


def _at(tree: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _differing(value: Any, earlier: Any, path: str) -> list[str]:
    """Return the paths at which two configs differ; the folders of data and cache do not count."""
    if isinstance(value, Mapping) and isinstance(earlier, Mapping) and value.get("kind") == earlier.get("kind"):
        keys = [key for key in dict(value) | dict(earlier) if path != "data" or key not in ("root", "cache")]
        return [inner for key in keys for inner in _differing(value.get(key), earlier.get(key), f"{path}.{key}")]
    return [] if value == earlier else [path]


def repeats(sources: Sequence[WarmStarted], objectives: Mapping[Any, Any]) -> list[tuple[WarmStarted, EarlierTrial]]:
    """Return the trials of earlier fronts that are trained again first: `REPEATS` at most.

    Of each front they are evenly spaced, in order of the first objective, the best first. The sources take turns.
    """
    first, direction = next(iter(objectives.items()))
    sign = -1 if direction == "max" else 1
    lists = []
    for source in sources:
        points = [[trial.metrics[name] for name in objectives] for trial in source.trials]
        best = [source.trials[i] for i in front(points, list(objectives.values()))]
        best.sort(key=lambda trial: sign * trial.metrics[first])
        count = min(REPEATS, len(best))
        lists.append([(source, best[round(i * (len(best) - 1) / max(1, count - 1))]) for i in range(count)])
    chosen: dict[str, tuple[WarmStarted, EarlierTrial]] = {}
    for pair in chain.from_iterable(zip_longest(*lists)):
        if pair is not None:
            chosen.setdefault(pair[1].identity, pair)
    return list(chosen.values())[:REPEATS]


def moved(metrics: Mapping[str, float], offset: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics with ``offset`` added where it has an entry, bounded by 0 ... 1 for rates, 0 for losses."""
    return {
        name: value if name not in offset else min(max(value + offset[name], 0.0), 1.0 if name in RATES else math.inf)
        for name, value in metrics.items()
    }

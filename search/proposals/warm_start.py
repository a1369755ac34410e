"""Warm start: what earlier searches know that is of use here, and whether to believe it.

An earlier search may have seen other data, other epochs, another recipe. So nothing of it is believed at first: the
best of its front are trained again, and as they and other trials end, its accuracies are compared with those here.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice, zip_longest
from typing import Any

from pydantic import ValidationError

from search.analysis.metrics import RATES
from search.analysis.pareto import front
from search.ledger.events import Event
from search.ledger.history import History, Trial
from search.ledger.runs import open_run
from search.spec.schema import Spec
from spaces.space import RANGES, Problem
from vattn.canonical import architecture_id, trial_id
from vattn.config import TrialConfig

#: trials of the earlier fronts that are trained again first, and own finished trials before anything is believed
REPEATS, ENOUGH = 5, 6


#: ways to read one config as this space's that are tried
_READINGS = 1_000


@dataclass(frozen=True)
class Earlier:
    """A finished trial of an earlier search as this search would have it.

    ``metrics`` holds the earlier accuracies, and the cost as it is counted here.
    """

    trial: int
    params: dict[str, Any]
    identity: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Source:
    """What an earlier search has for this one; the ``warm_start`` event of a ledger.

    ``differs`` names what of data and training is not as here, ``left_out`` counts finished trials by reason.
    """

    source: str
    id: str
    name: str
    trials: tuple[Earlier, ...]
    left_out: dict[str, int]
    differs: tuple[str, ...]

    def event(self) -> dict[str, Any]:
        """Return the fields of the event; `Source.of` reads them back."""
        return asdict(self)

    @classmethod
    def of(cls, event: Event) -> "Source":
        """Return the source that an event of a ledger holds."""
        trials = tuple(Earlier(**trial.tree()) for trial in event["trials"])
        differs = tuple(event["differs"])
        return cls(event["source"], event["id"], event["name"], trials, event["left_out"], differs)


def read_sources(spec: Spec, known: Collection[str] = ()) -> list[Source]:
    """Read the ledgers that ``search.warm_start`` names, but for those in ``known``.

    Raises SpecError with a line for each that is no search.
    """
    sources, problems = [], []
    for place, run in enumerate(spec.search.warm_start):
        if run in known:
            continue
        try:
            sources.append(_source(spec, run, open_run(run)))
        except ValueError as error:
            problems.append(Problem(("search", "warm_start", place), str(error)))
    if problems:
        raise spec.error(*problems)
    return sources


def _source(spec: Spec, run: str, history: History) -> Source:
    """Return what a history has for this search: of each config here one trial, the one that differs least."""
    left_out: Counter[str] = Counter()
    chosen: dict[str, tuple[int, Earlier, list[str]]] = {}
    for trial in history.in_state("finished"):
        try:
            earlier, differs = _read_as_here(spec, trial)
        except ValueError as error:
            left_out[str(error)] += 1
            continue
        known = chosen.get(earlier.identity)
        if known is not None:
            left_out["another trial has its config, and is more like those here"] += 1
        if known is None or len(differs) <= known[0]:
            chosen[earlier.identity] = len(differs), earlier, differs
    differs = Counter(chain.from_iterable(names for _, _, names in chosen.values()))
    search = history.began
    trials = tuple(earlier for _, earlier, _ in chosen.values())
    return Source(run, search["id"], search["name"], trials, dict(left_out), tuple(sorted(differs)))


def _read_as_here(spec: Spec, trial: Trial) -> tuple[Earlier, list[str]]:
    """Return an earlier trial in this space, and what of its data and training is not as here.

    Its network must be one of this space, and each range must have its value; the data, and what is fixed of the
    training, may differ. Raises ValueError, whose text is a reason, where it is of no use.
    """
    try:
        network = architecture_id(TrialConfig.parse(trial.config).model)
    except ValidationError:
        raise ValueError("it has options that there no longer are") from None
    for params in islice(spec.space.recover(trial.config), _READINGS):
        config = spec.trial_config(spec.space.replay(params))
        tree = config.tree()
        same = all(_at(tree, path) == _at(trial.config, path) for path in _ranges(spec.trial) if path[0] != "model")
        if same and architecture_id(config.model) == network:
            break
    else:
        raise ValueError("it is not in this space")
    cost = spec.cost(config)
    if broken := spec.broken_limits(cost):
        raise ValueError(f"it is over a limit: {broken[0].partition(' ')[0]}")
    metrics = trial.reports[-1]["metrics"] | cost
    for name in spec.objectives:
        if not math.isfinite(metrics.get(name, math.nan)):
            raise ValueError(f"it has no {name}")
    differs = [
        name for section in ("data", "train") for name in _differing(tree[section], trial.config[section], section)
    ]
    return Earlier(trial.number, params, trial_id(config), metrics), differs


def _ranges(tree: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of the outermost ranges of a tree."""
    if isinstance(tree, Mapping):
        if RANGES.keys() & tree.keys():
            return [path]
        return [found for key, value in tree.items() for found in _ranges(value, (*path, key))]
    if isinstance(tree, list):
        return [found for n, value in enumerate(tree) for found in _ranges(value, (*path, n))]
    return []


def _at(tree: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _differing(here: Any, there: Any, path: str) -> list[str]:
    """Return the paths at which two configs differ; where files lie is no difference."""
    if isinstance(here, Mapping) and isinstance(there, Mapping) and here.get("kind") == there.get("kind"):
        keys = [key for key in dict(here) | dict(there) if path != "data" or key not in ("root", "cache")]
        return [found for key in keys for found in _differing(here.get(key), there.get(key), f"{path}.{key}")]
    return [] if here == there else [path]


def repeats(sources: Sequence[Source], objectives: Mapping[Any, Any]) -> list[tuple[Source, Earlier]]:
    """Return the trials of the earlier fronts that are trained again first: evenly along each, the best first."""
    first, direction = next(iter(objectives.items()))
    sign = -1 if direction == "max" else 1
    lists = []
    for source in sources:
        points = [[trial.metrics[name] for name in objectives] for trial in source.trials]
        best = [source.trials[i] for i in front(points, list(objectives.values()))]
        best.sort(key=lambda trial: sign * trial.metrics[first])
        most = min(REPEATS, len(best))
        lists.append([(source, best[round(i * (len(best) - 1) / max(1, most - 1))]) for i in range(most)])
    chosen: dict[str, tuple[Source, Earlier]] = {}
    for pair in chain.from_iterable(zip_longest(*lists)):
        if pair is not None:
            chosen.setdefault(pair[1].identity, pair)
    return list(chosen.values())[:REPEATS]


def moved(metrics: Mapping[str, float], offset: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics with ``offset`` added to those that have one; rates stay in 0 ... 1, losses above 0."""
    return {
        name: value if name not in offset else min(max(value + offset[name], 0.0), 1.0 if name in RATES else math.inf)
        for name, value in metrics.items()
    }

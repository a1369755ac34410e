"""`vattn check`: how many models a search chooses among, what they cost, and what it will take."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from search.spec.schema import COSTS, CostName, Limit, Spec
from search.spec.validation import corners
from spaces.space import Problem, Space, SpaceError
from vattn.canonical import architecture_id, trial_id
from vattn.config import ModelConfig, TrainConfig, TrialConfig
from vattn.cost import cost


@dataclass(frozen=True)
class Check:
    """What is known of a search before it starts."""

    name: str
    combinations: int | None
    """of the model's ranges; None if there is no end of them"""
    architectures: tuple[Mapping[str, float], ...]
    """the cost of each distinct one that was seen"""
    exact: bool
    """whether these are all there are, not a sample"""
    within: int
    """how many of them meet the limits"""
    trials: int | None
    """how many distinct trials meet the limits; None if they were not all counted"""
    limits: Mapping[CostName, Limit]
    budget: tuple[int | None, float | None, float | None]
    """trials, hours and GPU-hours"""
    inherit: Literal["none", "base", "parent"]
    fresh: Mapping[str, str]
    """kinds of mechanisms beside inherited weights, and why they cannot start as the identity; empty where they do"""
    confirm: tuple[int, int] | None
    """near misses of the front, and fresh seeds of each"""
    epochs: tuple[int, int]
    """fewest and most of one trial"""
    halved: float | None
    """epochs of the longest trial on average, if halving ends as many as it may"""


def check(spec: Spec) -> Check:
    """Count a spec's space and weigh it.

    Raises SpecError if it is proved that no config meets the limits, if workers cannot share a batch evenly, or if
    training is to start with weights that are not there.
    """
    some = spec.trial_config(next(spec.space.one_at_a_time())[1])
    classes = spec.classes
    seen: dict[str, Mapping[str, float]] = {}
    fresh: dict[str, str] = {}
    models, exact = corners(spec.space.part("model"))
    for _, tree in models:
        model = ModelConfig.parse(tree)
        fresh |= {module.kind: module.no_identity for module in model.attention}
        if (architecture := architecture_id(model)) not in seen:
            seen[architecture] = _weigh(model, classes)
    within = sum(not spec.broken_limits(weight) for weight in seen.values())
    if not within:
        _refuse_if_proved(spec, classes, tuple(seen.values()), exact)

    trains, all_trains = corners(spec.space.part("train"))
    recipes = [TrainConfig.parse(tree) for _, tree in trains]
    workers = spec.resources.workers
    if uneven := sorted({train.batch for train in recipes if train.batch % workers}):
        rule = f"must divide train.batch, which they share; {', '.join(map(str, uneven))} cannot be shared so"
        raise spec.error(Problem(("resources", "workers"), rule, str(workers)))
    for weights in {train.weights for train in recipes if train.weights}:
        if spec.search.inherit != "none":
            rule = f"search.inherit, {spec.search.inherit}, chooses the weights; write scratch, or inherit: none"
            raise spec.error(Problem(("trial", "train", "init"), rule, str(weights)))
        if not weights.is_file():
            raise spec.error(Problem(("trial", "train", "init"), "there is no such file; name another", str(weights)))
    datas, all_datas = corners(spec.space.part("data"))
    trials = None
    if exact and all_trains and all_datas:
        # What makes two sections one is a matter of each section alone.
        distinct_trains = {trial_id(some.model_copy(update={"train": train})) for train in recipes}
        distinct_datas = {trial_id(TrialConfig.parse(some.tree() | {"data": tree})) for _, tree in datas}
        trials = within * len(distinct_trains) * len(distinct_datas)
    epochs = [train.epochs for train in recipes]
    return Check(
        name=spec.name,
        combinations=spec.space.part("model").size(),
        architectures=tuple(seen.values()),
        exact=exact,
        within=within,
        trials=trials,
        limits=spec.constraints,
        budget=(spec.search.budget.trials, spec.search.budget.hours, spec.search.budget.gpu_hours),
        inherit=spec.search.inherit,
        fresh=fresh if spec.search.inherit != "none" or any(train.init != "scratch" for train in recipes) else {},
        confirm=None if (confirm := spec.search.confirm) == "none" else (confirm.top, confirm.seeds),
        epochs=(min(epochs), max(epochs)),
        halved=spec.search.scheduler.expected_epochs(max(epochs)),
    )


def _weigh(model: ModelConfig, classes: int) -> Mapping[str, float]:
    counted = cost(model, classes)
    return {name: getattr(counted, name) for name in COSTS}


def _refuse_if_proved(spec: Spec, classes: int, costs: tuple[Mapping[str, float], ...], exact: bool) -> None:
    """Raise SpecError if nothing in the space can meet the limits: by the whole count, or by the bare backbones."""
    bare = costs if exact else _bare(spec, classes)
    for name, limit in spec.constraints.items():
        values = [cost[name] for cost in bare]
        if limit.max is not None and values and min(values) > limit.max:
            raise spec.error(_impossible(name, "max", "cheapest", _up(min(values)), "raise", limit.max))
        if limit.min is not None and exact and max(values) < limit.min:
            raise spec.error(_impossible(name, "min", "dearest", _down(max(values)), "lower", limit.min))
    if exact:
        raise spec.error(Problem(("constraints",), "no config meets all of these limits at once; loosen one of them"))


def _impossible(name: str, end: str, which: str, value: float, way_out: str, limit: float) -> Problem:
    rule = f"no config meets this limit: the {which} has {value:g}; {way_out} it to that"
    return Problem(("constraints", name, end), rule, f"{limit:g}")


def _bare(spec: Spec, classes: int) -> list[Mapping[str, float]]:
    """Return the costs of all models of the space without their mechanisms, which only add to it; [] if endless."""
    try:
        space = Space(spec.trial["model"] | {"attention": []})
        models, exact = corners(space)
    except SpaceError:  # the model as a whole is a choice
        return []
    return [_weigh(ModelConfig.parse(tree), classes) for _, tree in models] if exact else []


def _up(value: float) -> float:
    """Return the value in four digits, rounded so that as a highest limit it lets the value pass."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3) if value else 1.0
    return float(f"{math.ceil(value / unit) * unit:.4g}")


def _down(value: float) -> float:
    """Return the value in four digits, rounded so that as a lowest limit it lets the value pass."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3) if value else 1.0
    return float(f"{math.floor(value / unit) * unit:.4g}")

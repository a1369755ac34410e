"""`vattn check`: how many models a search chooses among, what they cost, and what it will take."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

from search.spec import COSTS, SAMPLES, CostName, Limit, Spec, corners
from spaces.space import Problem, Space, SpaceError
from vattn.canonical import architecture_id, trial_id
from vattn.config import ModelConfig, TrainConfig, TrialConfig
from vattn.cost import cost

_UNITS = {"gflops": "1e9 multiply-adds a clip", "params_m": "1e6 parameters", "activation_mb": "1e6 bytes a clip"}


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
    scheduler = spec.search.scheduler
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
        halved=halved(max(epochs), scheduler.min_epochs, scheduler.reduction) if scheduler.kind == "halving" else None,
    )


def halved(epochs: int, min_epochs: int, reduction: int) -> float:
    """Return the epochs of a trial on average, if at each rung one in ``reduction`` goes on."""
    done, rung, share, total = 0, min_epochs, 1.0, 0.0
    while rung < epochs:
        total += share * (rung - done)
        done, rung, share = rung, rung * reduction, share / reduction
    return total + share * (epochs - done)


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


def render(check: Check) -> str:
    """Return the text that `vattn check` prints."""
    return "\n".join([f"{check.name}: the spec is right", "", *_count(check), "", *_costs(check), "", *_budget(check)])


def _count(check: Check) -> list[str]:
    number = len(check.architectures)
    if check.exact:
        lines = [f"architectures  {number:,} distinct, of {check.combinations:,} combinations"]
    else:
        size = "without end" if check.combinations is None else f"{check.combinations:,} combinations"
        lines = [
            f"architectures  {number:,} distinct in a sample of {SAMPLES:,}; the space is {size}, not counted whole"
        ]
    if check.limits:
        limits = ", ".join(_limit(name, limit) for name, limit in check.limits.items())
        lines.append(f"within limits  {check.within:,} of these ({limits})")
        if not check.within:
            lines.append("               none of the sample, which is no proof: the search goes on looking")
    if check.trials is not None:
        lines.append(f"trials         {check.trials:,} distinct; the search ends by itself when all are done")
    return lines


def _limit(name: str, limit: Limit) -> str:
    low = "" if limit.min is None else f"{limit.min:g} <= "
    high = "" if limit.max is None else f" <= {limit.max:g}"
    return f"{low}{name}{high}"


def _costs(check: Check) -> list[str]:
    lines = [f"{'cost':13}  {'least':>9} {'median':>9} {'most':>9}"]
    for name, unit in _UNITS.items():
        values = [cost[name] for cost in check.architectures]
        lines.append(f"{name:13}  {min(values):9.4g} {median(values):9.4g} {max(values):9.4g}  {unit}")
    return [*lines, "", *_histogram([cost["gflops"] for cost in check.architectures])]


def _histogram(values: list[float], bins: int = 8, width: int = 40) -> list[str]:
    """Return how many architectures fall into equal parts of the range of GFLOPs, as bars."""
    low, high = min(values), max(values)
    if low == high:
        return []
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    step, most = (high - low) / bins, max(counts)
    bars = ["#" * math.ceil(count / most * width) for count in counts]
    return ["architectures by gflops"] + [
        f"{low + i * step:9.4g} to {low + (i + 1) * step:<9.4g}  {bars[i]} {counts[i]:,}" for i in range(bins)
    ]


def _budget(check: Check) -> list[str]:
    trials, hours, gpu_hours = check.budget
    if check.trials is not None and trials is not None:
        trials = min(trials, check.trials)
    fewest, most = check.epochs
    epochs = f"{most}" if fewest == most else f"{fewest} to {most}"
    ends = [] if trials is None else [f"{trials:,} trials of {epochs} epochs, at most {trials * most:,} epochs"]
    ends += [] if hours is None else [f"{hours:g} hours"]
    ends += [] if gpu_hours is None else [f"{gpu_hours:g} GPU-hours"]
    lines = ["budget         " + "; or ".join(ends) + (f"; trials have {epochs} epochs" if trials is None else "")]
    if check.halved is not None:
        total = "" if trials is None else f", {math.ceil(trials * check.halved):,} in all"
        lines.append(
            f"with halving   from {check.halved:.1f} epochs a trial{total}; more where trials do not beat each other"
        )
    lines += _inheritance(check)
    if check.confirm is not None:
        top, seeds = check.confirm
        lines.append(
            f"confirmation   on top: {seeds} trainings of each trial of the front, and of {top} that just miss it"
        )
    return lines


def _inheritance(check: Check) -> list[str]:
    whose = {
        "none": "",
        "base": "from the same model without mechanisms, which is trained first, on top of a budget of trials",
        "parent": "from the nearest finished trial of the same backbone",
    }[check.inherit]
    lines = [f"weights        {whose}"] if whose else []
    able, others = (sorted(k for k, reason in check.fresh.items() if bool(reason) is no) for no in (False, True))
    if able:
        lines.append(f"mechanisms     start as the identity: {', '.join(able)}")
    if others:
        lines.append(f"mechanisms     cannot be the identity, and start as ever: {', '.join(others)}")
    return lines

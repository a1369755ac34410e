"""Count the models of a search space, compute their costs, and estimate how long the search takes (`vattn check`)."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from search.spec.expectations import over_limits
from search.spec.schema import Spec
from search.spec.sections import CostName, Limit
from search.spec.validation import NUM_SAMPLES, combinations
from spaces.prior import Prior
from spaces.space import Problem, Space, SpaceError
from vattn.canonical import architecture_id, trial_id
from vattn.config import ModelConfig, TrainConfig, TrialConfig
from vattn.errors import UserError
from vattn.weights.files import refuse_other_files


@dataclass(frozen=True)
class Favoured:
    """The configs that the user's prior makes more probable than they are without it."""

    among: float
    """their share of random configs, 0 ... 1"""
    drawn: float
    """their share of the configs that are drawn from the prior, 0 ... 1"""


@dataclass(frozen=True)
class Check:
    """The size and the costs of a search, known before it starts."""

    name: str
    combinations: int | None
    """number of combinations of the model's ranges; None if it is infinite"""
    architectures: tuple[Mapping[str, float], ...]
    """cost of each distinct architecture"""
    videos: tuple[float, ...]
    """gflops_video of each distinct architecture with each of the views; empty where it is not recorded"""
    uncounted_views: bool
    """whether trials differ in their views, and no objective or limit counts these"""
    exact: bool
    """whether these are all architectures of the space, not those of a sample"""
    within: int
    """number of these architectures that are within the limits, with some of the views"""
    trials: int | None
    """number of distinct trials within the limits; None if they were not all counted"""
    limits: Mapping[CostName, Limit]
    budget: tuple[int | None, float | None, float | None]
    """trials, hours and GPU hours"""
    inherit: Literal["none", "base", "parent"]
    no_identity: Mapping[str, str]
    """if trials start with trained weights: the kinds of mechanisms that are added to them, each with the reason why it
    cannot start as the identity, empty if it can"""
    confirm: tuple[int, int] | None
    """number of near misses that are confirmed, and number of fresh seeds; None without confirmation"""
    epochs: tuple[int, int]
    """fewest and most epochs of a trial"""
    expected_epochs: float | None
    """mean number of epochs of the longest trials if halving stops as many as it can; None without halving"""
    prior: Favoured | None
    """what the user's prior favours; None without one"""
    starts: int
    """number of configs that are tried first"""
    memory: tuple[int, int] | None
    """predicted bytes of a worker's GPU: of the architecture with the least activations and the smallest batch, and of
    that with the most and the largest; None on CPUs"""
    taken: tuple[str, ...]
    """what the models take from each file in ``train.init``: the one with the most activations, and the one with the
    least if that is another answer"""


def check(spec: Spec) -> Check:
    """Return the size and the costs of a search.

    Raises SpecError if no config is within the limits and this is certain, if the workers cannot share a batch evenly,
    or if initial weights do not exist, are chosen twice, or do not fit.
    """
    example = spec.trial_config(next(spec.space.one_at_a_time())[1])
    seen: dict[str, list[dict[str, float]]] = {}  # costs with each of the views
    # (activations, model) of the architectures with the least and the most of them
    least, most = (math.inf, example.model), (-math.inf, example.model)
    no_identity: dict[str, str] = {}
    weights: set[Path] = set()
    models, exact = combinations(spec.space.part("model"))
    for _, tree in models:
        model = ModelConfig.parse(tree)
        weights |= {file} if (file := model.backbone.weights_file) else set()
        no_identity |= {module.kind: module.no_identity for module in model.attention}
        if (architecture := architecture_id(model)) not in seen:
            seen[architecture] = [spec.cost_of(model, views) for views in spec.views]
            activations = seen[architecture][0]["activation_mb"]
            if activations < least[0]:
                least = activations, model
            if activations >= most[0]:
                most = activations, model
    for file in weights:
        _check_file(spec, file, ("trial", "model", "backbone", "weights"))
    allowed = [[not spec.broken_limits(known) for known in costs] for costs in seen.values()]
    within = sum(map(any, allowed))
    if not within:
        _refuse_if_certain(spec, [known for costs in seen.values() for known in costs], exact)
    if over := list(over_limits(spec)):
        raise spec.error(*over)

    trains, all_trains = combinations(spec.space.part("train"))
    train_configs = [TrainConfig.parse(tree) for _, tree in trains]
    _check_train(spec, train_configs)
    datas, all_datas = combinations(spec.space.part("data"))
    trials = None
    if exact and all_trains and all_datas:
        # Whether two sections are equivalent does not depend on the other sections.
        distinct_trains = {trial_id(example.model_copy(update={"train": train})) for train in train_configs}
        configs = [TrialConfig.parse(example.tree() | {"data": tree}) for _, tree in datas]
        distinct_datas = {trial_id(config): spec.views.index(config.data.views) for config in configs}
        with_views = [sum(column) for column in zip(*allowed, strict=True)]
        trials = len(distinct_trains) * sum(with_views[views] for views in distinct_datas.values())
    epochs = [train.epochs for train in train_configs]
    starts_trained = spec.search.inherit != "none" or any(train.init != "scratch" for train in train_configs)
    return Check(
        name=spec.name,
        combinations=spec.space.part("model").size(),
        architectures=tuple(costs[0] for costs in seen.values()),
        videos=tuple(known["gflops_video"] for costs in seen.values() for known in costs if "gflops_video" in known),
        uncounted_views=_differ(spec) and not {"gflops_video"} & {*spec.objectives, *spec.constraints},
        exact=exact,
        within=within,
        trials=trials,
        limits=spec.constraints,
        budget=(spec.search.budget.trials, spec.search.budget.hours, spec.search.budget.gpu_hours),
        inherit=spec.search.inherit,
        no_identity=no_identity if starts_trained else {},
        confirm=None if (confirm := spec.search.confirm) == "none" else (confirm.top, confirm.seeds),
        epochs=(min(epochs), max(epochs)),
        expected_epochs=spec.search.scheduler.expected_epochs(max(epochs)),
        prior=_favoured(spec.prior, spec.space) if spec.prior else None,
        starts=len(spec.search.start),
        memory=_memory(spec, example, (least[1], most[1]), train_configs) if spec.resources.gpus else None,
        taken=_taken(spec, example, (most[1], least[1]), train_configs),
    )


def _taken(
    spec: Spec, example: TrialConfig, models: tuple[ModelConfig, ...], trains: list[TrainConfig]
) -> tuple[str, ...]:
    """Return what these models take from each file in ``train.init``; raise SpecError if one does not fit."""
    with_weights = {train.weights: train for train in trains if train.weights}
    distinct = {architecture_id(model): model for model in models}
    if not with_weights:
        return ()
    from vattn.training.start import start_and_report  # it imports what builds networks, which takes a second

    configs = [
        example.model_copy(update={"model": model, "train": train})
        for train in with_weights.values()
        for model in distinct.values()
    ]
    try:
        return tuple(dict.fromkeys(str(start_and_report(config)[1]) for config in configs))
    except UserError as error:
        raise spec.error(
            Problem(("trial", "train", "init"), f"{error.rule}; {error.way_out}", str(error.found))
        ) from None


def _favoured(prior: Prior, space: Space) -> Favoured:
    """Return which share of random configs a prior favours, and of the configs that are drawn from it."""
    rng = random.Random(0)
    draws = (space.sample(rng)[0] for _ in range(NUM_SAMPLES)), (prior.sample(rng) for _ in range(NUM_SAMPLES))
    among, drawn = (sum(prior.log_density(params) > 0 for params in configs) / NUM_SAMPLES for configs in draws)
    return Favoured(among, drawn)


def _memory(
    spec: Spec, example: TrialConfig, models: tuple[ModelConfig, ModelConfig], trains: list[TrainConfig]
) -> tuple[int, int]:
    """Return the predicted bytes of the first model with the smallest batch, and of the second with the largest."""
    from vattn.training.memory import training_memory  # it imports what builds networks, which takes a second

    by_batch = sorted(trains, key=lambda train: train.batch)
    configs = [
        example.model_copy(update={"model": model, "train": train})
        for model, train in zip(models, (by_batch[0], by_batch[-1]), strict=True)
    ]
    least, most = (training_memory(config, spec.classes, spec.resources.fewest).total for config in configs)
    return least, most


def _check_train(spec: Spec, configs: list[TrainConfig]) -> None:
    """Raise SpecError if workers cannot share a batch evenly, or initial weights do not exist or are chosen twice."""
    workers = spec.resources.fewest
    if uneven := sorted({train.batch for train in configs if train.batch % workers}):
        rule = f"must divide train.batch, which they share; {', '.join(map(str, uneven))} cannot be shared so"
        raise spec.error(Problem(("resources", "workers"), rule, str(workers)))
    for train in configs:
        if rule := train.uneven_parts(workers):
            rule = f"{rule}; take a divisor of it"
            raise spec.error(Problem(("trial", "train", "accumulate"), rule, str(train.accumulate)))
    for teacher in {train.distill.checkpoint for train in configs if train.distill != "none"}:
        if not Path(teacher).is_file():
            rule = "there is no such file; name the weights of the teacher"
            raise spec.error(Problem(("trial", "train", "distill", "checkpoint"), rule, teacher))
    for weights in {train.weights for train in configs if train.weights}:
        if spec.search.inherit != "none":
            rule = f"search.inherit, {spec.search.inherit}, chooses the weights; write scratch, or inherit: none"
            raise spec.error(Problem(("trial", "train", "init"), rule, str(weights)))
        path = ("trial", "train", "init")
        if not weights.is_file():
            raise spec.error(Problem(path, "there is no such file; name another", str(weights)))


def _check_file(spec: Spec, file: Path, path: tuple[str, ...]) -> None:
    if not file.is_file():
        raise spec.error(Problem(path, "there is no such file; name another", str(file)))
    try:
        refuse_other_files(file)
    except UserError as error:
        raise spec.error(Problem(path, f"{error.rule}; name another")) from None


def _differ(spec: Spec) -> bool:
    """Return whether the views of trials differ in their number or size."""
    return len({(views.clips * views.crops, views.size) for views in spec.views}) > 1


def _refuse_if_certain(spec: Spec, costs: list[dict[str, float]], exact: bool) -> None:
    """Raise SpecError if it is certain that no config of the space is within the limits.

    It is, if all architectures were counted, or if even the models without their mechanisms are over a limit.
    """
    lowest = costs if exact else _without_mechanisms(spec)
    for name, limit in spec.constraints.items():
        values = [cost[name] for cost in lowest if name in cost]
        if limit.max is not None and values and min(values) > limit.max:
            raise spec.error(_impossible(name, "max", "lowest", _rounded_up(min(values)), "raise", limit.max))
        if limit.min is not None and exact and values and max(values) < limit.min:
            raise spec.error(_impossible(name, "min", "highest", _rounded_down(max(values)), "lower", limit.min))
    if exact:
        raise spec.error(Problem(("constraints",), "no config meets all of these limits at once; loosen one of them"))


def _impossible(name: str, end: str, which: str, value: float, change: str, limit: float) -> Problem:
    rule = f"no config meets this limit: the {which} {name} is {value:g}; {change} the limit to that"
    return Problem(("constraints", name, end), rule, f"{limit:g}")


def _without_mechanisms(spec: Spec) -> list[dict[str, float]]:
    """Return the costs of all models of the space without their mechanisms, which only add to a cost.

    The list is empty if they cannot all be counted.
    """
    try:
        space = Space(spec.trial["model"] | {"attention": []})
        models, exact = combinations(space)
    except SpaceError:  # the whole model section is a choice
        return []
    configs = [ModelConfig.parse(tree) for _, tree in models] if exact else []
    return [spec.cost_of(model, views) for model in configs for views in spec.views]


def _rounded_up(value: float) -> float:
    """Return the value rounded up to four digits: as an upper limit it admits the value."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3) if value else 1.0
    return float(f"{math.ceil(value / unit) * unit:.4g}")


def _rounded_down(value: float) -> float:
    """Return the value rounded down to four digits: as a lower limit it admits the value."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3) if value else 1.0
    return float(f"{math.floor(value / unit) * unit:.4g}")

"""What a run of MLflow is called, and its parameters and tags: few, short, and right for its page of comparisons."""

import math
from collections.abc import Mapping
from typing import Any

from search.analysis.certainty import first_measured, measured_objective
from search.analysis.choices import domains_of
from search.analysis.front import front_of, settled
from search.analysis.pareto import Objectives
from search.analysis.runs import cost_objective
from search.ledger.history import History, Trial
from search.report.wording.trials import (
    describe,
    describe_stages,
    mechanism_kinds,
    parts,
    range_keys,
    searched_values,
)
from search.report.wording.values import format_metric, format_value

#: the value of a parameter that a trial does not have. MLflow draws a missing one above all others.
NOT_USED = "-"

#: units of costs in a name
_UNITS = {"gflops": "G", "gflops_video": "G a video", "params_m": "M", "activation_mb": "MB", "latency_ms": "ms"}


def run_name(trial: Trial, state: str, objectives: Objectives) -> str:
    """Return the name of a trial's run, such as "71.2 % · 1.83 G · tam a2 b4 K3 res4-5 b, T8 · trial 7".

    A trial that was stopped early has its last value, and one that has not ended its state.
    """
    measured = first_measured(objectives, trial.cost)
    value = trial.metrics.get(measured)
    result = state
    if value is not None and state in ("finished", "stopped"):
        result = format_metric(measured, value) if state == "finished" else f"stopped {format_metric(measured, value)}"
    cost = cost_objective(objectives, trial.cost)
    costs = [f"{trial.cost[cost]:.3g} {_UNITS.get(cost, cost)}"] if cost in trial.cost else []
    return " · ".join([result, *costs, describe(trial).replace("@res", "res"), f"trial {trial.number}"])


def run_params(trial: Trial, names: Mapping[str, None]) -> dict[str, str]:
    """Return a trial's searched values as parameters; those of ``names`` that it does not use are `NOT_USED`."""
    values = {short_name(name): format_value(value) for name, value in searched_values(trial).items()}
    return dict.fromkeys(names, NOT_USED) | values


def param_names(spec: Mapping[str, Any]) -> dict[str, None]:
    """Return the names of the parameters that the trials of a spec can have, in the order of the space."""
    names = [".".join(range_keys(name)[0]) for name in domains_of(spec)]
    return dict.fromkeys(["attention", *(short_name(name) for name in names if name != "model.attention")])


def short_name(name: str) -> str:
    """Return the name of a range as a parameter: "tam.alpha" of "model.attention.tam.alpha", "frames".

    MLflow's page of comparisons begins with the first three that differ, in the order of the alphabet: mechanism,
    backbone and frames should be among them.
    """
    short = name.removeprefix("model.")
    inner = short.removeprefix("attention.")
    return short if inner[0].isdigit() else inner


def trial_tags(trial: Trial) -> dict[str, str]:
    """Return what a trial is, for filters: what kind of training, its mechanism, backbone and stages."""
    model = trial.config["model"]
    tags = {"kind": "base" if trial.base else "trial" if trial.confirms is None else "fresh seed"}
    tags["mechanism"] = mechanism_kinds(trial)
    if backbone := model.get("backbone"):
        tags["backbone"] = " ".join(str(backbone[key]) for key in ("kind", "depth") if key in backbone)
    if stages := sorted({stage for module in model["attention"] for stage in module.get("stages", [])}):
        tags["stages"] = describe_stages(stages)
    if trial.source is not None:
        tags["inherits"] = str(trial.source)
    if trial.confirms is not None:
        tags["confirms"] = str(trial.confirms)
    if parts(trial) > 1:
        tags["parts"] = str(parts(trial))
    return tags


def standings(history: History, objectives: Objectives) -> dict[int, dict[str, str]]:
    """Return the tags of each finished trial that depend on the others: its rank, and whether it is on the front.

    Rank 1 has the best measured objective; of equal trials the cheaper is first. Once the front is confirmed, both are
    by the means of fresh seeds, and trials without have no rank.
    """
    name = measured_objective(history, objectives)
    sign = -1 if objectives[name] == "max" else 1
    finished = history.in_state("finished")
    front = {trial.number for trial in front_of(history, objectives)}

    def order(trial: Trial) -> tuple[float, float]:
        return sign * trial.metrics[name], trial.cost.get(cost_objective(objectives, trial.cost), 0.0)

    judged = settled(history, objectives) or finished
    ranked = sorted((trial for trial in judged if math.isfinite(trial.metrics.get(name, math.nan))), key=order)
    ranks = {trial.number: str(rank) for rank, trial in enumerate(ranked, start=1)}
    return {
        trial.number: {"rank": ranks.get(trial.number, "none"), "front": "yes" if trial.number in front else "no"}
        for trial in finished
    }

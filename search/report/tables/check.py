"""The text of `vattn check`: how many models a search chooses among, their cost, and its budget."""

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from search.spec.check import Check
from search.spec.sections import Limit
from search.spec.validation import NUM_SAMPLES

#: unit of each cost
_UNITS = {
    "gflops": "1e9 multiply-adds a clip",
    "params_m": "1e6 parameters",
    "activation_mb": "1e6 bytes a clip",
    "gflops_video": "1e9 multiply-adds of all views of a video",
}

#: where the weights of a trial come from, by `search.inherit`
_WEIGHTS = {
    "none": "",
    "base": "from the same model without mechanisms; it is trained first, and not counted in the budget of trials",
    "parent": "from the nearest finished trial of the same backbone",
}


def render(check: Check) -> str:
    """Return the text that `vattn check` prints."""
    return "\n".join([f"{check.name}: spec is valid", "", *_count(check), "", *_costs(check), "", *_budget(check)])


def as_tree(check: Check) -> dict[str, Any]:
    """Return the numbers that `render` prints, for machines."""
    costs = {
        name: {"least": min(values), "median": median(values), "most": max(values)} for name, values in _by_cost(check)
    }
    trials, hours, gpu_hours = check.budget
    return {
        "name": check.name,
        "architectures": len(check.architectures),
        "exact": check.exact,
        "combinations": check.combinations,
        "within_limits": check.within,
        "trials": check.trials,
        "costs": costs,
        "budget": {"trials": trials, "hours": hours, "gpu_hours": gpu_hours},
        "epochs": check.epochs,
        "weights": check.taken,
        "prior": None if check.prior is None else {"favoured": check.prior.among, "drawn": check.prior.drawn},
        "start": check.starts,
    }


def _count(check: Check) -> list[str]:
    number = len(check.architectures)
    if check.exact:
        lines = [f"architectures  {number:,} distinct, of {check.combinations:,} combinations"]
    else:
        size = "is infinite" if check.combinations is None else f"has {check.combinations:,} combinations"
        lines = [
            f"architectures  {number:,} distinct in a sample of {NUM_SAMPLES:,}; the space {size}, not all counted"
        ]
    if counted := {name: limit for name, limit in check.limits.items() if name in _UNITS}:
        limits = ", ".join(_limit(name, limit) for name, limit in counted.items())
        lines.append(f"within limits  {check.within:,} of these ({limits})")
        if not check.within:
            lines.append("               none of the sample, which proves nothing: the search samples more")
    if measured := [_limit(name, limit) for name, limit in check.limits.items() if name not in _UNITS]:
        lines.append(f"not counted    {', '.join(measured)}: it is measured before a trial")
    if check.trials is not None:
        lines.append(f"trials         {check.trials:,} distinct; the search ends by itself when all are done")
    return lines


def _limit(name: str, limit: Limit) -> str:
    low = "" if limit.min is None else f"{limit.min:g} <= "
    high = "" if limit.max is None else f" <= {limit.max:g}"
    return f"{low}{name}{high}"


def _costs(check: Check) -> list[str]:
    lines = [f"{'cost':13}  {'least':>9} {'median':>9} {'most':>9}"]
    for name, values in _by_cost(check):
        lines.append(f"{name:13}  {min(values):9.4g} {median(values):9.4g} {max(values):9.4g}  {_UNITS[name]}")
    if check.uncounted_views:
        lines += ["", "trials differ in their views, which gflops does not count; the objective gflops_video does"]
    return [*lines, "", *_histogram([cost["gflops"] for cost in check.architectures])]


def _by_cost(check: Check) -> Iterator[tuple[str, Sequence[float]]]:
    """Yield the name of each cost, and its values over the architectures; for a video, over the views too."""
    for name in _UNITS:
        values = check.videos if name == "gflops_video" else [cost[name] for cost in check.architectures]
        if values:
            yield name, values


def _histogram(values: list[float], bins: int = 8, width: int = 40) -> list[str]:
    """Return the lines of a histogram of GFLOPs with equal bins; the longest bar has ``width`` characters."""
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
    limits = [] if trials is None else [f"{trials:,} trials of {epochs} epochs, at most {trials * most:,} epochs"]
    limits += [] if hours is None else [f"{hours:g} hours"]
    limits += [] if gpu_hours is None else [f"{gpu_hours:g} GPU-hours"]
    lines = ["budget         " + "; or ".join(limits) + (f"; trials have {epochs} epochs" if trials is None else "")]
    if (mean := check.expected_epochs) is not None:
        total = "" if trials is None else f", {math.ceil(trials * mean):,} in all"
        lines.append(
            f"with halving   from {mean:.1f} epochs a trial on average{total}; more if few trials are dominated"
        )
    if check.memory is not None:
        least, most = (f"{bytes_ / 1e9:.3g}" for bytes_ in check.memory)
        lines.append(f"GPU memory     {least} to {most} GB of a worker in training, predicted")
    lines += [f"weights        {taken}" for taken in check.taken]
    if check.prior is not None:
        lines.append(
            f"prior          favours {_share(check.prior.among)} of random configs, and {_share(check.prior.drawn)} of "
            "those that are drawn from it"
        )
    if check.starts:
        lines.append(f"start          {check.starts} config{'s' * (check.starts > 1)} tried first, after the baseline")
    lines += _inheritance(check)
    if check.confirm is not None:
        top, seeds = check.confirm
        lines.append(
            f"confirmation   on top of the budget: {seeds} trainings of each trial of the front, and of the {top} "
            "that miss it by least"
        )
    return lines


def _share(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.995 else f"{100 * value:.0f} %"


def _inheritance(check: Check) -> list[str]:
    lines = [f"weights        {weights}"] if (weights := _WEIGHTS[check.inherit]) else []
    identity, not_identity = (
        sorted(kind for kind, reason in check.no_identity.items() if bool(reason) is has_reason)
        for has_reason in (False, True)
    )
    if identity:
        lines.append(f"mechanisms     start as the identity: {', '.join(identity)}")
    if not_identity:
        lines.append(
            f"mechanisms     cannot be the identity, and start with their default weights: {', '.join(not_identity)}"
        )
    return lines

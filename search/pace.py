"""How long trials take, learnt from those that ran, so that none starts that could not end within the budget."""

from collections.abc import Mapping
from statistics import median

import numpy as np

from search.ledger import History


def seconds_an_epoch(history: History, gflops: float) -> float | None:
    """Return how long an epoch of a model of that cost takes, in seconds; None before the first one has ended.

    The logarithm of a trial's median epoch is fitted by that of its GFLOPs, with a slope of 0 (cost does not matter)
    to 1 (nothing else does); of fewer than three different costs it is 0.
    """
    seen = [
        (np.log(max(trial.cost["gflops"], 1e-12)), np.log(max(median(seconds), 1e-6)))
        for trial in [*history.trials.values(), *history.extras.values()]
        if (seconds := [report["seconds"] for report in trial.reports])
    ]
    if not seen:
        return None
    cost, time = np.array(seen).T
    slope = np.clip(np.polyfit(cost, time, 1)[0], 0.0, 1.0) if len(set(cost.tolist())) >= 3 else 0.0
    level = np.median(time - slope * cost)
    return float(np.exp(level + slope * np.log(max(gflops, 1e-12))))


def cannot_end(
    history: History, cost: Mapping[str, float], epochs: int, hours: float | None, gpu_hours: float | None, gpus: float
) -> str | None:
    """Return why a trial of that cost, on so many GPUs, cannot end within what is left of the budget; None if it can.

    What the running trials still take, should they go on to their end, is not left of GPU-hours.
    """
    pace = seconds_an_epoch(history, cost["gflops"])
    if pace is None:
        return None
    needs = epochs * pace
    if hours is not None and needs > (left := 3600 * hours - history.active):
        return f"would take about {needs:.0f} s, and of the budget {max(left, 0):.0f} s are left"
    if gpu_hours is None:
        return None
    left = 3600 * gpu_hours - history.gpu_seconds
    for trial in history.under_way():
        rest = trial.config["train"]["epochs"] - trial.epoch
        left -= gpus * rest * (seconds_an_epoch(history, trial.cost["gflops"]) or 0.0)
    if gpus * needs > left:
        return f"would take about {gpus * needs:.0f} GPU-seconds, and of the budget {max(left, 0):.0f} are left"
    return None

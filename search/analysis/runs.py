"""The trainings of a search as points: cost, final value and its error, with forecasts for those that were stopped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from search.analysis.certainty import measured_objective
from search.analysis.intervals import Z, by_clips, num_clips
from search.analysis.learning_curves import OFFSET, Curve, Curves, errors
from search.analysis.pareto import Objectives
from search.ledger.history import History, Trial


@dataclass(frozen=True)
class Run:
    """A finished trial, or the forecast of a stopped one."""

    trial: Trial
    cost: float
    """of the cost that the search weighs, or gflops"""
    value: float
    """the measured objective after the last epoch: measured, or forecast"""
    error: float
    """standard deviation of ``value``: by the number of clips, or of the forecast"""
    is_forecast: bool


def cost_objective(objectives: Objectives, cost: dict[str, float]) -> str:
    """Return the cost at which models are compared: the first that is an objective, else the first of all."""
    return next((name for name in objectives if name in cost), next(iter(cost), "gflops"))


def runs_of(history: History, objectives: Objectives) -> list[Run]:
    """Return the finished trials, and the stopped ones with forecasts of their final values, by number.

    A forecast is that of `Curves` over all trials of the search; a trial without one is left out.
    """
    name, clips = measured_objective(history, objectives), num_clips(history)
    direction = objectives[name]
    curves = {trial.number: _curve(trial, name) for trial in history.trials.values() if trial.reports}
    costs = {number: _cost(history.trials[number], objectives) for number in curves}

    def known(number: int) -> Curve:
        trial = history.trials[number]
        cost = costs[number] if math.isfinite(costs[number]) else None
        return Curve(errors(curves[number], direction), trial.epochs, trial.why.get("predicted_error"), cost)

    forecast = Curves([known(number) for number, curve in curves.items() if curve])
    runs = []
    for number, curve in curves.items():
        trial, cost = history.trials[number], costs[number]
        if not curve or not math.isfinite(cost):
            continue
        if trial.state == "finished":
            estimate = by_clips(name, curve[-1], clips)
            error = (estimate.high - estimate.low) / (2 * Z) if estimate.is_known else 0.0
            runs.append(Run(trial, cost, curve[-1], error, is_forecast=False))
        elif trial.state == "stopped" and (log_error := forecast.forecast(known(number))):
            mean, deviation = log_error
            error = math.exp(mean) - OFFSET
            value = 1 - error if direction == "max" else error
            # The standard deviation is that of the logarithm.
            runs.append(Run(trial, cost, value, math.exp(mean) * deviation, is_forecast=True))
    return [run for run in runs if math.isfinite(run.value)]


def _cost(trial: Trial, objectives: Objectives) -> float:
    return trial.cost.get(cost_objective(objectives, trial.cost), math.nan)


def _curve(trial: Trial, name: str) -> Sequence[float]:
    return [report.metrics[name] for report in trial.reports if name in report.metrics]

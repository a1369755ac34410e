"""The trials of a search as plain rows for the drawings of a page."""

import math
from collections.abc import Sequence
from typing import Any

from search.analysis.certainty import Certainty
from search.analysis.choices import domains_of, ranges_of
from search.analysis.course import Attempt
from search.analysis.intervals import Z
from search.analysis.metrics import RATES
from search.analysis.runs import Run
from search.ledger.events import Failed, Stopped
from search.ledger.history import History, Trial
from search.report.wording.errors import first_line
from search.report.wording.trials import describe, mechanism_kinds
from spaces.space import Choice, Domain, Float, Int, Subset

#: epochs of a curve that are drawn at most; of a longer one, evenly spaced epochs
MAX_EPOCHS = 60
#: values of a range that an axis names
_NAMED = 24


def kinds_of(history: History) -> list[str]:
    """Return the kinds of mechanisms of all trials: none first, then by name."""
    kinds = {mechanism_kinds(trial) for trial in history.trials.values()}
    return sorted(kinds, key=lambda kind: (kind != "no attention", kind))


def trial_rows(
    history: History, sure: Certainty, runs: Sequence[Run], spans: Sequence[Attempt], kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for each trial of the search.

    Rates are in percent. A value that is not known is None, as JSON has no NaN.
    """
    forecasts = {run.trial.number: run for run in runs if run.is_forecast}
    on_front = {trial.number for trial in sure.front}
    times: dict[int, list[list[float]]] = {}
    for span in spans:
        times.setdefault(span.trial, []).append([span.lane, round(span.start, 1), round(span.end, 1)])
    return [
        _row(trial, sure, forecasts.get(trial.number), kinds) | {
            "front": trial.number in on_front, "spans": times.get(trial.number, []),
        }
        for trial in history.trials.values()
    ]  # fmt: skip


def _row(trial: Trial, sure: Certainty, forecast: Run | None, kinds: Sequence[str]) -> dict[str, Any]:
    name = sure.name
    curve = [(report.epoch, report.metrics[name]) for report in trial.reports if name in report.metrics]
    if len(curve) > MAX_EPOCHS:
        step = (len(curve) - 1) / (MAX_EPOCHS - 1)
        curve = [curve[round(n * step)] for n in range(MAX_EPOCHS)]
    estimate = sure.estimates.get(trial.number)
    value = estimate.value if estimate else trial.metrics.get(name, math.nan)
    row: dict[str, Any] = {
        "n": trial.number,
        "state": trial.state,
        "kind": kinds.index(mechanism_kinds(trial)),
        "model": describe(trial),
        "cost": {key: number(amount) for key, amount in trial.cost.items()},
        "y": shown(name, value),
        "low": shown(name, estimate.low) if estimate else None,
        "high": shown(name, estimate.high) if estimate else None,
        "epochs": [trial.epoch, trial.epochs],
        "seconds": round(trial.seconds, 1),
        "curve": [[epoch, shown(name, measured)] for epoch, measured in curve],
    }
    if forecast:
        half = Z * forecast.error
        row["forecast"] = [shown(name, v) for v in (forecast.value, forecast.value - half, forecast.value + half)]
    match trial.end:
        case Stopped(reason=reason):
            row["reason"] = reason
        case Failed(error=error):
            row["reason"] = first_line(error)
    return row


def shown(name: str, value: float) -> float | None:
    """Return a metric as it is drawn: a rate in percent; None where it is not finite."""
    return number(100 * value if name in RATES else value)


def number(value: float) -> float | None:
    """Return a number with six digits; None where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def axes(history: History) -> list[dict[str, Any]]:
    """Return an axis for each range that trials have, in the order of the space, with the place of each trial on it.

    A place is an index into ``labels``, or a number between ``low`` and ``high``. It is None where the range is not
    active in a trial.
    """
    trials = list(history.trials.values())
    domains = domains_of(history.began.spec)
    return [
        _axis(name, domains.get(name), [trial.params.get(name) for trial in trials])
        for name in ranges_of(domains, trials)
    ]


def _axis(name: str, domain: Domain | None, params: list[Any]) -> dict[str, Any]:
    axis: dict[str, Any] = {"name": name, "short": name.removeprefix("model.").removeprefix("train.")}
    match domain:
        case Choice(shown=shown):
            return axis | {"labels": list(shown), "at": params}
        case Subset(labels=labels):
            texts = [None if value is None else "+".join(labels[i] for i in value) or "none" for value in params]
        case Int(lo=lo, hi=hi, log=log) | Float(lo=lo, hi=hi, log=log):
            return axis | {"low": lo, "high": hi, "log": log, "at": params}
        case _:
            texts = [None if value is None else str(value) for value in params]
    known = sorted({text for text in texts if text is not None}, key=lambda text: (text.count("+"), text))
    places = {text: n for n, text in enumerate(known)}
    at = [None if text is None else places[text] for text in texts]
    return axis | {"labels": known if len(known) <= _NAMED else ["" for _ in known], "at": at}

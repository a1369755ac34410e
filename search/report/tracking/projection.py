"""MLflow: a search as one run with a child run a trial, rebuilt from the ledger wherever something is missing.

The only file that knows MLflow. It is a projection: nothing reads back what it writes, except to see what is there.
"""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.analysis.front import covered, front_of
from search.ledger.events import Event
from search.ledger.history import History, Trial
from search.report.describe import describe, searched
from search.report.plot import figure_html, figure_png
from search.report.table import table
from search.report.tracking.store import TAG_EVENTS, TAG_LOGGED, TAG_SEARCH, TAG_STATE, TAG_TRIAL, Store, complete_tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

#: seconds between two writes of the front and its pictures, and between two attempts where the server is away
WRITE_INTERVAL = 20.0


#: how MLflow calls our states; an interrupted trial is scheduled, as a resume takes it up again
_STATUS = {
    "proposed": "SCHEDULED",
    "interrupted": "SCHEDULED",
    "running": "RUNNING",
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}


_PARENT = "mlflow.parentRunId"


class RunWriter:
    """What MLflow has of one search, and how to bring it up to date."""

    def __init__(self, store: Store, history: History) -> None:
        self._client, self._experiment = store.connect()
        self._search = history.began.id
        self._objectives, self._constraints = history.objectives, history.constraints
        self._parent: Run | None = None
        self._runs: dict[int, Run] = {}
        self._drawn: float | None = None
        self._stale = False
        for run in self._find():
            if _PARENT in run.data.tags:
                self._runs[int(run.data.tags[TAG_TRIAL])] = run
            else:
                self._parent = run

    def _find(self) -> "list[Run]":
        """Return the runs of this search, oldest first: a parent stands before its children."""
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.{TAG_SEARCH} = '{self._search}'", order_by=["start_time"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def holds(self, events: int) -> bool:
        """Whether all of the search is there, which has this many events."""
        return self._parent is not None and self._parent.data.tags.get(TAG_EVENTS) == complete_tag(events)

    def update(self, history: History, changed: set[int], events: int, closing: bool) -> None:
        """Write what is new of the ``changed`` trials, and of the search; the pictures now and then.

        ``events`` is how many the history is made of.
        """
        if self._drawn is None:
            self._begin(history)
            self._drawn = -math.inf
        assert self._parent is not None
        running = {trial.number for trial in history.running()} if closing else set()
        for number in sorted(changed | running):
            trial = history.trial(number)
            if trial.starts:
                self._update_trial(trial, closing)
        logged = int(self._parent.data.tags.get(TAG_LOGGED, 0))
        if fresh := _volumes(history, self._objectives, self._constraints, logged):
            tags = {TAG_LOGGED: str(logged + len(fresh))}
            log_batch(self._client, self._parent, metrics=fresh, tags=tags)
            self._stale = True
        if closing or (self._stale and time.monotonic() - self._drawn > WRITE_INTERVAL):
            self._draw(history, self._parent.info.run_id)
            self._drawn, self._stale = time.monotonic(), False
        complete = history.ended is not None and history.ended["reason"] != "interrupted"
        status = "RUNNING" if not closing else "FINISHED" if complete else "KILLED"
        self._set_status(self._parent, status, history.ended)
        if closing:
            log_batch(self._client, self._parent, tags={TAG_EVENTS: complete_tag(events)})
        self._parent = self._client.get_run(self._parent.info.run_id)

    def _begin(self, history: History) -> None:
        if self._parent is None:
            start, name = _ms(history.began.time), history.name
            self._parent = self._client.create_run(self._experiment, start, {TAG_SEARCH: self._search}, run_name=name)
        spec = yaml.safe_dump(history.began.spec, sort_keys=False)
        self._client.log_text(self._parent.info.run_id, spec, "spec.yaml")

    def _update_trial(self, trial: Trial, closing: bool) -> None:
        start, run = _ms(trial.starts[0].time), self._runs.get(trial.number)
        if run is None:
            assert self._parent is not None
            tags = {TAG_SEARCH: self._search, TAG_TRIAL: str(trial.number), _PARENT: self._parent.info.run_id}
            name = f"{trial.number:03d} {describe(trial)}"
            run = self._client.create_run(self._experiment, start, tags, run_name=name)
        fresh = "attention" not in run.data.params
        logged = int(run.data.tags.get(TAG_LOGGED, 0))
        state = "interrupted" if closing and trial.state == "running" else trial.state
        tags = {TAG_STATE: state, TAG_LOGGED: str(max(logged, trial.epoch))}
        if trial.source is not None:
            tags["inherits"] = str(trial.source)
        if trial.end and (reason := trial.end.get("reason") or trial.end.get("error")):
            tags["reason"] = reason
        new = {key: value for key, value in tags.items() if run.data.tags.get(key) != value}
        metrics = (to_metrics(trial.cost, start, step=0) if fresh else []) + _epochs(trial, logged)
        if metrics or new or run.info.status != _STATUS[state]:  # a resume changes nothing of most
            log_batch(self._client, run, metrics, searched(trial) if fresh else {}, new)
            self._set_status(run, _STATUS[state], trial.end)
            run = self._client.get_run(run.info.run_id)
        self._runs[trial.number] = run

    def _set_status(self, run: "Run", status: str, end: Event | None) -> None:
        """Set a run's status where it differs, with the time at which the ledger says it ended."""
        if run.info.status == status:
            return
        if status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(run.info.run_id, status=status)
        else:
            self._client.set_terminated(run.info.run_id, status=status, end_time=_ms(end.time) if end else None)

    def _draw(self, history: History, parent: str) -> None:
        front = table(front_of(history, self._objectives), self._objectives)
        self._client.log_dict(parent, {"objectives": dict(self._objectives), "front": front}, "front.json")
        with tempfile.TemporaryDirectory() as folder:
            for name, draw in (("pareto.html", figure_html), ("pareto.png", figure_png)):
                draw(history, self._objectives, Path(folder) / name)
                self._client.log_artifact(parent, str(Path(folder) / name))


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _text(value: Any) -> str:
    return str(value)[:500]


def to_metrics(values: Mapping[str, float], at: int, step: int) -> "list[Metric]":
    from mlflow.entities import Metric

    return [Metric(key, float(value), at, step) for key, value in values.items()]


def _epochs(trial: Trial, logged: int) -> "list[Metric]":
    """Return the metrics of the epochs after ``logged``, and the seconds trained so far."""
    result, seconds = [], 0.0
    for report in trial.reports:
        seconds += report["seconds"]
        if report["epoch"] > logged:
            result += to_metrics(report["metrics"] | {"seconds": seconds}, _ms(report.time), report["epoch"])
    return result


def _volumes(history: History, objectives: Any, constraints: Any, logged: int) -> "list[Metric]":
    """Return the hypervolume after each finished trial but the first ``logged``, in the order of their ends.

    The step is the number of finished trials. `covered` says from where it is measured.
    """
    ended = [(trial.end.time, trial) for trial in history.in_state("finished") if trial.end]
    ended.sort(key=lambda pair: pair[0])
    finished = [trial for _, trial in ended]
    result = []
    for n in range(logged + 1, len(finished) + 1):
        volume = covered(finished[:n], objectives, constraints)
        result += to_metrics({"hypervolume": volume}, _ms(ended[n - 1][0]), n)
    return result


def log_batch(
    client: "MlflowClient",
    run: "Run",
    metrics: "Sequence[Metric]" = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Write in one batch, or in several where MLflow's limits ask for it; each costs a database several commits.

    Within a batch MLflow writes parameters, metrics and tags in this order: "logged" is never ahead of the metrics.
    What is written twice after a crash is there once: equal values of one time and step are one row.
    """
    from mlflow.entities import Param, RunTag

    named = [Param(key, _text(value)) for key, value in (params or {}).items()]
    tagged = [RunTag(key, _text(value)) for key, value in (tags or {}).items()]
    rounds = max(math.ceil(len(metrics) / 800), math.ceil(len(named) / 100), bool(tagged))
    for n in range(rounds):
        last = tagged if n == rounds - 1 else []
        client.log_batch(run.info.run_id, metrics[800 * n : 800 * (n + 1)], named[100 * n : 100 * (n + 1)], last)

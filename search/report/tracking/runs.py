"""A search in MLflow: one run with a child run for each trial, brought up to date with the ledger's history."""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from search.analysis.front import Coverage, front_of
from search.ledger.events import Event, Failed, Stopped
from search.ledger.history import History, Trial
from search.report.page.content import content
from search.report.page.files import write_page
from search.report.plots.html import front_html
from search.report.plots.png import front_png
from search.report.tables.front import rows
from search.report.tracking.batches import log_batch, to_metrics
from search.report.tracking.store import (
    TAG_EVENTS,
    TAG_LOGGED,
    TAG_SEARCH,
    TAG_STATE,
    TAG_TRIAL,
    TAG_WAITS,
    Store,
    complete_tag,
)
from search.report.wording.trials import describe, searched_values

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

#: seconds between two writes of the front and its pictures, and between two attempts to reach a store
WRITE_INTERVAL = 20.0

#: MLflow's status for each state; an interrupted trial is scheduled, as a resume continues it
_STATUS = {
    "proposed": "SCHEDULED",
    "interrupted": "SCHEDULED",
    "running": "RUNNING",
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}

#: MLflow's own tag of a child run
_PARENT = "mlflow.parentRunId"


@dataclass
class _Written:
    """What MLflow has of one run. It is kept here, because MLflow takes as long to read a run as to write to it."""

    run_id: str
    status: str
    tags: dict[str, str]
    has_params: bool

    @classmethod
    def of(cls, run: "Run") -> Self:
        """Return what MLflow has of ``run``."""
        return cls(run.info.run_id, run.info.status, dict(run.data.tags), "attention" in run.data.params)


class RunWriter:
    """The runs of one search in MLflow: knows what is written, and writes what is new."""

    def __init__(self, store: Store, history: History) -> None:
        self._client, self._experiment = store.connect()
        self._search = history.began.id
        self._objectives = history.objectives
        self._coverage = Coverage(history.objectives, history.constraints)
        self._volumes: list[tuple[int, int, float]] = []
        self._parent: _Written | None = None
        self._runs: dict[int, _Written] = {}
        self._drawn: float | None = None
        self._is_stale = False
        for run in self._existing():
            if _PARENT in run.data.tags:
                self._runs[int(run.data.tags[TAG_TRIAL])] = _Written.of(run)
            else:
                self._parent = _Written.of(run)

    def _existing(self) -> "list[Run]":
        """Return the runs of this search, oldest first: a parent comes before its children."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.{TAG_SEARCH} = '{self._search}'", order_by=["start_time"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def holds(self, events: int) -> bool:
        """Whether the whole search, of that number of events, is written."""
        return self._parent is not None and self._parent.tags.get(TAG_EVENTS) == complete_tag(events)

    def update(self, history: History, changed: set[int], events: int, closing: bool, waits: str = "") -> None:
        """Write what is new in the ``changed`` trials and in the search, and now and then the pictures.

        ``events`` is the number of events in the history. With ``closing`` nothing follows: pictures and final states
        are written, and running trials are marked as interrupted. ``waits`` is what the search waits for.
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
        logged = int(self._parent.tags.get(TAG_LOGGED, 0))
        if volumes := self._hypervolumes(history)[logged:]:
            metrics = [
                metric for step, at, volume in volumes for metric in to_metrics({"hypervolume": volume}, at, step)
            ]
            self._write(self._parent, metrics=metrics, tags={TAG_LOGGED: str(logged + len(volumes))})
            self._is_stale = True
        if closing or (self._is_stale and time.monotonic() - self._drawn > WRITE_INTERVAL):
            self._draw(history, self._parent.run_id, report=closing)
            self._drawn, self._is_stale = time.monotonic(), False
        is_complete = history.ended is not None and history.ended.reason != "interrupted"
        status = "RUNNING" if not closing else "FINISHED" if is_complete else "KILLED"
        self._set_status(self._parent, status, history.ended)
        if self._parent.tags.get(TAG_WAITS, "") != waits:
            self._write(self._parent, tags={TAG_WAITS: waits})
        if closing:
            self._write(self._parent, tags={TAG_EVENTS: complete_tag(events)})

    def _begin(self, history: History) -> None:
        if self._parent is None:
            start, name = _milliseconds(history.began.time), history.name
            tags = {TAG_SEARCH: self._search}
            self._parent = _Written.of(self._client.create_run(self._experiment, start, tags, run_name=name))
        spec = yaml.safe_dump(history.began.spec, sort_keys=False)
        self._client.log_text(self._parent.run_id, spec, "spec.yaml")

    def _update_trial(self, trial: Trial, closing: bool) -> None:
        start, run = _milliseconds(trial.starts[0].time), self._runs.get(trial.number)
        if run is None:
            assert self._parent is not None
            tags = {TAG_SEARCH: self._search, TAG_TRIAL: str(trial.number), _PARENT: self._parent.run_id}
            name = f"{trial.number:03d} {describe(trial)}"
            run = _Written.of(self._client.create_run(self._experiment, start, tags, run_name=name))
            self._runs[trial.number] = run
        is_new = not run.has_params
        logged = int(run.tags.get(TAG_LOGGED, 0))
        state = "interrupted" if closing and trial.state == "running" else trial.state
        tags = {TAG_STATE: state, TAG_LOGGED: str(max(logged, trial.epoch))}
        if trial.source is not None:
            tags["inherits"] = str(trial.source)
        match trial.end:
            case Stopped(reason=reason) | Failed(error=reason) if reason:
                tags["reason"] = reason
        new_tags = {key: value for key, value in tags.items() if run.tags.get(key) != value}
        metrics = (to_metrics(trial.cost, start, step=0) if is_new else []) + _epochs(trial, logged)
        if metrics or new_tags or run.status != _STATUS[state]:  # after a resume, most trials have nothing new
            self._write(run, metrics, searched_values(trial) if is_new else {}, new_tags)
            run.has_params = True
            self._set_status(run, _STATUS[state], trial.end)

    def _write(
        self, run: _Written, metrics: "Sequence[Metric]" = (), params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        log_batch(self._client, run.run_id, metrics, params, tags)
        run.tags |= tags or {}

    def _set_status(self, run: _Written, status: str, end: Event | None) -> None:
        """Set a run's status if it differs; the time of its end is that of the event ``end``."""
        if run.status == status:
            return
        if status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(run.run_id, status=status)
        else:
            end_time = _milliseconds(end.time) if end else None
            self._client.set_terminated(run.run_id, status=status, end_time=end_time)
        run.status = status

    def _hypervolumes(self, history: History) -> list[tuple[int, int, float]]:
        """Return the hypervolume after each finished trial, in the order of their ends: step, milliseconds, volume.

        The step is the number of finished trials. `search.analysis.front.covered` says from which point it is measured.
        """
        ends = [(trial.end.time, trial) for trial in history.in_state("finished") if trial.end]
        ends.sort(key=lambda pair: pair[0])
        for time_, trial in ends[len(self._volumes) :]:
            self._volumes.append((len(self._volumes) + 1, _milliseconds(time_), self._coverage.add(trial)))
        return self._volumes

    def _draw(self, history: History, parent: str, report: bool) -> None:
        """Write the front and its pictures; at the end, as it takes seconds, also the page that explains the search."""
        front = rows(front_of(history, self._objectives), self._objectives)
        self._client.log_dict(parent, {"objectives": dict(self._objectives), "front": front}, "front.json")
        with tempfile.TemporaryDirectory() as folder:
            for name, draw in (("pareto.html", front_html), ("pareto.png", front_png)):
                draw(history, self._objectives, Path(folder) / name)
                self._client.log_artifact(parent, str(Path(folder) / name))
            if report:
                write_page(content(history, self._objectives, history.name), Path(folder) / "report.html")
                self._client.log_artifact(parent, str(Path(folder) / "report.html"))


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _epochs(trial: Trial, logged: int) -> "list[Metric]":
    """Return the metrics of the epochs after ``logged``, with the training seconds up to each as "seconds"."""
    metrics, seconds = [], 0.0
    for report in trial.reports:
        seconds += report.seconds
        if report.epoch > logged:
            metrics += to_metrics(report.metrics | {"seconds": seconds}, _milliseconds(report.time), report.epoch)
    return metrics

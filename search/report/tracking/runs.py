"""A search in MLflow: one run with a child run for each trial, brought up to date with the ledger's history."""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from search.analysis.front import front_of
from search.ledger.events import Event, Failed, Stopped
from search.ledger.history import History, Trial
from search.report.page.content import content
from search.report.page.files import write_page
from search.report.plots.png import front_png
from search.report.tables.front import rows
from search.report.tracking.batches import log_batch, to_metrics
from search.report.tracking.description import SMALL_PICTURE, TAG_NOTE, description
from search.report.tracking.progress import Progress
from search.report.tracking.rows import TAG_NAME, NewRun
from search.report.tracking.store import (
    LAYOUT,
    PARENT,
    TAG_EVENTS,
    TAG_KIND,
    TAG_LAYOUT,
    TAG_LOGGED,
    TAG_SEARCH,
    TAG_STATE,
    TAG_TRIAL,
    TAG_WAITS,
    Store,
    complete_tag,
)
from search.report.tracking.texts import param_names, run_name, run_params, standings, trial_tags
from search.report.tracking.view import view

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

#: seconds between two writes of the front and its pictures, and between two attempts to reach a store
WRITE_INTERVAL = 20.0

#: the best trials, whose ranks are kept up to date while a search runs; the others get theirs at its end
_RANKED = 20

#: width of the picture in the description, pixels
_PICTURE_WIDTH = 640

#: MLflow's status for each state; an interrupted trial is scheduled, as a resume continues it, and a trial that the
#: scheduler stopped has done its work: MLflow shows a run that was killed as a failure
_STATUS = {
    "proposed": "SCHEDULED",
    "interrupted": "SCHEDULED",
    "running": "RUNNING",
    "finished": "FINISHED",
    "stopped": "FINISHED",
    "failed": "FAILED",
}


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
        self._store, self._search = store, history.began.id
        self._client, self._experiment = store.connect(self._search)
        self._rows = store.rows(self._experiment)
        self._objectives = history.objectives
        self._params = param_names(history.began.spec)
        self._progress = Progress(history)
        self._metrics: list[tuple[int, int, dict[str, float]]] = []
        self._standings: dict[int, dict[str, str]] = {}
        self._parent: _Written | None = None
        self._runs: dict[int, _Written] = {}
        self._drawn: float | None = None
        self._is_stale = False
        self._read()

    def _read(self) -> None:
        """Find what is written already. What another version wrote in another way is deleted, to be written anew."""
        for run in self._store.runs_of(self._client, self._experiment, self._search):
            tags = run.data.tags
            if tags.get(TAG_KIND) == "training":
                continue
            if tags.get(TAG_LAYOUT) != LAYOUT:
                self._client.delete_run(run.info.run_id)
            elif TAG_TRIAL in tags:
                self._runs[int(tags[TAG_TRIAL])] = _Written.of(run)
            else:
                self._parent = _Written.of(run)

    def holds(self, history: History, events: int) -> bool:
        """Whether the whole search, of that number of events, is written, and all of its runs are there."""
        parent = self._parent
        if parent is None or parent.tags.get(TAG_EVENTS) != complete_tag(events):
            return False
        linked = {number for number, run in self._runs.items() if run.tags.get(PARENT) == parent.run_id}
        return {trial.number for trial in history.started()} <= linked

    def update(self, history: History, changed: set[int], events: int, closing: bool, waits: str = "") -> None:
        """Write what is new in the ``changed`` trials and in the search, and now and then the pictures.

        ``events`` is the number of events in the history. With ``closing`` nothing follows: pictures and final states
        are written, and running trials are marked as interrupted. ``waits`` is what the search waits for.
        """
        if self._drawn is None:
            self._begin(history)
            self._drawn = -math.inf
        assert self._parent is not None
        is_drawn = closing or (self._is_stale and time.monotonic() - self._drawn > WRITE_INTERVAL)
        changed = changed | ({trial.number for trial in history.running()} if closing else set())
        if is_drawn:
            self._standings = standings(history, self._objectives)
            changed |= {number for number, tags in self._standings.items() if self._is_moved(number, tags, closing)}
        trials = [trial for trial in map(history.trial, sorted(changed)) if trial.starts]
        self._begin_trials(trials, closing)
        for trial in trials:
            self._update_trial(trial, closing)
        logged = int(self._parent.tags.get(TAG_LOGGED, 0))
        if new := self._search_metrics(history)[logged:]:
            metrics = [metric for step, at, values in new for metric in to_metrics(values, at, step)]
            self._write(self._parent, metrics=metrics, tags={TAG_LOGGED: str(logged + len(new))})
            self._is_stale = True
        if is_drawn:
            self._draw(history, self._parent, report=closing)
            self._drawn, self._is_stale = time.monotonic(), False
        is_complete = history.ended is not None and history.ended.reason != "interrupted"
        status, state = ("FINISHED", "finished") if is_complete else ("SCHEDULED", "interrupted")
        if not closing:
            status, state = "RUNNING", "running"
        self._set_status(self._parent, status, history.ended)
        tags = {TAG_WAITS: waits, TAG_STATE: state}
        if new := {key: value for key, value in tags.items() if self._parent.tags.get(key, "") != value}:
            self._write(self._parent, tags=new)
        if closing:
            self._write(self._parent, tags={TAG_EVENTS: complete_tag(events)})

    def _begin(self, history: History) -> None:
        if self._parent is None:
            start, name = _milliseconds(history.began.time), history.name
            tags = {TAG_SEARCH: self._search, TAG_KIND: "search", TAG_LAYOUT: LAYOUT}
            self._parent = _Written.of(self._client.create_run(self._experiment, start, tags, run_name=name))
        for key, value in view(history, self._params, is_alone=self._store.is_own).items():
            self._client.set_experiment_tag(self._experiment, key, value)
        spec = yaml.safe_dump(history.began.spec, sort_keys=False)
        self._client.log_text(self._parent.run_id, spec, "spec.yaml")

    def _is_moved(self, number: int, tags: Mapping[str, str], closing: bool) -> bool:
        """Return whether a finished trial that is written has other tags now that are to be written."""
        run = self._runs.get(number)
        if run is None or not run.tags.keys() & tags.keys():
            return run is not None
        ranks = [int(rank) for rank in (tags["rank"], run.tags["rank"]) if rank.isdigit()]
        matters = closing or tags["front"] != run.tags["front"] or min(ranks, default=_RANKED) < _RANKED
        return matters and any(run.tags[key] != value for key, value in tags.items())

    def _begin_trials(self, trials: Sequence[Trial], closing: bool) -> None:
        """Write the trials that have no run yet, where that can be done without MLflow's client."""
        new = [trial for trial in trials if trial.number not in self._runs]
        if not new or self._rows is None:
            return
        wanted = [self._wanted(trial, closing, None) for trial in new]
        for trial, run, run_id in zip(new, wanted, self._rows.write(wanted), strict=True):
            self._runs[trial.number] = _Written(run_id, run.status, dict(run.tags), has_params=True)

    def _update_trial(self, trial: Trial, closing: bool) -> None:
        run = self._runs.get(trial.number)
        if run is None:
            wanted = self._wanted(trial, closing, None)
            tags = {key: wanted.tags[key] for key in (TAG_SEARCH, TAG_TRIAL, TAG_LAYOUT, PARENT)}
            run = _Written.of(self._client.create_run(self._experiment, wanted.start, tags, run_name=wanted.name))
            self._runs[trial.number] = run
        wanted = self._wanted(trial, closing, run)
        new_tags = {key: value for key, value in wanted.tags.items() if run.tags.get(key) != value}
        if wanted.metrics or new_tags or run.status != wanted.status:  # after a resume, most trials have nothing new
            self._write(run, wanted.metrics, wanted.params, new_tags)
            run.has_params = True
            self._set_status(run, wanted.status, trial.end)

    def _wanted(self, trial: Trial, closing: bool, run: _Written | None) -> NewRun:
        """Return what the run of a trial should have; of metrics and parameters only what ``run`` lacks."""
        assert self._parent is not None
        start, state = _milliseconds(trial.starts[0].time), trial.state
        state = "interrupted" if closing and state == "running" else state
        name, is_new = run_name(trial, state, self._objectives), run is None or not run.has_params
        logged = int(run.tags.get(TAG_LOGGED, 0)) if run else 0
        tags = {TAG_SEARCH: self._search, TAG_TRIAL: str(trial.number), TAG_LAYOUT: LAYOUT}
        tags |= {
            TAG_STATE: state,
            TAG_LOGGED: str(max(logged, trial.epoch)),
            PARENT: self._parent.run_id,
            TAG_NAME: name,
        }
        tags |= trial_tags(trial) | self._standings.get(trial.number, {})
        match trial.end:
            case Stopped(reason=reason) | Failed(error=reason) if reason:
                tags["reason"] = reason
        metrics = (to_metrics(trial.cost, start, step=0) if is_new else []) + _epochs(trial, logged)
        params = run_params(trial, self._params) if is_new else {}
        end = _milliseconds(trial.end.time) if trial.end else None
        return NewRun(name, _STATUS[state], start, end, metrics, params, tags)

    def _write(
        self, run: _Written, metrics: "Sequence[Metric]" = (), params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if self._rows:
            self._rows.add(run.run_id, metrics, params or {}, tags or {})
        else:
            log_batch(self._client, run.run_id, metrics, params, tags)
        run.tags |= tags or {}

    def _set_status(self, run: _Written, status: str, end: Event | None) -> None:
        """Set a run's status if it differs; the time of its end is that of the event ``end``."""
        if run.status == status:
            return
        is_open = status in ("RUNNING", "SCHEDULED")
        end_time = _milliseconds(end.time) if end and not is_open else None
        if self._rows:
            self._rows.set_status(run.run_id, status, end_time)
        elif is_open:
            self._client.update_run(run.run_id, status=status)
        else:
            self._client.set_terminated(run.run_id, status=status, end_time=end_time)
        run.status = status

    def _search_metrics(self, history: History) -> list[tuple[int, int, dict[str, float]]]:
        """Return the metrics of the search after each finished trial, in the order of their ends: step, ms, metrics.

        The step is the number of finished trials.
        """
        ends = [(trial.end.time, trial) for trial in history.in_state("finished") if trial.end]
        ends.sort(key=lambda pair: pair[0])
        for time_, trial in ends[len(self._metrics) :]:
            self._metrics.append((len(self._metrics) + 1, _milliseconds(time_), self._progress.add(trial)))
        return self._metrics

    def _draw(self, history: History, parent: _Written, report: bool) -> None:
        """Write the front, its pictures and the description; at the end also the page that explains the search.

        That page takes seconds.
        """
        front = rows(front_of(history, self._objectives), self._objectives)
        self._client.log_dict(parent.run_id, {"objectives": dict(self._objectives), "front": front}, "front.json")
        shown = content(history, self._objectives, history.name, only_front=True)
        with tempfile.TemporaryDirectory() as folder:
            write_page(shown, Path(folder) / "pareto.html")
            front_png(history, self._objectives, Path(folder) / "pareto.png")
            front_png(history, self._objectives, Path(folder) / SMALL_PICTURE, _PICTURE_WIDTH)
            if report:
                shown = content(history, self._objectives, history.name)
                write_page(shown, Path(folder) / "report.html")
            for path in sorted(Path(folder).iterdir()):
                self._client.log_artifact(parent.run_id, str(path))
        note = {TAG_NOTE: description(history, shown, parent.run_id, self._store.output)}
        if parent.tags.get(TAG_NOTE) != note[TAG_NOTE]:
            self._write(parent, tags=note)


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

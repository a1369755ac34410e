"""MLflow: a search as one run with a child run a trial, rebuilt from the ledger wherever something is missing.

The only file that knows MLflow. It is a projection: nothing reads back what it writes, except to see what is there.
"""

import logging
import math
import os
import queue
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.export import open_run, resolve_run
from search.ledger import NAME, Event, History, Ledger, Trial
from search.pareto import covered, describe, front_of, searched, spec_of, table
from search.plot import figure_html, figure_png

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from vattn.base import Config

_logger = logging.getLogger(__name__)

#: seconds between two writes of the front and its pictures, and between two attempts where the server is away
_EVERY = 20.0
#: no calls home, no lines on our stdout, no minutes of retries that hold up the end of a search, and in the server no
#: job runners: seven more processes for what a page of results has no use for
_MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
#: how MLflow calls our states; an interrupted trial is scheduled, as a resume takes it up again
_STATUS = {
    "proposed": "SCHEDULED",
    "interrupted": "SCHEDULED",
    "running": "RUNNING",
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
#: tags by which a later process finds what an earlier one has written; "events" is the last, and says that all is there
_SEARCH, _TRIAL, _STATE, _LOGGED, _EVENTS = "search", "trial", "state", "logged", "events"
_PARENT = "mlflow.parentRunId"
_LATER = "what is missing is written later, at the latest by --resume or `vattn ui`"


def tracking_uri(uri: str, output: Path) -> str:
    """Return the address of a search's MLflow store: ``auto`` is an SQLite file in its output folder."""
    return f"sqlite:///{output.resolve() / 'mlflow.db'}" if uri == "auto" else uri


class _Store:
    """Where MLflow keeps an experiment. An SQLite file is made here, and our own made anew where it is of no use."""

    def __init__(self, output: Path, uri: str, experiment: str) -> None:
        self.uri, self._experiment = tracking_uri(uri, output), experiment
        self._own = self.uri == tracking_uri("auto", output)
        self._database: Path | None = None
        self._place: str | None = None
        if self.uri.startswith("sqlite:///"):
            self._database = Path(self.uri.removeprefix("sqlite:///").partition("?")[0]).resolve()
            # A client of a database puts artifacts below the working directory unless told otherwise.
            self._place = (self._database.parent / "artifacts").as_uri()

    def connect(self) -> tuple["MlflowClient", str]:
        """Return a client and the experiment's id, creating database and experiment where they are missing."""
        mlflow = _mlflow()
        if self._database is not None:
            # No connection is kept: it would go on with a file that is gone when the database was made anew.
            os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
            if not (self.usable() and self._here() if self._own else self._database.exists()):
                self._make(self._database)
        client = mlflow.MlflowClient(self.uri)
        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            return client, client.create_experiment(self._experiment, artifact_location=self._place)
        if found.lifecycle_stage != "active":
            client.restore_experiment(found.experiment_id)
        return client, found.experiment_id

    def usable(self) -> bool:
        """Whether MLflow can open it: of our own database, whether all migrations of this version are done."""
        if not self._own:
            return True
        from alembic.script import ScriptDirectory

        migrations = Path(_mlflow().__file__).parent / "store" / "db_migrations"
        done = self._ask("SELECT version_num FROM alembic_version")
        return done == [(ScriptDirectory(str(migrations)).get_current_head(),)]

    def _here(self) -> bool:
        """Whether artifacts go to this folder: MLflow keeps absolute paths, which lead out of a moved or copied one."""
        places = self._ask("SELECT artifact_location FROM experiments WHERE name = ?", self._experiment)
        return places in ([], [(self._place,)])

    def holds(self, search: str, events: int) -> bool:
        """Whether our own database has all of a search, as it says itself: MLflow takes seconds to import."""
        found = self._ask(
            "SELECT 1 FROM experiments JOIN runs USING (experiment_id)"
            " JOIN tags AS search USING (run_uuid) JOIN tags AS events USING (run_uuid)"
            " WHERE experiments.name = ? AND artifact_location = ? AND runs.lifecycle_stage = 'active'"
            " AND search.key = ? AND search.value = ? AND events.key = ? AND events.value = ?",
            *(self._experiment, self._place, _SEARCH, search, _EVENTS, _all(events)),
        )
        return self._own and bool(found)

    def _ask(self, query: str, *values: str | None) -> list[tuple[Any, ...]]:
        """Return what a query finds in the database: nothing where it, or a table of the query, is missing."""
        if self._database is None or not self._database.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self._database.as_uri()}?mode=rw", uri=True)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:  # of which any but these says nothing of what is in it
            if error.sqlite_errorcode in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                return []
            raise

    def _make(self, database: Path) -> None:
        """Make an empty database in the place of what is there.

        MLflow takes seconds for it, and cannot go on with one that is half made. So it is made aside: a process that is
        killed leaves a whole one or none.
        """
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        database.parent.mkdir(parents=True, exist_ok=True)
        fresh = database.with_name(f"{database.name}.new")
        try:
            with tempfile.TemporaryDirectory() as folder:
                SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", self._place)
                shutil.copyfile(Path(folder) / "mlflow.db", fresh)
            # SQLite would apply the journal of a killed process to the new file.
            for end in ("", "-journal", "-wal", "-shm"):
                database.with_name(f"{database.name}{end}").unlink(missing_ok=True)
            fresh.rename(database)
        finally:
            fresh.unlink(missing_ok=True)


def _mlflow() -> Any:
    """Import MLflow, and have it keep quiet."""
    os.environ |= _MANNERS | os.environ  # MLflow reads some of them when it is imported
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It writes a traceback of each error that it raises too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def _store_of(history: History, output: Path, uri: str, experiment: str) -> _Store:
    return _Store(output, uri, history.search["name"] if experiment == "auto" else experiment)


def _warn(uri: str, error: Exception, consequence: str) -> None:
    what = str(error).partition("\n")[0]
    _logger.warning("MLflow at %s cannot be written to: %s; %s", uri, what, consequence)


class Tracker:
    """Writes a search to MLflow from a thread of its own, so that the search never waits for a database.

    Feed it every event of the ledger, replayed ones too: what MLflow has already is not written again. Where MLflow
    cannot be reached, one warning is logged, and the search goes on; what is missing is written when MLflow is back,
    or by the next replay.
    """

    def __init__(self, output: Path, uri: str = "auto", experiment: str = "auto") -> None:
        """Write to the experiment called ``experiment`` (auto: the search's name) at ``uri`` (see `tracking_uri`)."""
        self._output, self._uri, self._experiment = output, uri, experiment
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def apply(self, event: Event) -> None:
        """Take in one event; returns at once."""
        self._events.put(event)

    def close(self, timeout: float = 120.0) -> None:
        """Write what is left, for at most ``timeout`` seconds."""
        self._events.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        """Fold events and write what changed, in batches: a burst of events costs one write a trial."""
        written: _Written | None = None
        history, events, changed, open_, warned, retry = History(), 0, set[int](), True, False, 0.0
        while open_:
            batch = [self._events.get()]
            while not self._events.empty():
                batch.append(self._events.get())
            for event in batch:
                if event is None:
                    open_ = False
                else:
                    history.apply(event)
                    events += 1
                    changed |= {event["trial"]} if "trial" in event else set()
            if not history.search or (open_ and time.monotonic() < retry):
                continue
            try:
                if written is None:
                    written = _Written(_store_of(history, self._output, self._uri, self._experiment), history)
                written.update(history, changed, events, closing=not open_)
                changed, warned = set(), False
            except Exception as error:  # whatever goes wrong here, a search is worth more than its display
                retry, written = time.monotonic() + _EVERY, None
                changed = {*history.trials, *history.extras}
                if not warned:
                    _warn(tracking_uri(self._uri, self._output), error, f"the search goes on, and {_LATER}")
                warned = True


def catch_up(output: Path, uri: str, experiment: str, events: Iterable[Event]) -> bool:
    """Write what MLflow lacks of a search at which no process is at work; return whether it has all now.

    ``output``, ``uri`` and ``experiment`` are as for `Tracker`; ``events`` are all of the ledger. Where nothing is
    missing, our own database costs no import of MLflow. Where MLflow cannot be reached, one warning is logged.
    """
    history, known = History(), list(events)
    for event in known:
        history.apply(event)
    store = _store_of(history, output, uri, experiment)
    try:
        if not store.holds(history.search["id"], len(known)):
            written = _Written(store, history)
            if not written.holds(len(known)):
                written.update(history, {*history.trials, *history.extras}, len(known), closing=True)
    except Exception as error:  # as for `Tracker`
        _warn(store.uri, error, _LATER)
        return False
    return True


class _Written:
    """What MLflow has of one search, and how to bring it up to date."""

    def __init__(self, store: _Store, history: History) -> None:
        self._client, self._experiment = store.connect()
        self._search = history.search["id"]
        self._objectives, self._constraints = spec_of(history)
        self._parent: Run | None = None
        self._runs: dict[int, Run] = {}
        self._drawn: float | None = None
        self._stale = False
        for run in self._find():
            if _PARENT in run.data.tags:
                self._runs[int(run.data.tags[_TRIAL])] = run
            else:
                self._parent = run

    def _find(self) -> "list[Run]":
        """Return the runs of this search, oldest first: a parent stands before its children."""
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.{_SEARCH} = '{self._search}'", order_by=["start_time"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def holds(self, events: int) -> bool:
        """Whether all of the search is there, which has this many events."""
        return self._parent is not None and self._parent.data.tags.get(_EVENTS) == _all(events)

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
        logged = int(self._parent.data.tags.get(_LOGGED, 0))
        if fresh := _volumes(history, self._objectives, self._constraints, logged):
            tags = {_LOGGED: str(logged + len(fresh))}
            _log(self._client, self._parent, metrics=fresh, tags=tags)
            self._stale = True
        if closing or (self._stale and time.monotonic() - self._drawn > _EVERY):
            self._draw(history, self._parent.info.run_id)
            self._drawn, self._stale = time.monotonic(), False
        complete = history.ended is not None and history.ended["reason"] != "interrupted"
        status = "RUNNING" if not closing else "FINISHED" if complete else "KILLED"
        self._set_status(self._parent, status, history.ended)
        if closing:
            _log(self._client, self._parent, tags={_EVENTS: _all(events)})
        self._parent = self._client.get_run(self._parent.info.run_id)

    def _begin(self, history: History) -> None:
        if self._parent is None:
            start, name = _ms(history.search), history.search["name"]
            self._parent = self._client.create_run(self._experiment, start, {_SEARCH: self._search}, run_name=name)
        spec = yaml.safe_dump(history.search["spec"], sort_keys=False)
        self._client.log_text(self._parent.info.run_id, spec, "spec.yaml")

    def _update_trial(self, trial: Trial, closing: bool) -> None:
        start, run = _ms(trial.starts[0]), self._runs.get(trial.number)
        if run is None:
            assert self._parent is not None
            tags = {_SEARCH: self._search, _TRIAL: str(trial.number), _PARENT: self._parent.info.run_id}
            name = f"{trial.number:03d} {describe(trial)}"
            run = self._client.create_run(self._experiment, start, tags, run_name=name)
        fresh = "attention" not in run.data.params
        logged = int(run.data.tags.get(_LOGGED, 0))
        state = "interrupted" if closing and trial.state == "running" else trial.state
        tags = {_STATE: state, _LOGGED: str(max(logged, trial.epoch))}
        if trial.source is not None:
            tags["inherits"] = str(trial.source)
        if trial.end and (reason := trial.end.get("reason") or trial.end.get("error")):
            tags["reason"] = reason
        new = {key: value for key, value in tags.items() if run.data.tags.get(key) != value}
        metrics = (_metrics(trial.cost, start, step=0) if fresh else []) + _epochs(trial, logged)
        if metrics or new or run.info.status != _STATUS[state]:  # a resume changes nothing of most
            _log(self._client, run, metrics, searched(trial) if fresh else {}, new)
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
            self._client.set_terminated(run.info.run_id, status=status, end_time=_ms(end) if end else None)

    def _draw(self, history: History, parent: str) -> None:
        front = table(front_of(history, self._objectives), self._objectives)
        self._client.log_dict(parent, {"objectives": dict(self._objectives), "front": front}, "front.json")
        with tempfile.TemporaryDirectory() as folder:
            for name, draw in (("pareto.html", figure_html), ("pareto.png", figure_png)):
                draw(history, self._objectives, Path(folder) / name)
                self._client.log_artifact(parent, str(Path(folder) / name))


def _all(events: int) -> str:
    """Return the tag of a search of which all events are written; to another MLflow its database may be out of date."""
    return f"{events}, by MLflow {version('mlflow')}"


def _ms(event: Mapping[str, Any]) -> int:
    return round(1000 * event["time"])


def _text(value: Any) -> str:
    return str(value)[:500]


def _metrics(values: Mapping[str, float], at: int, step: int) -> "list[Metric]":
    from mlflow.entities import Metric

    return [Metric(key, float(value), at, step) for key, value in values.items()]


def _epochs(trial: Trial, logged: int) -> "list[Metric]":
    """Return the metrics of the epochs after ``logged``, and the seconds trained so far."""
    result, seconds = [], 0.0
    for report in trial.reports:
        seconds += report["seconds"]
        if report["epoch"] > logged:
            result += _metrics(report["metrics"] | {"seconds": seconds}, _ms(report), report["epoch"])
    return result


def _volumes(history: History, objectives: Any, constraints: Any, logged: int) -> "list[Metric]":
    """Return the hypervolume after each finished trial but the first ``logged``, in the order of their ends.

    The step is the number of finished trials. `covered` says from where it is measured.
    """
    finished = sorted(history.in_state("finished"), key=lambda trial: trial.end["time"] if trial.end else 0.0)
    result = []
    for n in range(logged + 1, len(finished) + 1):
        volume = covered(finished[:n], objectives, constraints)
        result += _metrics({"hypervolume": volume}, _ms(finished[n - 1].end or {}), n)
    return result


def _log(
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


@contextmanager
def log_training(uri: str, config: "Config", output: Path) -> Iterator[Callable[[Event], None]]:
    """Log one training at full length as one run: its config as parameters, its metrics by epoch.

    Gives a function that takes results with epoch, metrics and seconds. The run of ``output`` is taken up again where
    an earlier process began it. Where MLflow cannot be reached, one warning is logged, and the training goes on.
    """
    place, store = output.resolve(), _Store(output, uri, "train")
    try:
        client, experiment = store.connect()
        found = client.search_runs([experiment], f'tags.output = "{place}"', max_results=1)
        run = found[0] if found else client.create_run(experiment, tags={"output": str(place)}, run_name=place.name)
        known = {(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "seconds")}
        client.update_run(run.info.run_id, status="RUNNING")
        if not found:
            _log(client, run, params=flat(config.tree()))
    except Exception as error:  # a training is worth more than its record
        _warn(store.uri, error, "the training goes on without it")
        yield lambda result: None
        return
    warned = False

    def tolerant(write: Callable[[], None]) -> None:
        nonlocal warned
        try:
            write()
        except Exception as error:
            if not warned:
                _warn(store.uri, error, "the training goes on")
            warned = True

    def log(result: Event) -> None:
        if (result["epoch"], result["seconds"]) in known:
            return  # a training that goes on tells its earlier epochs first
        values = result["metrics"] | {"seconds": result["seconds"]}
        metrics = _metrics(values, round(1000 * time.time()), result["epoch"])
        tolerant(lambda: _log(client, run, metrics=metrics))

    status = "KILLED"
    try:
        yield log
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        tolerant(lambda: client.set_terminated(run.info.run_id, status=status))


def serve(search: str, port: int) -> int:
    """Serve MLflow's page for a search on loopback until interrupted; return the exit status.

    What is missing is written first, unless a process is at work on the search, which does so itself. Results on a
    tracking server are shown by that. Raises ValueError where there is no page to serve yet.
    """
    (history, _), output = open_run(search), resolve_run(search)
    tracking = {"uri": "auto", "experiment": "auto"} | (history.search["spec"].get("tracking") or {})
    store = _store_of(history, output, **tracking)
    try:
        with closing(Ledger(output / NAME)) as ledger:
            caught_up = catch_up(output, **tracking, events=ledger.replay())
    except (ValueError, OSError):  # a process holds it, or it is in a folder that is only to be read
        caught_up = True
    if store.uri.startswith("http"):
        if caught_up:
            print(f"the results are on the tracking server {store.uri}")
        return 0 if caught_up else 1
    if not store.usable():
        raise ValueError(f"{store.uri}: MLflow has no page to show there yet; try again in a minute")
    _must_be_free(port)
    print(f"MLflow shows {output} at http://127.0.0.1:{port}; stop it by Ctrl-C", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri, "--workers", "1"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], env=_MANNERS | os.environ, start_new_session=True
    )
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        # MLflow's server passes no signal on to the process that listens: the whole group must go.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _must_be_free(port: int) -> None:
    """Raise ValueError where nothing can be served on a port of this machine; MLflow would end without a word."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise ValueError(f"--port {port}: cannot be served on ({error}); name another") from None


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by their paths, such as "model.attention.0.kind"; an empty list is a leaf."""
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    leaves = {k: v for key, value in items for k, v in flat(value, f"{path}.{key}" if path else str(key)).items()}
    return leaves or {path: tree}

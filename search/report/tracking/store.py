"""Where MLflow keeps an experiment: a tracking server, a database, or the SQLite file in a search's folder.

MLflow takes seconds to import, so it is imported only where it is needed.
"""

import logging
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from search.ledger.history import History
from search.report.tracking.rows import MlflowRows
from vattn.base import identity
from vattn.errors import UserError, without_password
from vattn.files import cache_folder, network_type

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_logger = logging.getLogger(__name__)

#: environment variables of MLflow: no telemetry; no lines and bars of its own; no minutes of retries that delay the end
#: of a search; and no job runners in the server, which are seven more processes that a page of results does not need
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

#: schemes of addresses at which this process, not a server, writes to a database
DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}

#: MLflow's own tag of a child run
PARENT = "mlflow.parentRunId"
#: tags of a run, by which a later process knows what an earlier one has written: the id of its search
TAG_SEARCH = "search"
#: what it is: search, trial, base, fresh seed or training
TAG_KIND = "kind"
#: how its name, parameters and tags are written: `LAYOUT`
TAG_LAYOUT = "layout"
#: the number of its trial
TAG_TRIAL = "trial"
#: the state of its trial
TAG_STATE = "state"
#: the number of epochs of a trial, or of finished trials of a search, whose metrics are written
TAG_LOGGED = "logged"
#: what a running search waits for, on its parent run
TAG_WAITS = "waits_for"
#: written last, when the whole search is written: see `complete_tag`
TAG_EVENTS = "events"

#: value of the tag "layout", to be counted up where names, parameters or tags change: other runs are written anew
LAYOUT = "2"

#: what a warning says of results that are not written
LATER = "missing results are written later, at the latest by --resume or `vattn ui`"


def tracking_uri(uri: str, output: Path) -> str:
    """Return the address of a search's MLflow store; ``auto`` is an SQLite file in its folder ``output``.

    On a network file system, where SQLite's locks cannot be relied on, that file is in this user's cache folder
    instead, and `vattn ui` on another machine makes its own from the ledger.
    """
    if uri != "auto":
        return uri
    folder = output.resolve()
    if network_type(folder):
        folder = cache_folder() / "mlflow" / identity(str(folder))
    path = str(folder / "mlflow.db")
    # What follows a ? in a URI is no part of the path, and %2F is read as a slash. Slashes are quoted too, because
    # MLflow creates the folder of the path as it is written, which is then the working directory.
    return f"sqlite:///{quote(path, safe='') if set('%?') & set(path) else path}"


def store_of(history: History, output: Path, uri: str, experiment: str) -> "Store":
    """Return the store of a search; the experiment ``auto`` has the name of the search."""
    return Store(output, uri, history.name if experiment == "auto" else experiment)


class Store:
    """An experiment at an MLflow address, which `connect` creates where it is missing.

    The address ``auto`` is the search's own database in ``output``. As the ledger has all that is in it, it is
    replaced by an empty one where MLflow cannot open it or where its artifacts are in another folder.
    """

    def __init__(self, output: Path, uri: str, experiment: str) -> None:
        self.uri, self._experiment, self.output = tracking_uri(uri, output), experiment, output
        #: whether it is the search's own database, which has no other searches
        self.is_own = self.uri == tracking_uri("auto", output)
        self._database: Path | None = None
        self._artifacts: str | None = None
        folder = output.resolve()
        if self.uri.startswith("sqlite:///"):
            self._database = Path(unquote(self.uri.removeprefix("sqlite:///").partition("?")[0])).resolve()
            folder = folder if self.is_own else self._database.parent
        if self.uri.partition(":")[0].partition("+")[0] in DATABASES:
            # Without a location, the client of a database puts artifacts below the working directory.
            self._artifacts = (folder / "artifacts").as_uri()

    def connect(self, search: str = "") -> tuple["MlflowClient", str]:
        """Return a client and the experiment's id, creating database and experiment where they are missing.

        An experiment that was given another name is known by the runs of the search with the id ``search``.
        """
        mlflow = _mlflow()
        if self._database is not None:
            # An open connection would keep writing to a database file that has been replaced.
            os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
            if self.is_own:
                _write_without_waiting(self._database)
            is_ready = self.usable() and self._has_own_artifacts() if self.is_own else self._database.exists()
            if not is_ready:
                self._make(self._database)
        client = mlflow.MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(self._experiment)
        if experiment is None and (renamed := self._renamed(client, search)):
            return client, renamed
        if experiment is None:
            return client, client.create_experiment(self._experiment, artifact_location=self._artifacts)
        if experiment.lifecycle_stage != "active":
            client.restore_experiment(experiment.experiment_id)
        return client, experiment.experiment_id

    def rows(self, experiment: str) -> MlflowRows | None:
        """Return the tables of the search's own database, after `connect`; None where they cannot be written."""
        if not self.is_own or self._database is None:
            return None
        rows = MlflowRows(self._database, experiment)
        return rows if rows.are_known else None

    @staticmethod
    def _renamed(client: "MlflowClient", search: str) -> str | None:
        """Return the experiment of any name that has runs of a search; None if there is none."""
        experiments = [experiment.experiment_id for experiment in client.search_experiments()] if search else []
        runs = client.search_runs(experiments, f"tags.{TAG_SEARCH} = '{search}'", max_results=1) if experiments else []
        return runs[0].info.experiment_id if runs else None

    @staticmethod
    def runs_of(client: "MlflowClient", experiment: str, search: str) -> list["Run"]:
        """Return the runs of a search, oldest first: a parent comes before its children."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = client.search_runs(
                [experiment], f"tags.{TAG_SEARCH} = '{search}'", order_by=["start_time"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def experiment_of(self, search: str) -> str | None:
        """Return the id of the experiment that has a search; None if none has, or it cannot be asked."""
        rows = self._query(
            "SELECT experiment_id FROM runs JOIN tags USING (run_uuid)"
            " WHERE tags.key = ? AND tags.value = ? AND lifecycle_stage = 'active'", TAG_SEARCH, search,
        )  # fmt: skip
        if rows or self._database is not None:
            return str(rows[0][0]) if rows else None
        return self.connect(search)[1]

    def usable(self) -> bool:
        """Whether MLflow can open it: the search's own database must have all migrations of the installed version."""
        if not self.is_own:
            return True
        from alembic.script import ScriptDirectory

        migrations = Path(_mlflow().__file__).parent / "store" / "db_migrations"
        done = self._query("SELECT version_num FROM alembic_version")
        return done == [(ScriptDirectory(str(migrations)).get_current_head(),)]

    def _has_own_artifacts(self) -> bool:
        """Whether all artifacts are in this folder: MLflow writes to the places that the database names.

        They are absolute paths, which a moved or copied folder leaves. Those of a stranger's database can be anywhere.
        """
        locations = self._query("SELECT artifact_location FROM experiments WHERE name = ?", self._experiment)
        if locations not in ([], [(self._artifacts,)]):
            return False
        places = self._query("SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs")
        inside = f"{self._artifacts}/"
        return all(f"{place}/".startswith(inside) and ".." not in unquote(str(place)).split("/") for (place,) in places)

    def refuse_links(self) -> None:
        """Raise UserError if a link leads out of the folder of the search's own database, which is to be written."""
        if not self.is_own:
            return
        folder = self.output.resolve()
        for name in ("ledger.jsonl", "mlflow.db", "artifacts"):
            if not (folder / name).resolve().is_relative_to(folder):
                way_out = "put what it links to in its place"
                raise UserError(
                    "is a link to another folder, which is not written to", file=folder / name, way_out=way_out
                )

    def holds(self, search: str, events: int, runs: int) -> bool:
        """Whether the own database has a whole search of that id, with that number of events and of trainings.

        It does not import MLflow. The trainings must be linked to the run of the search, which may have been deleted.
        """
        rows = self._query(
            "SELECT runs.run_uuid FROM experiments JOIN runs USING (experiment_id)"
            " JOIN tags AS search USING (run_uuid) JOIN tags AS events USING (run_uuid)"
            " WHERE experiments.name = ? AND artifact_location = ? AND runs.lifecycle_stage = 'active'"
            " AND search.key = ? AND search.value = ? AND events.key = ? AND events.value = ?",
            *(self._experiment, self._artifacts, TAG_SEARCH, search, TAG_EVENTS, complete_tag(events)),
        )
        children = self._query(
            "SELECT count(*) FROM tags JOIN runs USING (run_uuid) JOIN tags AS kind USING (run_uuid)"
            " WHERE tags.key = ? AND tags.value = ? AND lifecycle_stage = 'active'"
            " AND kind.key = ? AND kind.value <> 'training'",
            *(PARENT, rows[0][0] if rows else "", TAG_KIND),
        )
        return self.is_own and bool(rows) and children == [(runs,)]

    def _query(self, query: str, *values: str | None) -> list[tuple[Any, ...]]:
        """Return the rows of a query; none if the database, or a table of the query, is missing or damaged."""
        if self._database is None or not self._database.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self._database.as_uri()}?mode=rw", uri=True)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            # Other errors, such as a locked database, do not mean that the content is unusable.
            if error.sqlite_errorcode in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                return []
            raise

    def _make(self, database: Path) -> None:
        """Make an empty database; the search's own one takes the place of a file that is there.

        MLflow needs seconds to create one and cannot open one that is half created. So it is created in another folder
        and then renamed: a process that is killed leaves a complete database or none. Of several searches that make one
        database at the same time, all but the first find it there.
        """
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        database.parent.mkdir(parents=True, exist_ok=True)
        fresh = database.with_name(f"{database.name}.{os.getpid()}.new")
        try:
            with tempfile.TemporaryDirectory() as folder:
                SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", self._artifacts)
                shutil.copyfile(Path(folder) / "mlflow.db", fresh)
            if not self.is_own:
                with suppress(FileExistsError):
                    database.hardlink_to(fresh)
                return
            # SQLite would apply the journal of a killed process to the new file.
            for end in ("", "-journal", "-wal", "-shm"):
                database.with_name(f"{database.name}{end}").unlink(missing_ok=True)
            fresh.rename(database)
        finally:
            fresh.unlink(missing_ok=True)


#: the databases of searches that this process writes
_own: set[str] = set()


def _write_without_waiting(database: Path) -> None:
    """Let no write to ``database`` wait for the disk: MLflow commits ten times for a trial.

    A process that is killed loses nothing by that. A machine that loses power may leave a damaged database, which is
    replaced, as the ledger has all that is in it.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not _own:

        @event.listens_for(Engine, "do_connect")
        def _connects(dialect: Any, record: Any, words: Any, options: Any) -> None:
            # SQLite would make an empty one in the place of a disk that is gone.
            if words and words[0] in _own and not Path(words[0]).exists():
                raise sqlite3.OperationalError(f"the database {words[0]} is not there")

        @event.listens_for(Engine, "connect")
        def _connected(connection: Any, _: Any) -> None:
            if isinstance(connection, sqlite3.Connection):
                files = {file for _, _, file in connection.execute("PRAGMA database_list")}
                if files & _own:
                    connection.execute("PRAGMA synchronous = OFF")

    _own.add(str(database))


def _mlflow() -> Any:
    """Import MLflow with `ENVIRONMENT`, and silence its loggers."""
    os.environ |= ENVIRONMENT | os.environ  # MLflow reads some of them when it is imported
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # This one logs a traceback of each error, which is raised as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def warn(uri: str, error: Exception, consequence: str) -> None:
    """Log that MLflow cannot be written to, with the first line of the error."""
    reason = without_password(str(error).partition("\n")[0])
    _logger.warning("MLflow at %s cannot be written to: %s; %s", without_password(uri), reason, consequence)


def complete_tag(events: int) -> str:
    """Return the tag of a search that is written whole: its number of events, the version of MLflow, and `LAYOUT`.

    The version is part of it because a database of another version may need migrations.
    """
    return f"{events}, by MLflow {version('mlflow')}, layout {LAYOUT}"

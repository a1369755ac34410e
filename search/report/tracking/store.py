"""MLflow: a search as one run with a child run a trial, rebuilt from the ledger wherever something is missing.

The only file that knows MLflow. It is a projection: nothing reads back what it writes, except to see what is there.
"""

import logging
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.ledger.history import History

if TYPE_CHECKING:
    from mlflow import MlflowClient

_logger = logging.getLogger(__name__)


#: no calls home, no lines on our stdout, no minutes of retries that hold up the end of a search, and in the server no
#: job runners: seven more processes for what a page of results has no use for
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


#: tags by which a later process finds what an earlier one has written; "events" is the last, and says that all is there
TAG_SEARCH, TAG_TRIAL, TAG_STATE, TAG_LOGGED, TAG_EVENTS = "search", "trial", "state", "logged", "events"


LATER = "what is missing is written later, at the latest by --resume or `vattn ui`"


def tracking_uri(uri: str, output: Path) -> str:
    """Return the address of a search's MLflow store: ``auto`` is an SQLite file in its output folder."""
    return f"sqlite:///{output.resolve() / 'mlflow.db'}" if uri == "auto" else uri


class Store:
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
            *(self._experiment, self._place, TAG_SEARCH, search, TAG_EVENTS, complete_tag(events)),
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
    os.environ |= ENVIRONMENT | os.environ  # MLflow reads some of them when it is imported
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It writes a traceback of each error that it raises too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def store_of(history: History, output: Path, uri: str, experiment: str) -> Store:
    return Store(output, uri, history.began.name if experiment == "auto" else experiment)


def warn(uri: str, error: Exception, consequence: str) -> None:
    what = str(error).partition("\n")[0]
    _logger.warning("MLflow at %s cannot be written to: %s; %s", uri, what, consequence)


def complete_tag(events: int) -> str:
    """Return the tag of a search of which all events are written; to another MLflow its database may be out of date."""
    return f"{events}, by MLflow {version('mlflow')}"

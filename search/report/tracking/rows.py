"""The runs of a search in the tables of MLflow's SQLite database, without MLflow's client.

MLflow has no call that writes several runs, and its calls for one run take eight sessions and commits: 20 to 50 ms of
CPU time. `MlflowRows` is for the database in the folder of a search alone, and only where each table has exactly
the columns that this module knows; elsewhere the runs are written by MLflow's client.
"""

import math
import sqlite3
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from search.report.tracking.batches import param_text, tag_text
from vattn.errors import StorageError

if TYPE_CHECKING:
    from mlflow.entities import Metric

#: seconds for which another process may hold the database, as MLflow waits
_PATIENCE = 20.0

#: by table: all of its columns
_COLUMNS = {
    "runs": (
        "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time",
        "end_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id", "deleted_time",
    ),
    "tags": ("key", "value", "run_uuid"),
    "params": ("key", "value", "run_uuid"),
    "metrics": ("key", "value", "timestamp", "run_uuid", "step", "is_nan"),
    "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
}  # fmt: skip


#: what becomes of a row that is there: it stays
_IGNORE = "ON CONFLICT DO NOTHING"
#: it is replaced by a later point of the metric, or by the greatest of the same time
_LATER = """ON CONFLICT DO UPDATE SET
    value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = excluded.is_nan
    WHERE (excluded.step, excluded.timestamp, excluded.value)
        > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)"""

#: MLflow's own tag of the name of a run
TAG_NAME = "mlflow.runName"


class NewRun(NamedTuple):
    """A run that is not written yet; times are Unix milliseconds."""

    name: str
    status: str
    start: int
    end: int | None
    metrics: "Sequence[Metric]"
    params: Mapping[str, str]
    tags: Mapping[str, str]


class MlflowRows:
    """The tables of a database.

    Args:
        database: its file.
        experiment: the experiment of the runs.
    """

    def __init__(self, database: Path, experiment: str) -> None:
        self._database, self._experiment = database, experiment

    @property
    def are_known(self) -> bool:
        """Whether the tables have the columns that this module writes, and no others."""
        with closing(self._connect()) as connection:
            for table, columns in _COLUMNS.items():
                found = [column for _, column, *_ in connection.execute(f"PRAGMA table_info({table})")]
                if sorted(found) != sorted(columns):
                    return False
        return True

    def write(self, runs: Sequence[NewRun]) -> list[str]:
        """Write new runs, all or none of them; return their ids. Raises sqlite3.Error."""
        identities = [uuid.uuid4().hex for _ in runs]
        with self._transaction() as connection:
            (folder,) = connection.execute(
                "SELECT artifact_location FROM experiments WHERE experiment_id = ?", [self._experiment]
            ).fetchone()
            for identity, run in zip(identities, runs, strict=True):
                artifacts = f"{folder}/{identity}/artifacts"
                self._insert(connection, "runs", [(
                    identity, run.name, "UNKNOWN", "", "", "unknown", run.status, run.start, run.end, "", "active",
                    artifacts, int(self._experiment), None,
                )])  # fmt: skip
                self._add(connection, identity, run.metrics, run.params, {**run.tags, TAG_NAME: run.name})
        return identities

    def add(
        self, identity: str, metrics: "Sequence[Metric]", params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Add metrics, parameters and tags to a run, all or none of them.

        Raises sqlite3.Error, StorageError if the run is not there or was deleted.
        """
        with self._transaction() as connection:
            name = {"name": tags[TAG_NAME]} if TAG_NAME in tags else {}
            self._change(connection, identity, **name)
            self._add(connection, identity, metrics, params, tags)

    def set_status(self, identity: str, status: str, end: int | None) -> None:
        """Set the status of a run, and when it ended in Unix milliseconds. Raises as `add` does."""
        with self._transaction() as connection:
            self._change(connection, identity, status=status, **({} if end is None else {"end_time": end}))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")  # as `search.report.tracking.store` has it
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    @staticmethod
    def _change(connection: sqlite3.Connection, identity: str, **values: object) -> None:
        changes = ", ".join(f"{column} = ?" for column in ("run_uuid", *values))
        where = "run_uuid = ? AND lifecycle_stage = 'active'"
        cursor = connection.execute(f"UPDATE runs SET {changes} WHERE {where}", [identity, *values.values(), identity])
        if not cursor.rowcount:
            raise StorageError(f"run {identity} is not there")

    @classmethod
    def _add(
        cls, connection: sqlite3.Connection, identity: str, metrics: "Sequence[Metric]", params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:  # fmt: skip
        cls._insert(connection, "params", [(key, param_text(value), identity) for key, value in params.items()])
        points = [(metric, *_stored(metric.value)) for metric in metrics]
        # Two equal points of a metric are one row.
        cls._insert(connection, "metrics", [
            (metric.key, value, metric.timestamp, identity, metric.step, is_nan) for metric, value, is_nan in points
        ])  # fmt: skip
        cls._insert(connection, "latest_metrics", [
            (metric.key, value, metric.timestamp, metric.step, is_nan, identity) for metric, value, is_nan in points
        ], _LATER)  # fmt: skip
        tag_rows = [(key, tag_text(value), identity) for key, value in tags.items()]
        cls._insert(connection, "tags", tag_rows, "ON CONFLICT DO UPDATE SET value = excluded.value")

    def _connect(self) -> sqlite3.Connection:
        # Never an empty database in the place of one that is gone.
        return sqlite3.connect(f"{self._database.as_uri()}?mode=rw", uri=True, timeout=_PATIENCE, isolation_level=None)

    @staticmethod
    def _insert(
        connection: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]], conflict: str = _IGNORE
    ) -> None:
        columns = _COLUMNS[table]
        places = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) {conflict}", rows)


def _stored(value: float) -> tuple[float, bool]:
    """Return a value as MLflow stores it, and whether it is NaN: infinity is the largest number."""
    if math.isnan(value):
        return 0.0, True
    return min(max(value, -sys.float_info.max), sys.float_info.max), False

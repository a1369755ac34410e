"""New runs in the tables of MLflow's SQLite database: all of a search in one transaction.

MLflow has no call that writes several runs, and its calls for one run take eight sessions and commits: 20 to 50 ms of
CPU time. `MlflowRows` is for the database in the folder of a search alone, and only where each table has exactly
the columns that this module knows; elsewhere the runs are written by MLflow's client.
"""

import math
import sqlite3
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from search.report.tracking.batches import param_text, tag_text

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
        """Write runs, all or none of them; return their ids. Raises sqlite3.Error."""
        identities = [uuid.uuid4().hex for _ in runs]
        with closing(self._connect()) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")  # as `search.report.tracking.store` has it
            connection.execute("BEGIN IMMEDIATE")
            (folder,) = connection.execute(
                "SELECT artifact_location FROM experiments WHERE experiment_id = ?", [self._experiment]
            ).fetchone()
            for identity, run in zip(identities, runs, strict=True):
                artifacts = f"{folder}/{identity}/artifacts"
                self._insert(connection, "runs", [(
                    identity, run.name, "UNKNOWN", "", "", "unknown", run.status, run.start, run.end, "", "active",
                    artifacts, int(self._experiment), None,
                )])  # fmt: skip
                tags = {**run.tags, "mlflow.runName": run.name}
                self._insert(connection, "tags", [(key, tag_text(value), identity) for key, value in tags.items()])
                self._insert(
                    connection, "params", [(key, param_text(value), identity) for key, value in run.params.items()]
                )
                points = [(*_stored(metric.value), metric) for metric in run.metrics]
                self._insert(connection, "metrics", [
                    (metric.key, value, metric.timestamp, identity, metric.step, is_nan)
                    for value, is_nan, metric in points
                ])  # fmt: skip
                latest = {
                    metric.key: (metric.key, value, metric.timestamp, metric.step, is_nan, identity)
                    for value, is_nan, metric in sorted(points, key=lambda p: (p[2].step, p[2].timestamp, p[0]))
                }
                self._insert(connection, "latest_metrics", list(latest.values()))
        return identities

    def _connect(self) -> sqlite3.Connection:
        # Never an empty database in the place of one that is gone.
        return sqlite3.connect(f"{self._database.as_uri()}?mode=rw", uri=True, timeout=_PATIENCE, isolation_level=None)

    @staticmethod
    def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        columns = _COLUMNS[table]
        places = ", ".join("?" * len(columns))
        # Two equal points of a metric are one row.
        connection.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)


def _stored(value: float) -> tuple[float, bool]:
    """Return a value as MLflow stores it, and whether it is NaN: infinity is the largest number."""
    if math.isnan(value):
        return 0.0, True
    return min(max(value, -sys.float_info.max), sys.float_info.max), False

"""What is written straight into the tables of MLflow is what MLflow's client writes, row by row."""

import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.report.tracking.description import TAG_NOTE
from search.report.tracking.store import TAG_TRIAL, Store
from search.report.tracking.tracker import catch_up
from tests.search.events import event
from tests.search.report.ledgers import Trees
from tests.search.report.tracking.stores import replay

TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")


def rows(database: Path) -> dict[str, list[Any]]:
    """Return the rows of each table, sorted, with the numbers of trials in the place of the ids of their runs."""
    with closing(sqlite3.connect(database)) as connection:
        numbers = dict(connection.execute("SELECT run_uuid, value FROM tags WHERE key = ?", [TAG_TRIAL]))
        (parent,) = {run for (run,) in connection.execute("SELECT run_uuid FROM runs")} - numbers.keys()
        named = numbers | {parent: "parent"}

        def cell(value: Any) -> Any:
            # The places of artifacts are below the folders of the two databases.
            return (
                f"{named[value.split('/')[-2]]}/artifacts"
                if str(value).endswith("/artifacts")
                else named.get(value, value)
            )

        return {
            table: sorted(
                (tuple(map(cell, row)) for row in connection.execute(f"SELECT * FROM {table}") if TAG_NOTE not in row),
                key=str,
            )
            for table in TABLES
        }


def awkward(events: Trees) -> Trees:
    """Return the search with metrics that are no numbers, a point that is reported twice, and a very long reason."""
    changed = []
    for number, tree in enumerate(events):
        tree: dict[str, Any] = {"time": 1.8e9 + number // 3} | tree
        if tree["event"] == "report" and tree["trial"] == 1:
            tree["metrics"] = tree["metrics"] | {"loss": math.nan, "top5": -math.inf, "mean_class": math.inf}
        if tree["event"] == "stopped":
            tree["reason"] = "below the front " * 500
        changed.append(tree)
    return changed


@pytest.mark.medium
def test_the_rows_are_those_of_the_client(output: Path, events: Trees, database: Path) -> None:
    trees = awkward(events)
    (output / "other").mkdir()
    shutil.copy(database, output / "other" / "runs.db")

    # A first process is interrupted; the next one goes on.
    for uri in ("auto", f"sqlite:///{output}/other/runs.db"):
        assert catch_up(output, uri, "auto", map(event, trees[:14]))
        assert catch_up(output, uri, "auto", map(event, trees))

    direct, by_client = rows(output / "mlflow.db"), rows(output / "other" / "runs.db")
    assert {table: len(found) for table, found in direct.items()} | {"runs": 6} == {
        table: len(found) for table, found in by_client.items()
    }
    assert direct == by_client


def test_other_tables_than_the_known_ones_are_left_to_the_client(output: Path) -> None:
    store = Store(output, "auto", "by-hand")
    assert store.rows("1")
    with closing(sqlite3.connect(output / "mlflow.db")) as connection:
        connection.execute("ALTER TABLE tags ADD COLUMN written_by TEXT")

    assert store.rows("1") is None


@pytest.mark.medium
def test_of_runs_that_cannot_all_be_written_none_is(output: Path, events: Trees) -> None:
    replay(output, events[:1])
    with closing(sqlite3.connect(output / "mlflow.db")) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON metrics WHEN (SELECT count(*) FROM metrics) > 8 "
            "BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )

    assert not catch_up(output, "auto", "auto", map(event, events))

    with closing(sqlite3.connect(output / "mlflow.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        connection.execute("DROP TRIGGER full")
    assert catch_up(output, "auto", "auto", map(event, events))
    assert len(rows(output / "mlflow.db")["runs"]) == 6

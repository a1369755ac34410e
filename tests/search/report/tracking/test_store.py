"""A database that is lost, damaged or in another folder is replaced by one with the same content."""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.report.tracking.store import Store, tracking_uri
from tests.search.report.ledgers import Trees
from tests.search.report.tracking.stores import content, process, replay, write
from vattn.errors import UserError


def version(database: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall()


@pytest.mark.medium
def test_a_lost_database_is_rebuilt(output: Path, events: Trees) -> None:
    replay(output, events)
    before = content(output)
    (output / "mlflow.db").unlink()

    replay(output, events)

    assert content(output) == before


# What an interrupted migration leaves: a column or a table more than its version says, or no version at all.
@pytest.mark.medium
@pytest.mark.parametrize(
    "half", ["UPDATE alembic_version SET version_num = '0a8213491aaa'", "DROP TABLE alembic_version"]
)
def test_a_database_with_an_interrupted_migration_is_replaced(output: Path, events: Trees, half: str) -> None:
    with closing(sqlite3.connect(output / "mlflow.db")) as database, database:
        database.execute(half)

    replay(output, events)

    assert len(content(output)) == 6


@pytest.mark.medium
def test_the_journal_of_a_killed_process_is_not_applied_to_the_new_database(output: Path, events: Trees) -> None:
    code = (
        "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1]); database.execute('PRAGMA cache_size = 1');"
        "database.execute('DELETE FROM alembic_version'); database.commit();"
        "database.executemany('INSERT INTO alembic_version VALUES (?)', [(str(n),) for n in range(9999)]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, output / "mlflow.db"], check=True)
    (output / "mlflow.db").unlink()
    assert (output / "mlflow.db-journal").stat().st_size > 0

    replay(output, events)

    assert len(content(output)) == 6
    assert sorted(path.name for path in output.iterdir()) == ["artifacts", "mlflow.db"]


@pytest.mark.medium
@pytest.mark.parametrize("seconds", [0.7, *(pytest.param(n, marks=pytest.mark.slow) for n in (0.1, 1.5, 3.0))])
def test_a_killed_process_leaves_no_incomplete_database(
    tmp_path: Path, database: Path, events: Trees, seconds: float
) -> None:
    output, aside = tmp_path / "output", tmp_path / "aside"
    output.mkdir()
    aside.mkdir()
    write(output, events)
    writer = process("catch_up(output, 'auto', 'auto', events)", output, TMPDIR=str(aside))
    while not list(tmp_path.rglob("*.db")):
        assert writer.poll() is None
        time.sleep(0.02)
    time.sleep(seconds)
    writer.kill()
    writer.communicate()
    assert not (output / "mlflow.db").exists() or version(output / "mlflow.db") == version(database)

    replay(output, events)

    assert len(content(output)) == 6


@pytest.mark.medium
@pytest.mark.parametrize("away", [shutil.move, shutil.copytree])
def test_a_folder_that_was_moved_or_copied_has_its_own_pictures(
    tmp_path: Path, database: Path, events: Trees, away: Callable[[Path, Path], None]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copy(database, old)
    replay(old, events)
    before = content(old)
    away(old, new)
    times = {path: path.stat().st_mtime_ns for path in old.rglob("*")}

    replay(new, events)

    assert content(new) == before
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == times
    client = MlflowClient(tracking_uri("auto", new))
    (parent,) = client.search_runs(["1"], "attributes.run_name = 'by-hand'")
    assert (new / "artifacts" / parent.info.run_id / "artifacts" / "pareto.png").exists()


@pytest.mark.parametrize("name", ["plain", "a b", "a#b", "äö", "a?b", "a%2Fb", "50%"])
def test_the_database_of_a_folder_with_any_name_is_in_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db.utils import create_sqlalchemy_engine_with_retry

    output = tmp_path / name
    output.mkdir()
    monkeypatch.chdir(tmp_path)

    engine = create_sqlalchemy_engine_with_retry(tracking_uri("auto", output))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    engine.dispose()

    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path(name), Path(name) / "mlflow.db"]


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "run"
    output.mkdir()
    (output / "mlflow.db").symlink_to(tmp_path / "elsewhere.db")

    with pytest.raises(UserError, match="is a link to another folder"):
        Store(output, "auto", "x").refuse_links()


def test_a_database_that_names_artifacts_elsewhere_is_not_used(tmp_path: Path) -> None:
    store = Store(tmp_path, "auto", "x")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE experiments (name, artifact_location)")
        connection.execute("CREATE TABLE runs (artifact_uri)")
        connection.execute("INSERT INTO experiments VALUES ('x', ?)", [store._artifacts])
        connection.execute("INSERT INTO runs VALUES (?)", [f"{store._artifacts}/1/artifacts"])
        connection.commit()
        assert store._has_own_artifacts()
        for place in ("file:///elsewhere", f"{store._artifacts}/../../x", f"{store._artifacts}/%2e%2e/x", "mlruns/0"):
            connection.execute("UPDATE runs SET artifact_uri = ?", [place])
            connection.commit()
            assert not store._has_own_artifacts(), place

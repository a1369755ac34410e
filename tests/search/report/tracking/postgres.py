"""A PostgreSQL server of a test's own; where none is installed, the test is skipped with the reason."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import free_port

#: the password of its user, which no output may have
PASSWORD = "not-to-be-seen"


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs, which Debian keeps out of the path."""
    folders = [Path(path).parent for path in [shutil.which("initdb")] if path]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("no PostgreSQL is installed")


@contextmanager
def postgres() -> Iterator[str]:
    """Give the URI of an empty database of a server that ends with the context."""
    pytest.importorskip("psycopg", reason="the package psycopg is not installed")
    programs, port = _programs(), free_port()
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    # Not below pytest's folders, which other users cannot enter.
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "password").write_text(PASSWORD)
        if user:
            shutil.chown(place, user)
            shutil.chown(place / "password", user)

        def program(name: str, *words: str) -> None:
            command = [programs / name, f"--pgdata={place / 'data'}", *words]
            # A file, not a pipe: the server keeps it open.
            with (place / "output").open("w") as output:
                done = subprocess.run(command, user=user, cwd=place, stdout=output, stderr=output)
            assert done.returncode == 0, (place / "output").read_text()

        program("initdb", "--username=mlflow", f"--pwfile={place / 'password'}", "--auth=scram-sha-256", "--no-sync")
        words = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
        program("pg_ctl", "--wait", f"--log={place / 'log'}", "--options", words, "start")
        try:
            yield f"postgresql://mlflow:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            program("pg_ctl", "--wait", "--mode=immediate", "stop")

"""A PostgreSQL server of its own for a test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import free_port


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian has a folder for each version. None: it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a server on loopback; yield the URL of an empty database."""
    folder, binaries = Path(tempfile.mkdtemp(prefix="vattn-postgresql-")), programs()
    assert binaries
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = "nobody"
        shutil.chown(folder, user)
    port = free_port()
    try:
        subprocess.run(
            [binaries / "initdb", "--auth=trust", "--username=mlflow", "--no-sync", "-D", folder / "data"],
            user=user, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        control = [binaries / "pg_ctl", "-w", "-D", folder / "data", "-l", folder / "log"]
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        subprocess.run([*control, "-o", options, "start"], user=user, check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "fast", "stop"], user=user, check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder)

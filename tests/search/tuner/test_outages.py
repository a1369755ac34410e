"""A search waits for its disks, says so, and goes on; nothing is made in the place of a disk that is gone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from search.ledger.events import Failed, Paused
from search.ledger.file import NAME, history, read
from search.spec.validation import parse
from tests.search.tuner.test_search import changed, check_complete, repeated_epochs, write
from vattn.data import prepare

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def has_namespaces() -> bool:
    try:
        return (
            subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0
        )
    except FileNotFoundError:
        return False


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not has_namespaces(), reason="this machine makes no file systems in a namespace of a user")
def test_a_search_outlives_outages_of_its_output_and_its_cache(tmp_path: Path) -> None:
    data = tmp_path / "data"
    spec = changed({"output": str(tmp_path / "out"), "search": {"budget": {"trials": 24, "hours": 1}}})
    prepare(parse(spec, Path("spec.yaml")).data, data, test=False)
    spec["trial"]["data"] |= {"root": str(data / "data" / "motion"), "cache": str(tmp_path / "cache")}
    spec["trial"]["train"] |= {"lr": {"float": [0.01, 0.1]}, "epochs": 3}
    log = tmp_path / "log"
    words = [sys.executable, "-m", "tests.search.tuner.outages", write(tmp_path / "spec.yaml", spec), tmp_path]

    done = subprocess.run(
        [*NAMESPACE, *map(str, words), str(data / "cache"), str(log)],
        cwd=Path(__file__).parents[3], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip

    said = log.read_text()
    assert done.returncode == 0, done.stderr + said
    assert "Traceback" not in said
    searched = history(tmp_path / NAME)
    check_complete(searched, trials=24, epochs=3)
    assert repeated_epochs(tmp_path) == 0
    failed = [event for event in read(tmp_path / NAME) if isinstance(event, Failed)]
    assert failed
    assert not any(event.final for event in failed)
    # The first outage lasted for 25 s, in which nothing could be recorded.
    assert max(event.seconds for event in read(tmp_path / NAME) if isinstance(event, Paused)) > 20
    assert re.search(r"are left out of the budget of hours: its files could not be read or written", said)

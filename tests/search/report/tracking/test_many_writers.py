"""Several searches that write to one MLflow store at the same time."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.ledger.file import NAME, history
from tests.search import constructed
from tests.search.report.tracking.databases import postgresql, programs
from tests.search.report.tracking.stores import process

WRITERS = 4
TRIALS = 12

WRITE = """
from contextlib import closing
from search.report.tracking.tracker import Tracker
with closing(Tracker(output, sys.argv[2], output.name)) as tracker:
    for event in events:
        tracker.apply(event)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shared.db"
        return
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgresql() as address:
        MlflowClient(address).search_experiments()  # as a server does, it makes the tables
        yield address


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_searches_write_to_one_store_at_the_same_time(uri: str, tmp_path: Path) -> None:
    writers: list[subprocess.Popen[str]] = []
    for n in range(WRITERS):
        folder = tmp_path / f"search-{n}"
        constructed.write_ledger(folder / NAME, TRIALS, seed=n)
        lines = (folder / NAME).read_text().replace('"id":"constructed"', f'"id":"search-{n}"')
        (folder / NAME).write_text(lines)
        writers.append(process(WRITE.replace("sys.argv[2]", repr(uri)), folder))
    for writer in writers:
        _, said = writer.communicate(timeout=800)
        assert writer.returncode == 0, said
        assert "cannot be written" not in said, said  # no writer had to wait for another so long that it gave up

    client = MlflowClient(uri)
    for n in range(WRITERS):
        experiment = client.get_experiment_by_name(f"search-{n}")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        searched = history(tmp_path / f"search-{n}" / NAME)
        states = Counter(run.data.tags["state"] for run in runs if "trial" in run.data.tags)
        assert states == Counter(trial.state for trial in searched.trials.values())
        for run in runs:
            if "trial" in run.data.tags:
                curve = [point.value for point in client.get_metric_history(run.info.run_id, "top1")]
                assert curve == searched.trials[int(run.data.tags["trial"])].curve("top1")
        assert sum("trial" not in run.data.tags for run in runs) == 1

"""Two searches and one training on one cluster, which write to one MLflow server with a PostgreSQL database."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from search.ledger.file import NAME, history
from search.report.tracking.store import ENVIRONMENT
from search.spec.validation import parse
from tests.processes import free_port
from tests.search.report.tracking.databases import postgresql, programs
from tests.search.tuner.test_search import changed, check_complete, write
from tests.vattn_command import start
from vattn.data import prepare


@contextmanager
def mlflow_server(database: str, folder: Path) -> Iterator[str]:
    """Run MLflow's server on a database; yield its URL."""
    port = free_port()
    words = [sys.executable, "-m", "mlflow", "server", "--workers", "2", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "mlflow.log").open("w") as log:
        server = subprocess.Popen(
            [*words, "--artifacts-destination", str(folder / "artifacts"), "--backend-store-uri", database],
            env=os.environ | ENVIRONMENT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end, (folder / "mlflow.log").read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 9)


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Run a head node with three CPUs; yield its address."""
    port = free_port()
    ray = str(Path(sys.executable).with_name("ray"))
    words = ["start", "--head", "--port", str(port), "--num-cpus", "3", "--include-dashboard", "false"]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    head = subprocess.Popen(
        [ray, *words, "--block", "--node-ip-address", "127.0.0.1", "--temp-dir", str(folder)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait(60)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_two_searches_and_a_training_share_a_cluster_and_mlflow(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    spec = changed({"name": "first"})
    prepare(parse(spec, Path("spec.yaml")).data, tmp_path, test=False)
    spec["trial"]["data"] |= {"root": str(tmp_path / "data/motion"), "cache": str(tmp_path / "cache")}
    config = spec["trial"] | {"model": spec["trial"]["model"] | {"frames": 2, "attention": []}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    ray = tmp_path_factory.mktemp("r")
    with postgresql() as database, mlflow_server(database, tmp_path) as uri, cluster(ray) as address:
        tracking = {"tracking": {"uri": uri}}
        running = []
        for name in ("first", "second"):
            path = write(tmp_path / f"{name}.yaml", spec | tracking | {"name": name, "output": str(tmp_path / name)})
            running.append(start("run", path, "--address", address))
        train = ["train", tmp_path / "config.yaml", "--out", tmp_path / "third", "--tracking", uri]
        running.append(start(*train, "--address", address))
        for process in running:
            said, _ = process.communicate(timeout=1200)
            assert process.returncode == 0, said
            assert "cannot be written" not in said

        client = MlflowClient(uri)
        for name in ("first", "second"):
            searched = history(tmp_path / name / NAME)
            check_complete(searched, trials=4, epochs=3)
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
            runs = client.search_runs([experiment.experiment_id])
            assert len(runs) == 5
            for run in runs:
                if "trial" in run.data.tags:
                    curve = [point.value for point in client.get_metric_history(run.info.run_id, "top1")]
                    assert curve == searched.trials[int(run.data.tags["trial"])].curve("top1")
        experiment = client.get_experiment_by_name("train")
        assert experiment is not None
        assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED"]

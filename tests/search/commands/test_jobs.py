"""Jobs of a real cluster. The project folder has a stub of `search`, which only prints its arguments."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.cli import main
from search.commands import jobs
from search.commands.submit import submit

#: code of the stub
MAIN = """
import sys, time
print("started with", sys.argv[1:])
if "search.name=long" in sys.argv:
    time.sleep(600)
sys.exit(3 if "search.name=broken" in sys.argv else 0)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with a spec and the stub."""
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "__main__.py").write_text(MAIN)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "my spec.yaml").write_text("schema: 1\n")
    return tmp_path


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The URL of the dashboard of a local cluster."""
    import ray

    context = ray.init(address="local", num_cpus=2, include_dashboard=True, dashboard_port=0, log_to_driver=False)
    yield f"http://{context.dashboard_url}"
    ray.shutdown()


def test_a_cluster_that_does_not_answer_is_a_message_of_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"

    with pytest.raises(ValueError, match=r"no Ray cluster answers; start it, or correct the address") as error:
        jobs.jobs(address)
    assert "\n" not in str(error.value)


def test_the_error_for_an_address_that_is_no_url_shows_an_example() -> None:
    with pytest.raises(ValueError, match=r"such as http://HOST:8265 \(got auto\)"):
        jobs.stop("auto", "raysubmit_1")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_runs_the_search_of_its_project_and_returns_its_exit_status(
    project: Path, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = project / "specs" / "my spec.yaml"

    assert submit(spec, ["train.epochs=2"], address, follow=True) == 0
    output = capfd.readouterr()
    expected = ["run", "specs/my spec.yaml", "--address", "auto", "--set", "train.epochs=2"]
    assert f"started with {expected}" in output.out
    assert "name a folder that all nodes share" in output.err
    sets = ["search.name=broken", "output=/results"]
    assert submit(spec, sets, address, follow=True) == 3
    assert "name a folder" not in capfd.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_jobs_can_be_listed_and_stopped_and_their_output_printed(
    project: Path, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    submit(project / "specs" / "my spec.yaml", ["search.name=long"], address, follow=False)
    match = re.search(r"raysubmit_\w+", capfd.readouterr().out)
    assert match
    job = match[0]

    jobs.jobs(address)
    assert re.search(rf"{job} +(PENDING|RUNNING) +python -m search run", capfd.readouterr().out)
    assert main(["list", "--address", address, "--json"]) == 0
    rows = {row["job"]: row for row in json.loads(capfd.readouterr().out)}
    assert rows[job]["state"] in ("pending", "running")
    assert "search.name=long" in rows[job]["command"]
    jobs.stop(address, job)
    assert f"job {job} is being stopped" in capfd.readouterr().out
    jobs.logs(address, job)
    with pytest.raises(ValueError, match="raysubmit_none: no such job"):
        jobs.logs(address, "raysubmit_none")

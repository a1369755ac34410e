"""The recipes for Slurm and SSH run on this machine: with stand-ins for Ray and the search, slowly with real ones."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.deploy import stand_ins
from tests.cluster.deploy.test_files import DEPLOY, ROOT
from tests.processes import free_port, wait_for

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the recipes are scripts of bash")

SPEC: dict[str, Any] = {
    "schema": 1, "name": "tiny", "search": {"budget": {"trials": 3}},
    "trial": {
        "data": {"kind": "motion", "train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
                 "store": {"size": 32}},
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
        "train": {"epochs": 1, "batch": 16, "lr": {"float": [0.01, 0.1]}},
    },
}  # fmt: skip


class Recipe:
    """A running script, in a process group of its own."""

    def __init__(self, folder: Path, script: str, *words: object, **variables: object) -> None:
        self.log_file, self.folder = folder / "log", folder
        with (folder / "output.txt").open("a") as output:
            self.process = subprocess.Popen(
                ["bash", str(DEPLOY / script), *map(str, words)],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                env=stand_ins.environment(folder, **variables), cwd=folder, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    @property
    def text(self) -> str:
        return (self.folder / "output.txt").read_text()

    def end(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def left(self) -> list[str]:
        """Return the command lines of the processes of its group that are alive."""
        alive = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid and fields[0] != "Z":  # its session
                    alive.append((stat.parent / "cmdline").read_text())
        return alive

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Recipe]]:
    """Start recipes; whatever is left of them at the end is killed."""
    stand_ins.install(
        tmp_path / "bin", srun=stand_ins.SRUN, scontrol=stand_ins.SCONTROL, ssh=stand_ins.SSH, ray=stand_ins.RAY,
        python=stand_ins.PYTHON, vattn=stand_ins.VATTN,
    )  # fmt: skip
    (tmp_path / "home").mkdir()
    started: list[Recipe] = []

    def start(script: str, *words: object, **variables: object) -> Recipe:
        started.append(Recipe(tmp_path, script, *words, **variables))
        return started[-1]

    yield start
    for recipe in started:
        recipe.kill()


def slurm(port: int, *nodes: str) -> dict[str, object]:
    """Return the variables that Slurm sets, of a job whose head listens on ``port``."""
    number = port - 20000 if 20000 <= port < 40000 else port
    return {"SLURM_JOB_ID": number % 20000, "SLURM_JOB_NODELIST": ",".join(nodes), "SLURM_CPUS_PER_TASK": 3,
            "SLURM_GPUS_ON_NODE": 2}  # fmt: skip


def test_one_allocation_of_slurm_is_one_cluster_and_ends_with_the_search(
    run: Callable[..., Recipe], tmp_path: Path
) -> None:
    job = slurm(1234, "n1", "n2", "n3")
    recipe = run("slurm.sh", "spec.yaml", tmp_path / "out put", **job)
    wait_for(lambda: "\nvattn run" in recipe.log, 60)

    address = (tmp_path / "out put" / "ray_address").read_text().strip()
    joined = run("slurm_join.sh", tmp_path / "out put", SLURM_JOB_ID=77, SLURM_CPUS_PER_TASK=5)
    wait_for(lambda: "--num-cpus=5" in recipe.log, 60)
    (tmp_path / "status").write_text("0")

    assert recipe.end() == 0, recipe.text
    assert joined.end() == 0, joined.text
    assert address == "127.0.0.1:21234"
    starts = re.findall(r"^srun (\w+) ray start --block --num-cpus=3 --num-gpus=2 (.*)$", recipe.log, re.MULTILINE)
    assert sorted(starts) == [
        ("n1", "--temp-dir=/tmp/ray-1234-n1 --head --node-ip-address=127.0.0.1 --port=21234 --include-dashboard=false"),
        ("n2", "--temp-dir=/tmp/ray-1234-n2 --address=127.0.0.1:21234"),
        ("n3", "--temp-dir=/tmp/ray-1234-n3 --address=127.0.0.1:21234"),
    ]
    assert "127.0.0.1:21234 3\n" in recipe.log  # the search begins when three nodes are there
    search = f"vattn run spec.yaml --output {tmp_path}/out put --address 127.0.0.1:21234 --resume"
    assert search in recipe.log.splitlines()
    tokens = set(re.findall(r"token=(\w*)$", recipe.log, re.MULTILINE))
    assert len(tokens) == 1
    assert len(tokens.pop()) == 64
    assert (tmp_path / "home" / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "out put" / "ray_address").exists()
    assert recipe.left() == joined.left() == []
    assert "requeue" not in recipe.log


def test_the_time_limit_of_slurm_interrupts_the_search_and_queues_the_job_again(
    run: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = run("slurm.sh", "spec.yaml", tmp_path / "out", **slurm(1235, "n1"))
    wait_for(lambda: "\nvattn run" in recipe.log, 60)

    recipe.process.terminate()  # as `--signal=B:TERM@180`

    assert recipe.end() == 130, recipe.text
    assert "vattn TERM" in recipe.log
    assert "scontrol requeue 1235" in recipe.log
    assert recipe.left() == []


def test_a_search_that_fails_ends_the_job_of_slurm_with_its_status(run: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "status").write_text("1")

    recipe = run("slurm.sh", "spec.yaml", tmp_path / "out", **slurm(1236, "n1", "n2"))

    assert recipe.end() == 1
    assert "requeue" not in recipe.log
    assert recipe.left() == []


def test_a_task_that_finds_no_search_to_join_says_so(run: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = run("slurm_join.sh", tmp_path / "out", SLURM_JOB_ID=78, WAIT_SECONDS=1)

    assert recipe.end() == 2
    assert "no search has begun there; start slurm.sh with this folder" in recipe.text


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """The project on all hosts: a folder whose environment has the stand-ins."""
    project = tmp_path / "pro ject"
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "activate").write_text("")
    return project


def test_hosts_that_ssh_reaches_are_one_cluster_and_end_with_the_search(
    run: Callable[..., Recipe], hosts: Path, tmp_path: Path
) -> None:
    port = free_port()
    recipe = run("ssh.sh", "my spec.yaml", "/shared/out", "a", "me@b", PROJECT=hosts, RAY_PORT=port)
    wait_for(lambda: "\nvattn run" in recipe.log, 60)
    tokens = {file.read_text() for file in (tmp_path / "homes").glob("*/.ray/vattn-*") if file.suffix == ""}
    wait_for(lambda: recipe.log.count("\nray start --block") == 2, 60)
    (tmp_path / "status").write_text("0")

    assert recipe.end() == 0, recipe.text
    lines = [re.sub(r"vattn-\d+", "RUN", line) for line in recipe.log.splitlines() if line.startswith("ray ")]
    started = [re.sub(r" token=\w{64}$", "", line) for line in lines]
    assert sorted(started) == [
        f"ray start --block --temp-dir=/tmp/RUN-0 --head --node-ip-address=127.0.0.1 --port={port} "
        "--include-dashboard=false",
        f"ray start --block --temp-dir=/tmp/RUN-1 --address=127.0.0.1:{port}",
    ]
    search = f"vattn run my spec.yaml --output /shared/out --address 127.0.0.1:{port} --resume"
    assert search in recipe.log.splitlines()
    assert sum(len(token.strip()) == 64 for token in tokens) == 1
    assert not any(token.strip() in line for token in tokens for line in recipe.log.splitlines()
                   if line.startswith("ssh") and len(token) > 10)  # fmt: skip
    assert [path.name for path in (tmp_path / "homes").glob("*/.ray/*")] == []
    assert recipe.left() == []


def test_ctrl_c_ends_a_search_over_ssh_as_an_interruption(run: Callable[..., Recipe], hosts: Path) -> None:
    recipe = run("ssh.sh", "spec.yaml", "/shared/out", "a", "b", PROJECT=hosts, RAY_PORT=free_port())
    wait_for(lambda: "\nvattn run" in recipe.log, 60)

    os.killpg(recipe.process.pid, signal.SIGINT)  # as a terminal does, to ssh too

    assert recipe.end() == 130, recipe.text
    assert "vattn TERM" in recipe.log
    assert recipe.left() == []


def real(folder: Path) -> Path:
    """Let the recipes find the real Ray, Python and search; return a spec."""
    for name in ("ray", "python", "vattn"):
        (folder / "bin" / name).unlink()
    binaries = Path(sys.executable).parent
    search = f'exec "{sys.executable}" -m search "$@"'
    stand_ins.install(folder / "bin", ray=f'exec "{binaries / "ray"}" "$@"', vattn=search,
                      python=f'exec "{sys.executable}" "$@"')  # fmt: skip
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(SPEC))
    return spec


def finished_in(ledger: Path) -> int:
    """Return the number of trials that finished."""
    return sum(json.loads(line)["event"] == "finished" for line in ledger.read_text().splitlines())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_search_runs_on_two_nodes_of_slurm_and_one_that_joins(
    run: Callable[..., Recipe], tmp_path: Path
) -> None:
    spec, port = real(tmp_path), free_port()
    variables = slurm(port, "n1", "n2") | {"SLURM_CPUS_PER_TASK": 1, "SLURM_GPUS_ON_NODE": 0, "PYTHONPATH": ROOT}

    recipe = run("slurm.sh", spec, tmp_path / "out", **variables)
    joined = run("slurm_join.sh", tmp_path / "out", **(variables | {"SLURM_JOB_ID": 19999}))

    assert recipe.end(500) == 0, recipe.text
    assert joined.end(60) == 0, joined.text
    assert finished_in(tmp_path / "out" / "ledger.jsonl") == 3
    wait_for(lambda: recipe.left() == joined.left() == [], 60)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_search_runs_on_two_hosts_over_ssh(run: Callable[..., Recipe], hosts: Path, tmp_path: Path) -> None:
    spec = real(tmp_path)

    recipe = run("ssh.sh", spec, tmp_path / "out", "a", "b", PROJECT=hosts, RAY_PORT=free_port(), PYTHONPATH=ROOT)

    assert recipe.end(500) == 0, recipe.text
    assert finished_in(tmp_path / "out" / "ledger.jsonl") == 3
    wait_for(lambda: recipe.left() == [], 60)


def submitted(client: Any, command: str) -> str:
    """Submit a job to a head that has just started: the agent that starts jobs may not be there yet."""
    until = time.monotonic() + 120
    while True:
        try:
            return client.submit_job(entrypoint=command, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
        except RuntimeError:
            assert time.monotonic() < until, "no agent starts jobs"
            time.sleep(2)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_entry_point_of_the_job_on_kubernetes_runs_as_a_job_and_goes_on(tmp_path: Path) -> None:
    import ray
    from ray.job_submission import JobSubmissionClient

    documents = yaml.safe_load_all((DEPLOY / "rayjob.yaml").read_text())
    entry = next(document["spec"]["entrypoint"] for document in documents if document["kind"] == "RayJob")
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(SPEC | {"output": str(tmp_path / "out")}))
    command = entry.replace("/spec/spec.yaml", str(spec)).replace("python", sys.executable, 1)
    assert command != entry

    # Ray tells a job the newest cluster of its temporary folder; a socket in it has a short path.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    context = ray.init(
        address="local", num_cpus=2, include_dashboard=True, dashboard_port=0, log_to_driver=False, _temp_dir=folder
    )
    try:
        client = JobSubmissionClient(f"http://{context.dashboard_url}")
        for _ in range(2):  # the second is that of a new cluster after the loss of a head
            job = submitted(client, command)
            wait_for(lambda job=job: client.get_job_status(job).is_terminal(), 250)
            assert client.get_job_status(job).value == "SUCCEEDED", client.get_job_logs(job)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    assert finished_in(tmp_path / "out" / "ledger.jsonl") == 3

"""A search as a job of a Ray cluster: submit it, follow it, list, read and stop jobs."""

import asyncio
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

#: what stays at home when a project folder is sent to a cluster, besides what its .gitignore names
EXCLUDES = [".git", ".venv", "runs", "mlruns", "**/__pycache__", "*.egg-info", "build", "dist"]


def submit(spec: Path, sets: list[str], address: str, follow: bool) -> int:
    """Send the project folder of a spec file to the cluster at ``address`` and run the search there.

    The project folder is the nearest one above the file with a pyproject.toml or a repository, else the file's own.
    Returns 0 once the job is submitted; with ``follow``, its output is printed until it ends, and its exit status is
    returned. Raises ValueError where the cluster cannot be reached or refuses.
    """
    spec = spec.resolve()
    project = next((p for p in spec.parents if (p / "pyproject.toml").exists() or (p / ".git").exists()), spec.parent)
    output = _output(spec, sets)
    if not Path(output).is_absolute():
        print(
            f"output: {output} lies in the copy of the project that Ray makes for the job and removes some time after "
            "it; to keep the results, name a folder that all nodes share: --set output=/SHARED/FOLDER",
            file=sys.stderr,
        )
    words = ["python", "-m", "search", "run", str(spec.relative_to(project)), "--address", "auto"]
    for change in sets:
        words += ["--set", change]
    with _client(address) as client:
        environment = {"working_dir": str(project), "excludes": EXCLUDES}
        job = client.submit_job(entrypoint=shlex.join(words), runtime_env=environment)
        print(f"job {job} is submitted; see: vattn logs {job} --address {address}", flush=True)
        if not follow:
            return 0
        try:
            asyncio.run(_print_log(client, job))
        except KeyboardInterrupt:
            print(f"the job goes on; stop it with: vattn stop {job} --address {address}", file=sys.stderr)
            raise
        return _exit_status(client.get_job_info(job))


def _output(spec: Path, sets: list[str]) -> str:
    """Return the output that a spec file names, or a change of it."""
    named = [change.partition("=")[2] for change in sets if change.startswith("output=")]
    return yaml.safe_load(named[-1]) if named else (yaml.safe_load(spec.read_text()) or {}).get("output", "auto")


def jobs(address: str) -> int:
    """Print the jobs of a cluster, one a line: id, status, command."""
    with _client(address) as client:
        listed = client.list_jobs()
    for job in sorted(listed, key=lambda job: job.start_time or 0):
        print(f"{job.submission_id or '-':24} {job.status.value:10} {job.entrypoint}")
    if not listed:
        print("no jobs")
    return 0


def logs(address: str, job: str) -> int:
    """Print what a job has written so far."""
    with _client(address, job) as client:
        print(client.get_job_logs(job), end="")
    return 0


def stop(address: str, job: str) -> int:
    """Ask a job to stop; it can be resumed by submitting it again with a resume."""
    with _client(address, job) as client:
        stopped = client.stop_job(job)
        print(f"job {job} is being stopped" if stopped else f"job {job} has ended already: {_status(client, job)}")
    return 0


async def _print_log(client: "JobSubmissionClient", job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def _status(client: "JobSubmissionClient", job: str) -> str:
    return client.get_job_status(job).value


def _exit_status(info: "JobDetails") -> int:
    """Return the job's own exit status; 130 for a stopped one, 1 where it never came to have one."""
    if info.status.value == "SUCCEEDED":
        return 0
    if info.status.value == "STOPPED":
        return 130
    print(f"the job failed: {info.message}", file=sys.stderr)
    return info.driver_exit_code or 1


@contextmanager
def _client(address: str, job: str = "") -> "Iterator[JobSubmissionClient]":
    """Give a client of the cluster; what the cluster answers with an error is a ValueError in one line.

    A cluster with token authentication wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH in our environment too.
    """
    if not address.startswith(("http://", "https://")):
        raise ValueError(
            f"--address: must be that of the cluster's dashboard, such as http://HOST:8265 (got {address})"
        )
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        yield JobSubmissionClient(address)
    except ConnectionError as error:
        raise ValueError(
            f"{address}: no Ray cluster answers; start it, or correct the address ({_line(error)})"
        ) from None
    except AuthenticationError as error:
        way_out = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's token"
        raise ValueError(f"{address}: refuses us; {way_out} ({_line(error)})") from None
    except RuntimeError as error:
        if job and "404" in str(error):
            raise ValueError(f"{job}: no such job; see: vattn jobs --address {address}") from None
        raise ValueError(f"{address}: {_line(error)}") from None


def _line(error: Any) -> str:
    return str(error).strip().splitlines()[0]

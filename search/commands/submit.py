"""`vattn submit`: runs a search as a job of a Ray cluster."""

import asyncio
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from search.commands._job_client import job_client
from search.commands._spec import overrides, spec_file
from search.spec.check import check
from search.spec.validation import load

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

#: what is not sent to the cluster with a project folder, besides what its .gitignore names
EXCLUDES = [".git", ".venv", "runs", "mlruns", "**/__pycache__", "*.egg-info", "build", "dist"]


def run(arguments: Namespace) -> int:
    """Check the spec on this machine as far as its data allow, then submit it; return the exit status."""
    path, sets = spec_file(arguments.spec), overrides(arguments)
    spec = load(path, sets)
    root = spec.trial["data"].get("root", "auto")
    if root == "auto" or Path(root).exists():
        check(spec)
    else:
        print(f"data.root: {root} is not there on this machine: the job will check the limits", file=sys.stderr)
    return submit(path, sets, arguments.address, arguments.follow)


def submit(spec: Path, sets: list[str], address: str, follow: bool) -> int:
    """Send the project folder of a spec file to the cluster at ``address`` and run the search there.

    The project folder is the nearest one above the file with a pyproject.toml or a repository, else the file's own.
    Returns 0 once the job is submitted; with ``follow``, its output is printed until it ends, and its exit status is
    returned. Raises UserError where the cluster cannot be reached or refuses.
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
    with job_client(address) as client:
        environment = {"working_dir": str(project), "excludes": EXCLUDES}
        job = client.submit_job(entrypoint=shlex.join(words), runtime_env=environment)
        print(f"job {job} is submitted; see: vattn logs {job} --address {address}", flush=True)
        if not follow:
            return 0
        try:
            asyncio.run(_print_log(client, job))
        except KeyboardInterrupt:
            print(f"the job continues; stop it with: vattn stop {job} --address {address}", file=sys.stderr)
            raise
        return _exit_status(client.get_job_info(job))


def _output(spec: Path, sets: list[str]) -> str:
    """Return the output folder that a spec file names, or the last override of it."""
    named = [change.partition("=")[2] for change in sets if change.startswith("output=")]
    return yaml.safe_load(named[-1]) if named else (yaml.safe_load(spec.read_text()) or {}).get("output", "auto")


async def _print_log(client: "JobSubmissionClient", job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def _exit_status(info: "JobDetails") -> int:
    """Return the exit status of a job; 130 for a stopped one, 1 where it ended without a status."""
    if info.status.value == "SUCCEEDED":
        return 0
    if info.status.value == "STOPPED":
        return 130
    print(f"the job failed: {info.message}", file=sys.stderr)
    return info.driver_exit_code or 1

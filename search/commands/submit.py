"""`vattn submit`: run a search as a job of a Ray cluster."""

import asyncio
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from search.commands._job_client import START_TIMEOUT, job_client, patiently
from search.commands._spec import overrides, spec_file
from search.ledger.remote import is_url
from search.spec.check import check
from search.spec.validation import load
from vattn.errors import UserError, without_password
from vattn.files import at_home

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

#: patterns of files in a project folder that are not sent to the cluster, in addition to its .gitignore
EXCLUDES = [".git", ".venv", "runs", "mlruns", "**/__pycache__", "*.egg-info", "build", "dist"]


def run(arguments: Namespace) -> int:
    """Check the spec, if its data are on this machine, then submit it; return the exit status."""
    path, sets = spec_file(arguments.spec), overrides(arguments)
    spec = load(path, sets)
    root = spec.trial["data"].get("root", "auto")
    if root == "auto" or at_home(root).exists():
        check(spec)
    else:
        print(f"data.root: {root} does not exist on this machine; the job will check the limits", file=sys.stderr)
    return submit(path, sets, arguments.address, arguments.follow, arguments.resume, arguments.restarts)


def submit(spec: Path, sets: list[str], address: str, follow: bool, resume: bool = False, restarts: int = 0) -> int:
    """Send the project folder of a spec file to a cluster, and run the search on the cluster as a job.

    The project folder is the nearest folder above the file that has a pyproject.toml or is a repository; without one,
    the folder of the file.

    Args:
        spec: the spec file.
        sets: changes of its values, as A.B=V.
        address: URL of the cluster's dashboard.
        follow: whether to print the output of the job until it ends.
        resume: whether to continue the search that is in the output folder, on this cluster or another one.
        restarts: how many processes of the search may be lost without progress, see `search.commands.supervise`.

    Returns:
        The exit status of the job with ``follow``, otherwise 0 once the job is submitted.

    Raises:
        UserError: the cluster cannot be reached or refuses.
    """
    for change in sets:
        if without_password(change) != change:
            raise UserError(
                "has a password, which all who see the cluster's jobs would see",
                path=f"--set {without_password(change)}",
                way_out="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where the cluster is started",
            )
    spec = spec.resolve()
    project = next((p for p in spec.parents if (p / "pyproject.toml").exists() or (p / ".git").exists()), spec.parent)
    output = _output(spec, sets)
    if not is_url(output) and not Path(output).is_absolute():
        print(
            f"output: {output} lies in the copy of the project that Ray makes for the job and removes some time after "
            "it; to keep the results, name a folder that all nodes share: --set output=/SHARED/FOLDER",
            file=sys.stderr,
        )
    words = ["python", "-m", "search", "run", str(spec.relative_to(project)), "--address", "auto"]
    for change in sets:
        words += ["--set", change]
    words += ["--resume"] if resume else []
    words += ["--restarts", str(restarts)] if restarts else []
    with job_client(address, wait=START_TIMEOUT) as client:
        environment = {"working_dir": str(project), "excludes": EXCLUDES}
        entrypoint = shlex.join(words)
        job = patiently(lambda: client.submit_job(entrypoint=entrypoint, runtime_env=environment))
        shown = shlex.quote(without_password(address))
        print(f"job {job} is submitted; see: vattn logs {job} --address {shown}", flush=True)
        if not follow:
            return 0
        try:
            asyncio.run(_print_log(client, job))
        except KeyboardInterrupt:
            print(f"the job continues; stop it with: vattn stop {job} --address {shown}", file=sys.stderr)
            raise
        return _exit_status(client.get_job_info(job))


def _output(spec: Path, sets: list[str]) -> str:
    """Return the output folder of a spec: the last one in ``sets``, else that of the file."""
    values = [change.partition("=")[2] for change in sets if change.startswith("output=")]
    return yaml.safe_load(values[-1]) if values else (yaml.safe_load(spec.read_text()) or {}).get("output", "auto")


async def _print_log(client: "JobSubmissionClient", job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def _exit_status(info: "JobDetails") -> int:
    """Return the exit status of a job: 130 if it was stopped, 1 if it ended without a status."""
    if info.status.value == "SUCCEEDED":
        return 0
    if info.status.value == "STOPPED":
        return 130
    print(f"the job failed: {info.message}", file=sys.stderr)
    return info.driver_exit_code or 1

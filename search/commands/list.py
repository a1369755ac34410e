"""`vattn list`: all searches under a folder, or the searches among the jobs of a cluster."""

import json
import re
import shlex
import time
from argparse import Namespace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.commands._job_client import job_client
from search.ledger.file import NAME
from search.ledger.runs import RUNS
from search.report.outside.status import as_json, searches_under, status_of, table
from search.report.tables.columns import align
from search.report.wording.values import format_duration
from vattn.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

#: a line of the log of a search, see `search.report.live.display`
_PROGRESS = re.compile(r"^\S+: [\d:]+ elapsed.* done\b.*$", re.MULTILINE)


def run(arguments: Namespace) -> None:
    """Print one line for each search, or all of them as JSON."""
    if arguments.address is not None:
        _print_jobs(arguments.address, arguments.json)
        return
    folder = RUNS if arguments.folder is None else arguments.folder
    if arguments.folder is not None and not folder.is_dir():
        raise UserError("is no folder", file=folder, way_out="name the folder of your searches")
    statuses = [status_of(output) for output in searches_under(folder)]
    if arguments.json:
        print(json.dumps([as_json(status) for status in statuses], indent=2))
    else:
        print(table(statuses) if statuses else f"no search below {folder}")


def _print_jobs(address: str, machine_output: bool) -> None:
    with job_client(address) as client:
        rows = [_row(client, job) for job in client.list_jobs() if _is_search(job.entrypoint)]
    rows.sort(key=lambda row: row["seconds"])
    if machine_output:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print(f"no search among the jobs at {address}")
        return
    names = ("job", "state", "age", "progress", "command")
    lines = [
        [row["job"] or "-", row["state"], format_duration(row["seconds"]), row["progress"] or "-", row["command"]]
        for row in rows
    ]
    print(align([list(names), *lines], right=0))


def _is_search(command: str) -> bool:
    """Return whether the command of a job runs a search."""
    return re.search(r"(-m search|\bvattn)\s+run\b", command) is not None


def _row(client: "JobSubmissionClient", job: "JobDetails") -> dict[str, Any]:
    """Return what the cluster knows of a search: a folder that this machine sees too tells more."""
    ended = job.end_time or 1000 * time.time()
    row: dict[str, Any] = {
        "job": job.submission_id,
        "state": job.status.value.lower(),
        "seconds": round(max(0.0, ended - (job.start_time or ended)) / 1000, 1),
        "command": job.entrypoint,
        "progress": "",
    }
    output = _output(job.entrypoint)
    if output is not None and (output / NAME).exists():
        status = as_json(status_of(output))
        return row | {"output": str(output), "progress": status.get("progress", ""), "search": status}
    if job.submission_id:  # a driver that was started by hand has no log here
        lines = _PROGRESS.findall(client.get_job_logs(job.submission_id))
        row["progress"] = lines[-1].partition(" elapsed, ")[2] if lines else ""
    return row


def _output(command: str) -> Path | None:
    """Return the absolute output folder that a command names."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    for word, following in pairwise(words):
        name = following if word == "--output" else following.partition("output=")[2] if word == "--set" else ""
        folder = Path(name.strip("\"'")) if name else None
        if folder is not None and folder.is_absolute():
            return folder
    return None

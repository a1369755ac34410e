"""`vattn jobs`, `logs` and `stop`: list the jobs of a Ray cluster, print the output of one, stop one."""

from argparse import Namespace

from search.commands._job_client import job_client


def run(arguments: Namespace) -> None:
    """Run the command that was given: jobs, logs or stop."""
    match arguments.action:
        case "jobs":
            jobs(arguments.address)
        case "logs":
            logs(arguments.address, arguments.job)
        case "stop":
            stop(arguments.address, arguments.job)


def jobs(address: str) -> None:
    """Print the jobs of a cluster, one per line: id, status, command."""
    with job_client(address) as client:
        all_jobs = client.list_jobs()
    for job in sorted(all_jobs, key=lambda job: job.start_time or 0):
        print(f"{job.submission_id or '-':24} {job.status.value:10} {job.entrypoint}")
    if not all_jobs:
        print("no jobs")


def logs(address: str, job: str) -> None:
    """Print the output of a job up to now."""
    with job_client(address, job) as client:
        print(client.get_job_logs(job), end="")


def stop(address: str, job: str) -> None:
    """Ask a job to stop; `vattn run --resume` can continue its search."""
    with job_client(address, job) as client:
        if client.stop_job(job):
            print(f"job {job} is being stopped")
        else:
            print(f"job {job} has ended already: {client.get_job_status(job).value}")

"""`vattn jobs`, `logs` and `stop`: look after the jobs of a Ray cluster."""

from argparse import Namespace

from search.commands._job_client import job_client


def run(arguments: Namespace) -> None:
    """Run the action of that name."""
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
        listed = client.list_jobs()
    for job in sorted(listed, key=lambda job: job.start_time or 0):
        print(f"{job.submission_id or '-':24} {job.status.value:10} {job.entrypoint}")
    if not listed:
        print("no jobs")


def logs(address: str, job: str) -> None:
    """Print what a job has written so far."""
    with job_client(address, job) as client:
        print(client.get_job_logs(job), end="")


def stop(address: str, job: str) -> None:
    """Ask a job to stop; `vattn run --resume` can continue its search."""
    with job_client(address, job) as client:
        if client.stop_job(job):
            print(f"job {job} is being stopped")
        else:
            print(f"job {job} has ended already: {client.get_job_status(job).value}")

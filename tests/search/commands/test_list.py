"""The searches among the jobs of a cluster: which jobs they are, and how far they have come."""

import shutil
import time
from pathlib import Path
from typing import Any, cast

import pytest
from ray.dashboard.modules.job.pydantic_models import JobDetails, JobType
from ray.job_submission import JobStatus

from search.commands.list import _is_search, _output, _row
from search.ledger.file import NAME

RECORDED = Path(__file__).parents[1] / "ledger" / "recorded" / "interrupted.jsonl"
LOG = """clips: 3 of 3
tiny: 0:00:15 elapsed, 0 of 2 trials done (2 running); trial 0 epoch 1/2 top1 50.0 %
trial 0 finished: top1 50.0 %; no attention, T8 [1 of 2 trials]
tiny: 0:00:30 elapsed, about 0:00:05 left, 1 of 2 trials done (1 running); trial 1 epoch 1/2 top1 50.0 %
trial 1 failed: every GPU is done
"""


class Jobs:
    """A cluster's job server with one log."""

    def get_job_logs(self, job: str) -> str:
        assert job == "raysubmit_1"
        return LOG


def job(command: str, **values: Any) -> JobDetails:
    began = 1000 * round(time.time() - 60)
    fields = {
        "type": JobType.SUBMISSION,
        "submission_id": "raysubmit_1",
        "status": JobStatus.RUNNING,
        "start_time": began,
    }
    return JobDetails(entrypoint=command, **(fields | values))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m search run spec.yaml --address auto", True),
        ("venv/bin/vattn run spec.yaml", True),
        ("python -m search train best.yaml", False),
        ("python -m research run", False),
        ("python train.py --name vattn", False),
    ],
)
def test_a_job_is_a_search_by_its_command(command: str, expected: bool) -> None:
    assert _is_search(command) == expected


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ("--output /shared/first", "/shared/first"),
        ("--set output=/shared/first --set search.budget.trials=3", "/shared/first"),
        ("""--set 'output="/shared/my first"'""", "/shared/my first"),
        ("--output runs/first", None),
        ("--set output='unfinished", None),
        ("", None),
    ],
)
def test_the_output_folder_of_a_job_is_that_of_its_command(words: str, folder: str | None) -> None:
    assert _output(f"python -m search run spec.yaml {words}") == (None if folder is None else Path(folder))


def test_the_progress_of_a_search_whose_folder_is_elsewhere_is_in_its_log() -> None:
    row = _row(cast(Any, Jobs()), job("python -m search run spec.yaml --output /elsewhere/x"))

    assert row["progress"] == "about 0:00:05 left, 1 of 2 trials done (1 running); trial 1 epoch 1/2 top1 50.0 %"
    assert row["state"] == "running"
    assert 59 <= row["seconds"] < 90


def test_a_search_whose_folder_is_seen_here_shows_its_state(tmp_path: Path) -> None:
    shutil.copyfile(RECORDED, tmp_path / NAME)

    row = _row(cast(Any, Jobs()), job(f"python -m search run spec.yaml --output {tmp_path}"))

    assert row["search"]["state"] == "interrupted"
    assert "running" not in row["search"]["trials"]


def test_a_driver_that_was_started_by_hand_has_no_log() -> None:
    row = _row(cast(Any, None), job("vattn run spec.yaml", type=JobType.DRIVER, submission_id=None))

    assert (row["job"], row["progress"]) == (None, "")

import math
import os
import time
from pathlib import Path

import pytest

from vattn.data import workers


def test_a_process_has_its_next_job_while_the_caller_handles_the_last_outcome(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    outcomes = workers.run(os.mkdir, [first, second], processes=1)

    next(outcomes)

    deadline = time.monotonic() + 60
    while not second.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert second.exists()
    assert list(outcomes) == [(second, None)]


def test_a_job_that_raises_is_reported_and_the_others_run() -> None:
    outcomes = dict(workers.run(math.sqrt, [4.0, -1.0, 9.0], processes=1))

    assert outcomes[4.0] == 2
    assert outcomes[9.0] == 3
    assert isinstance(outcomes[-1.0], workers.Failure)


@pytest.mark.medium
def test_a_job_that_hangs_or_kills_its_process_does_not_stop_the_others() -> None:
    began = time.monotonic()
    slept = dict(workers.run(time.sleep, [0.0, 600.0, 0.01, 0.02], processes=2, time_limit=2.0))
    assert slept == {0.0: None, 600.0: workers.Failure("took longer than 2 seconds"), 0.01: None, 0.02: None}
    assert time.monotonic() - began < 60

    died = dict(workers.run(os._exit, [3, 4], processes=1))
    assert died == {status: workers.Failure(f"its process died, exit status {status}") for status in (3, 4)}

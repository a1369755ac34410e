"""Trials on processes that wait for them."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ray import tune

import search.tuner.trainable  # noqa: F401  # its import is what lets trials do so
from cluster.connect import connected


class Which(tune.Trainable):
    def step(self) -> dict[str, Any]:
        return {"process": os.getpid(), "done": True}


def idle() -> set[int]:
    """The processes of all clusters on this machine that wait for work."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::IDLE"):
                found.add(int(path.parent.name))
    return found


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux lists its processes there")
def test_trials_take_the_processes_that_were_started_with_the_cluster(tmp_path: Path) -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    before = idle()
    with connected("local") as have:
        # Ray starts a process for each CPU, and does not wait for them.
        deadline = time.monotonic() + 120
        while len(started := idle() - before) < have["CPU"] and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)  # which Ray, left to itself, takes for idleness

        results = tune.Tuner(
            Which,
            tune_config=tune.TuneConfig(num_samples=int(have["CPU"])),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        ).fit()
    signal.signal(signal.SIGINT, interrupt)  # Tune leaves its own behind

    assert {result.metrics["process"] for result in results if result.metrics} == started

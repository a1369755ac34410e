"""Trials run in processes that started with the cluster."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune

import search.tuner.trainable  # noqa: F401  # this import makes trials use these processes
from cluster.connect import connected
from tests.processes import descendants


class ReportsProcess(tune.Trainable):
    def step(self) -> dict[str, Any]:
        return {"process": os.getpid(), "done": True}


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_trials_run_in_the_processes_that_were_started_with_the_cluster(tmp_path: Path) -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    with connected("local") as resources:
        # Ray starts a process for each CPU, without waiting for them.
        deadline = time.monotonic() + 120
        while len(started := set(descendants("ray::IDLE"))) < resources["CPU"] and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)  # after this time Ray would end idle processes

        results = tune.Tuner(
            ReportsProcess,
            tune_config=tune.TuneConfig(num_samples=int(resources["CPU"])),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        ).fit()
    signal.signal(signal.SIGINT, interrupt)  # Tune does not restore it

    assert {result.metrics["process"] for result in results if result.metrics} == started

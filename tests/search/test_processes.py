import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ray import tune

import search.tuner  # noqa: F401  # its import is what lets trials do so
from cluster.connect import connected


class Which(tune.Trainable):
    def step(self) -> dict[str, Any]:
        return {"process": os.getpid(), "done": True}


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux lists its processes there")
def test_a_trial_takes_a_process_that_was_started_with_the_cluster(tmp_path: Path) -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    with connected("local"):
        started = [path.name for path in Path("/proc").iterdir()]

        results = tune.Tuner(Which, run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0)).fit()
    signal.signal(signal.SIGINT, interrupt)  # Tune leaves its own behind

    assert results[0].metrics is not None
    assert str(results[0].metrics["process"]) in started

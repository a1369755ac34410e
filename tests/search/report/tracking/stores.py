"""What a test writes to an MLflow store, and reads from it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from search.report.tracking.store import tracking_uri
from search.report.tracking.tracker import Tracker
from tests.search.events import event
from tests.search.report.ledgers import Trees

_HEAD = """
import sys
from pathlib import Path
from search.ledger.file import read
from search.report.tracking.tracker import catch_up
output = Path(sys.argv[1])
events = list(read(output / "ledger.jsonl"))
"""


def replay(output: Path, trees: Trees, **store: str) -> None:
    """Write events to MLflow as a search does."""
    tracker = Tracker(output, **store)
    for tree in trees:
        tracker.apply(event(tree))
    tracker.close()


def write(output: Path, trees: Trees) -> None:
    """Write events to the ledger of a folder."""
    (output / "ledger.jsonl").write_text("".join(json.dumps(tree) + "\n" for tree in trees))


def process(code: str, output: Path, **environment: str) -> "subprocess.Popen[str]":
    """Start a process that has `catch_up`, the folder ``output`` and the ``events`` of its ledger."""
    command = [sys.executable, "-c", _HEAD + code, str(output)]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def content(output: Path, uri: str = "auto") -> dict[str, Any]:
    """Return the content of a store by run name, without the ids that every new store creates."""
    client = MlflowClient(tracking_uri(uri, output))
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    names = [run.info.run_name for run in runs]
    assert len(set(names)) == len(names), "two runs have one name"
    return {
        str(run.info.run_name): {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {key: run.data.tags[key] for key in sorted(run.data.tags) if not key.startswith("mlflow.")},
            "metrics": {
                key: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, key))
                for key in sorted(run.data.metrics)
            },
            "child": "mlflow.parentRunId" in run.data.tags,
        }
        for run in runs
    }

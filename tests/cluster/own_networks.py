"""Runs a search whose trial follows the nodes: three nodes with networks of their own, then two, then three again.

The name of the host is an address of loopback on all of them, as on Debian, so workers must use that of their node. Run
it by `lab.isolated`. It ends with status 0 if all was as it should be.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster.faults import SPEC
from tests.cluster.lab import Lab
from tests.processes import wait_for

#: seconds for each change of the number of workers
LIMIT = 300.0
TRAIN: dict[str, Any] = {"epochs": 2000, "batch": 6, "lr": 0.02}
WORKERS = {"min": 2, "max": 3}


def main() -> int:
    spec = SPEC | {
        "search": {"budget": {"trials": 1}, "scheduler": {"kind": "none"}},
        "resources": {"workers": WORKERS},
        "trial": SPEC["trial"] | {"train": TRAIN},
    }
    temporary = tempfile.TemporaryDirectory(prefix="networks-", ignore_cleanup_errors=True)
    with temporary as folder, Lab(Path(folder), spec, WORKERS["max"]) as lab:

        def trains_with(number: int) -> bool:
            assert not lab.has_ended, lab.said()[-2000:]
            events = lab.events()
            starts = [event["workers"] for event in events if event["event"] == "started" and event.get("workers")]
            return starts[-1:] == [number] and events[-1]["event"] == "report"

        wait_for(lambda: trains_with(3), LIMIT, "it does not begin with three workers")
        lab.nodes.pop().kill()
        wait_for(lambda: trains_with(2), LIMIT, "it does not go on with two workers")
        lab.add_node()
        wait_for(lambda: trains_with(3), LIMIT, "it does not go on with three workers again")
        epochs = [event["epoch"] for event in lab.events() if event["event"] == "report"]
        assert epochs == list(range(1, len(epochs) + 1))
        assert not any(event["event"] == "failed" and event["final"] for event in lab.events())
    return 0


if __name__ == "__main__":
    sys.exit(main())

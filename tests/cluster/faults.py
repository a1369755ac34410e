"""Injects faults into real searches on a cluster of several nodes, and measures what they cost.

A head without CPUs and three nodes of one CPU run a search over the motion set as users run it. A seeded schedule
injects one fault after another. After each search, its ledger must show that no finished trial was lost or trained
twice, and the cluster that all CPUs are free. Each fault adds one line to a table, so a run can be cut off and
continued at any time::

    python -m tests.cluster.faults --faults 20 --seed 1
    python -m tests.cluster.faults --table
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray.cluster_utils import Cluster

from search.ledger.file import NAME as LEDGER
from tests.processes import wait_for

#: one line of JSON for each fault that was injected
RESULTS = Path(__file__).parent / "faults.jsonl"
NODES = 3
#: seconds in which a fault must have been survived
LIMIT = 300.0
#: faults in one search
PER_SEARCH = 4
#: seconds without a sign of life after which these searches end a trial
PATIENCE = 20
#: beginnings of the titles that Ray gives to the processes of trials, while they train and between two results
TRIALS = ("ray::ResourceTrainable", "ray::InlineTrial")
SPEC: dict[str, Any] = {
    "schema": 1,
    "name": "faults",
    "search": {"budget": {"trials": 12}},
    "resources": {"patience": PATIENCE},
    "trial": {
        "data": {"kind": "motion", "train_clips": 4, "val_clips": 2, "test_clips": 1, "frames": 4, "size": 32,
                 "store": {"size": 32}},
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
        "train": {"epochs": 150, "batch": 4, "lr": {"float": [0.01, 0.1]}},
    },
}  # fmt: skip

Events = list[dict[str, Any]]


class Lab:
    """A cluster and a search on it.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "out"
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(NODES)]
        self.cluster.wait_for_nodes()
        path = folder / "spec.yaml"
        path.write_text(yaml.safe_dump(SPEC | {"output": str(self.output)}))
        self.log = (folder / "search.log").open("wb")
        words = ["run", str(path), "--address", self.cluster.address, "--restarts", "3"]
        self.search = subprocess.Popen(
            [sys.executable, "-m", "search", *words], stdout=self.log, stderr=subprocess.STDOUT
        )

    def events(self) -> Events:
        if not (self.output / LEDGER).exists():
            return []
        text = (self.output / LEDGER).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def driver(self) -> psutil.Process:
        """Return the process that runs the search, a child of the one that watches it."""
        return psutil.Process(self.search.pid).children()[0]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that train now."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or [""]
            if words[0].startswith(TRIALS) and self._is_of_this_cluster(process):
                found.append(process)
        return found

    def _is_of_this_cluster(self, process: psutil.Process) -> bool:
        raylets = {node.all_processes["raylet"][0].process.pid for node in self.nodes if node.all_processes}
        return any(parent.pid in raylets for parent in process.parents())

    def close(self) -> None:
        if self.search.poll() is None:
            self.search.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.search.wait(60)
            self.search.kill()
        self.log.close()
        for node in list(self.nodes):
            self.cluster.remove_node(node, allow_graceful=False)
        if ray.is_initialized():
            ray.shutdown()
        with contextlib.suppress(Exception):
            self.cluster.shutdown()


def _kill_worker(lab: Lab, chance: random.Random) -> None:
    chance.choice(lab.workers()).kill()


def _stop_worker(lab: Lab, chance: random.Random) -> None:
    """A trial that hangs: its process neither trains nor ends."""
    chance.choice(lab.workers()).send_signal(signal.SIGSTOP)


def _kill_driver(lab: Lab, chance: random.Random) -> None:
    lab.driver().kill()


def _pause_driver(lab: Lab, chance: random.Random) -> None:
    """The machine of the driver sleeps for longer than the patience with trials."""
    driver = lab.driver()
    driver.suspend()
    time.sleep(PATIENCE + 5)
    driver.resume()


def _kill_node(lab: Lab, chance: random.Random) -> None:
    """A node is lost, and another one joins."""
    node = chance.choice(lab.nodes)
    lab.nodes.remove(node)
    lab.cluster.remove_node(node, allow_graceful=False)
    lab.nodes.append(lab.cluster.add_node(num_cpus=1))


FAULTS: Mapping[str, Callable[[Lab, random.Random], None]] = {
    "process of a trial killed": _kill_worker,
    "process of a trial stopped (hang)": _stop_worker,
    "process of the search killed": _kill_driver,
    "process of the search asleep": _pause_driver,
    "node killed": _kill_node,
}
#: events by which a fault is seen
SIGNS = ("failed", "resumed")


def inject(lab: Lab, name: str, chance: random.Random) -> dict[str, Any]:
    """Inject one fault; return the seconds until it was noticed, and until all nodes trained again."""
    wait_for(lambda: len(lab.workers()) == NODES and _reports(lab.events()) > 0, LIMIT)
    time.sleep(chance.uniform(0, 3))
    before = lab.events()
    began = time.monotonic()
    FAULTS[name](lab, chance)

    def new() -> Events:
        return lab.events()[len(before) :]

    must_show = name != "process of the search asleep"
    if must_show:
        wait_for(lambda: any(event["event"] in SIGNS for event in new()), LIMIT)
    noticed = time.monotonic() - began
    at = len(lab.events())
    # An epoch has ended after the fault was noticed, in a training that started again if one was ended.
    lost = {event["trial"] for event in new() if event["event"] == "failed"}
    wait_for(lambda: any(event["event"] == "report" and event["trial"] in (lost or {event["trial"]})
                         for event in lab.events()[at:]))  # fmt: skip
    recovered = time.monotonic() - began
    return {"fault": name, "noticed": round(noticed, 1), "recovered": round(recovered, 1)}


def _reports(events: Events) -> int:
    return sum(event["event"] == "report" for event in events)


def check(events: Events) -> dict[str, int]:
    """Return what a ledger says of trials: finished, lost, and trained again after their end, and repeated epochs."""
    ended: set[int] = set()
    again = lost = repeated = 0
    known: dict[int, int] = {}
    for event in events:
        number = event.get("trial", -1)
        match event["event"]:
            case "started":
                again += number in ended
                repeated += known.get(number, 0) - event["epoch"]
            case "report":
                again += number in ended
                known[number] = event["epoch"]
            case "finished" | "stopped":
                ended.add(number)
            case "failed":
                lost += event["final"]
    return {"finished": len(ended), "lost": lost, "again": again, "repeated": repeated}


def free_cpus(lab: Lab) -> tuple[float, float]:
    """Return the free CPUs and all CPUs of the cluster after its search has ended."""
    if not ray.is_initialized():
        ray.init(address=lab.cluster.address, log_to_driver=False)
    total = ray.cluster_resources().get("CPU", 0.0)
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: ray.available_resources().get("CPU", 0.0) == total, 60)
    return ray.available_resources().get("CPU", 0.0), total


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    opened = Lab(folder)
    try:
        yield opened
    finally:
        opened.close()
        shutil.rmtree(folder, ignore_errors=True)


def search_with_faults(names: list[str], chance: random.Random) -> list[dict[str, Any]]:
    """Run one search and inject these faults into it; return a line for each, with the check of the whole search."""
    with lab() as opened:
        lines = [inject(opened, name, chance) for name in names]
        status = opened.search.wait(1200)
        free, total = free_cpus(opened)
        found = check(opened.events())
        whole = found["finished"] == SPEC["search"]["budget"]["trials"] and not found["lost"]
        good = {"status": status, "whole": whole, "again": found["again"], "leaked": total - free}
        return [line | good for line in lines]


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of the table of all faults."""
    yield "| fault | times | noticed after, s (median, worst) | trained on after, s (median, worst) |"
    yield "| --- | --- | --- | --- |"
    for name in FAULTS:
        those = [line for line in lines if line["fault"] == name]
        if those:
            cells = []
            for key in ("noticed", "recovered"):
                values = [line[key] for line in those]
                cells.append(f"{statistics.median(values):.1f}, {max(values):.1f}")
            yield f"| {name} | {len(those)} | {' | '.join(cells)} |"
    bad = [line for line in lines if line["status"] or not line["whole"] or line["again"] or line["leaked"]]
    yield ""
    yield f"{len(lines)} faults; in {len(bad)} of them a trial was lost or trained twice, or a CPU was not freed."


def main() -> None:
    parser = argparse.ArgumentParser(description="inject faults into real searches")
    parser.add_argument("--faults", type=int, default=10, help="number of faults to inject now")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only print the table of all faults so far")
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    if not arguments.table:
        chance = random.Random(arguments.seed)
        left = arguments.faults
        while left > 0:
            names = [chance.choice(list(FAULTS)) for _ in range(min(PER_SEARCH, left))]
            left -= len(names)
            for line in search_with_faults(names, chance):
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line | {"seed": arguments.seed}) + "\n")
                print(line, flush=True)
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    print("\n".join(table(lines)))


if __name__ == "__main__":
    main()

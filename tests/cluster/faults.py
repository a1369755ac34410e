"""Injects faults into real searches on a cluster of several nodes, and measures what they cost.

A head without CPUs and three nodes of one CPU run a search over the motion set as users run it. A seeded schedule
injects one fault after another. After each search, its ledger must show that no finished trial was lost or trained
twice, and the cluster that all CPUs are free. With one node, the order of reports is always the same unless another
node joins, so that the search must also decide as an undisturbed one does. Each fault adds one line to a table, so a
run can be cut off and continued at any time::

    python -m tests.cluster.faults --faults 20 --seed 1
    python -m tests.cluster.faults --faults 10 --seed 1 --nodes 1
    python -m tests.cluster.faults --faults 10 --quick
    python -m tests.cluster.faults --table
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.cluster.lab import ISOLATED, Events, Lab, is_isolated, isolated
from tests.processes import wait_for
from tests.search.report.tracking.databases import programs
from tests.search.tuner.outages import fill

#: one line of JSON for each fault that was injected
RESULTS = Path(__file__).parent / "faults.jsonl"
NODES = 3
#: seconds in which a fault must have been survived
LIMIT = 300.0
#: faults in one search
PER_SEARCH = 5
#: trials of a search
TRIALS = 10
#: seconds without a sign of life after which these searches end a trial
PATIENCE = 20
#: seconds for which an outage lasts after it was noticed
OUTAGE = 5.0
#: seconds by which the clock is set forward
STEP = 3600.0
#: where the kernel limits the memory of processes
CGROUP = Path("/sys/fs/cgroup/memory")
#: the fault that some configs of the space are
DIVERGED = "loss of a trial is not a number"
#: a learning rate with which the loss is not a number
TOO_HIGH = 1e30
SPEC: dict[str, Any] = {
    "schema": 1,
    "name": "faults",
    "search": {"budget": {"trials": TRIALS}, "scheduler": {"kind": "frontier"}},
    "resources": {"patience": PATIENCE},
    "trial": {
        "data": {"kind": "motion", "train_clips": 4, "val_clips": 2, "test_clips": 1, "frames": 4, "size": 32,
                 "store": {"size": 32}},
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
        "train": {"epochs": 80, "batch": 4, "lr": {"choice": [0.02, 0.05, 0.1, TOO_HIGH]},
                  "weight_decay": {"float": [1e-5, 1e-3]}},
    },
}  # fmt: skip


class Fault(NamedTuple):
    """A kind of fault."""

    inject: Callable[[Lab, random.Random], None]
    shows: Callable[[Lab, Events, str], bool]
    """whether it is noticed, by what the ledger and the log have got since"""
    end: Callable[[Lab], None] = lambda _: None
    """ends it, if it lasts"""
    needs: Callable[[], str] = lambda: ""
    """what it needs and this machine lacks; "" if nothing"""
    server: str = ""
    """the server beside the search that it needs"""
    hangs: bool = False
    """whether its trial hangs; one that hangs twice fails, so a search gets one such fault"""
    joins: bool = False
    """whether a node joins while a lost one is still counted: a trial more begins than in an undisturbed search"""
    quick: int = 0
    """how often it is among the ten faults of ``--quick``"""


def _worker(lab: Lab, chance: random.Random) -> psutil.Process:
    """Return a process that trains; between two trials there may be none."""
    found: list[psutil.Process] = []
    wait_for(lambda: found.extend(lab.workers()) or found, LIMIT, "no process trains")
    return chance.choice(found)


def _kill_worker(lab: Lab, chance: random.Random) -> None:
    _worker(lab, chance).kill()


def _stop_worker(lab: Lab, chance: random.Random) -> None:
    """A trial that hangs: its process neither trains nor ends."""
    _worker(lab, chance).send_signal(signal.SIGSTOP)


def _exhaust_worker(lab: Lab, chance: random.Random) -> None:
    """The kernel ends the process of a trial, because it gets almost no memory any more."""
    group = CGROUP / f"faults-{os.getpid()}-{len(list(CGROUP.glob('faults-*')))}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(2**20))
    process = _worker(lab, chance)
    with contextlib.suppress(OSError):
        (group / "memory.oom_control").write_text("0")
    (group / "cgroup.procs").write_text(str(process.pid))


def _refuse_memory(lab: Lab, chance: random.Random) -> None:
    """The process of a trial gets no memory any more, as by `ulimit -v`."""
    process = _worker(lab, chance)
    used = process.memory_info().rss
    resource.prlimit(process.pid, resource.RLIMIT_AS, (used, used))


def _kill_driver(lab: Lab, chance: random.Random) -> None:
    lab.driver().kill()


def _pause_driver(lab: Lab, chance: random.Random) -> None:
    """The machine of the driver sleeps for longer than the patience with trials."""
    driver = lab.driver()
    driver.suspend()
    time.sleep(PATIENCE + 5)
    driver.resume()


def _set_clock(lab: Lab, chance: random.Random) -> None:
    lab.advance_clock(STEP)


def _kill_node(lab: Lab, chance: random.Random) -> None:
    """A node is lost, and another one joins."""
    node = chance.choice(lab.nodes)
    lab.nodes.remove(node)
    node.kill()
    lab.add_node()


def _cut_node(lab: Lab, chance: random.Random) -> None:
    """A node lives on, but its network does not."""
    lab.cut = chance.choice(lab.nodes)
    subprocess.run(["ip", "link", "set", lab.cut.link, "down"], check=True)


def _replace_node(lab: Lab) -> None:
    """The network comes back; where Ray has given the node up, another one takes its place."""
    assert lab.cut
    subprocess.run(["ip", "link", "set", lab.cut.link, "up"], check=True)
    lab.nodes.remove(lab.cut)
    lab.add_node()
    lab.cut.kill()


def _make_read_only(lab: Lab, chance: random.Random) -> None:
    lab.make_read_only()


def _make_writable(lab: Lab) -> None:
    lab.detach()
    lab.attach()


def _fill_disk(lab: Lab, chance: random.Random) -> None:
    fill(lab.disk / "filler")


def _kill_mlflow(lab: Lab, chance: random.Random) -> None:
    assert lab.server
    lab.server.kill()


def _kill_database(lab: Lab, chance: random.Random) -> None:
    assert lab.server
    lab.server.kill_database()


def _start_mlflow(lab: Lab) -> None:
    assert lab.server
    lab.server.start()


def _start_database(lab: Lab) -> None:
    assert lab.server
    lab.server.start_database()


def _loses(lab: Lab, new: Events, said: str) -> bool:
    return any(event["event"] == "resumed" or (event["event"] == "failed" and not _is_nan(event)) for event in new)


def _is_nan(event: dict[str, Any]) -> bool:
    """Whether a trial failed because its config diverges, and not by an injected fault."""
    return event["final"] and "the training loss is" in event["error"]


def _waits(lab: Lab, new: Events, said: str) -> bool:
    return "waits:" in said


def _warns(lab: Lab, new: Events, said: str) -> bool:
    return "the search continues" in said


def _pauses(lab: Lab, new: Events, said: str) -> bool:
    return any(event["event"] == "paused" and event["seconds"] > STEP / 2 for event in new)


def _diverged(events: Events) -> Iterator[dict[str, Any]]:
    """Yield a line for each trial whose loss was not a number: seconds until it failed, and until another one began."""
    began: dict[int, float] = {}
    ahead, times = 0.0, list[float]()  # times of the ledger, without the steps of its clock
    for event in events:
        ahead += event["seconds"] if event["event"] == "paused" else 0.0
        times.append(event["time"] - ahead)
    for at, event in enumerate(events):
        if event["event"] == "started":
            began[event["trial"]] = times[at]
        if event["event"] == "failed" and _is_nan(event):
            since = began[event["trial"]]
            next_report = next((times[n] for n in range(at, len(events)) if events[n]["event"] == "report"), times[at])
            yield {
                "fault": DIVERGED, "noticed": round(times[at] - since, 1),
                "recovered": round(next_report - since, 1), "repeated": 0,
            }  # fmt: skip


def _nothing(lab: Lab, new: Events, said: str) -> bool:
    return True


def _needs_namespaces() -> str:
    return "" if is_isolated() else "this machine makes no namespaces"


def _needs_database() -> str:
    return "" if programs() else "PostgreSQL is not installed"


def _needs_cgroup() -> str:
    return "" if os.access(CGROUP, os.W_OK) and os.geteuid() == 0 else "this user makes no control groups"


FAULTS: Mapping[str, Fault] = {
    "process of a trial killed": Fault(_kill_worker, _loses, quick=3),
    "process of a trial stopped (hang)": Fault(_stop_worker, _loses, hangs=True),
    "process of a trial ended by the kernel for want of memory": Fault(_exhaust_worker, _loses, needs=_needs_cgroup),
    "process of a trial gets no memory": Fault(_refuse_memory, _loses, hangs=True),
    "process of the search killed": Fault(_kill_driver, _loses, quick=1),
    "process of the search asleep": Fault(_pause_driver, _nothing),
    "clock of the search set forward by an hour": Fault(_set_clock, _pauses, quick=2),
    "node killed, and another one joins": Fault(_kill_node, _loses, joins=True, quick=1),
    "network of a node cut": Fault(_cut_node, _loses, _replace_node, _needs_namespaces, joins=True),
    "head killed, and another one starts at its address": Fault(lambda lab, chance: lab.restart_head(), _loses),
    "output gone": Fault(lambda lab, chance: lab.detach(), _waits, Lab.attach, _needs_namespaces, quick=1),
    "output read-only": Fault(_make_read_only, _waits, _make_writable, _needs_namespaces, quick=1),
    "disk full": Fault(_fill_disk, _waits, lambda lab: (lab.disk / "filler").unlink(), _needs_namespaces, quick=1),
    "MLflow server killed": Fault(_kill_mlflow, _warns, _start_mlflow, server="mlflow"),
    "PostgreSQL of the MLflow server killed": Fault(
        _kill_database, _warns, _start_database, _needs_database, "postgresql"
    ),
}


def inject(lab: Lab, name: str, chance: random.Random) -> dict[str, Any] | None:
    """Inject one fault; return the seconds until it was noticed and until its trials trained again, and lost epochs.

    None: the search has ended before.
    """
    fault = FAULTS[name]
    wait_for(
        lambda: lab.has_ended or (len(lab.workers()) == len(lab.nodes) and _reports(lab.events()) > 0),
        LIMIT,
        f"before {name}: not all nodes train",
    )
    if lab.has_ended:
        return None
    time.sleep(chance.uniform(0, 3))
    before, said = len(lab.events()), len(lab.said())
    began = time.monotonic()
    fault.inject(lab, chance)
    wait_for(
        lambda: lab.has_ended or fault.shows(lab, lab.events()[before:], lab.said()[said:]),
        LIMIT,
        f"{name}: it is not noticed",
    )
    noticed = time.monotonic() - began
    at = len(lab.events())
    repeated = _not_in_checkpoint(lab, before)
    if fault.end is not Fault._field_defaults["end"]:
        time.sleep(OUTAGE)
        fault.end(lab)
    written = lab.server.epochs() if fault.server and lab.server else 0
    lost = {event["trial"] for event in lab.events()[before:at] if event["event"] == "failed" and not event["final"]}

    def goes_on() -> bool:
        """Whether an epoch has ended since, in a training that started again if one was ended, and is in MLflow."""
        reported = {event["trial"] for event in lab.events()[at:] if event["event"] == "report"}
        is_written = not (fault.server and lab.server) or lab.server.epochs() > written
        return lab.has_ended or (bool(reported & lost if lost else reported) and is_written)

    wait_for(goes_on, LIMIT, f"{name}: the search does not go on")
    recovered = time.monotonic() - began
    return {"fault": name, "noticed": round(noticed, 1), "recovered": round(recovered, 1), "repeated": repeated}


def _not_in_checkpoint(lab: Lab, before: int) -> int:
    """Return how many reported epochs the checkpoints of the trials lack that have lost their process."""
    import torch  # it takes seconds

    events, missing = lab.events(), 0
    new = events[before:]
    lost = {event["trial"] for event in new if event["event"] == "failed" and not event["final"]}
    if any(event["event"] == "resumed" for event in new):
        ended = {event["trial"] for event in events if event["event"] in ("finished", "stopped")}
        lost |= {event["trial"] for event in events if event["event"] == "report"} - ended
    for number in lost:
        reported = max(
            (event["epoch"] for event in events if event["event"] == "report" and event["trial"] == number), default=0
        )
        path = lab.checkpoint(number)
        with contextlib.suppress(OSError, RuntimeError, EOFError):
            saved = len(torch.load(path, weights_only=True)["epochs"]) if path.exists() else 0
            missing += max(reported - saved, 0)
    return missing


def _reports(events: Events) -> int:
    return sum(event["event"] == "report" for event in events)


def check(events: Events) -> dict[str, int]:
    """Return what a ledger says of trials: finished, lost, and trained again after their end."""
    ended: set[int] = set()
    again = lost = 0
    for event in events:
        number = event.get("trial", -1)
        match event["event"]:
            case "started" | "report":
                again += number in ended
            case "finished" | "stopped":
                ended.add(number)
            case "failed":
                lost += event["final"]
    return {"finished": len(ended), "lost": lost - len(list(_diverged(events))), "again": again}


def decisions(events: Events) -> list[tuple[Any, ...]]:
    """Return what a search decided and what it decided upon, in its order, without times."""
    chosen = []
    for event in events:
        match event["event"]:
            case "proposed" | "rejected":
                chosen.append((event["event"], json.dumps(event["params"], sort_keys=True)))
            case "report":
                chosen.append(("report", event["trial"], event["epoch"], json.dumps(event["metrics"], sort_keys=True)))
            case "stopped" | "finished":
                chosen.append((event["event"], event["trial"], event["epoch"]))
    return chosen


def _is_free(lab: Lab) -> float:
    """Return how many CPUs are not free after the search has ended."""
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: len(set(lab.cpus())) == 1, 60)
    free, total = lab.cpus()
    return total - free


def search_with_faults(
    names: list[str], nodes: int, chance: random.Random, undisturbed: list[tuple[Any, ...]] | None = None
) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
    """Run one search and inject these faults into it; return a line for each with the check of the search.

    The second result is what the search decided, which is compared with ``undisturbed``.
    """
    server = max((FAULTS[name].server for name in names), default="")
    trials = TRIALS if len(names) <= PER_SEARCH else 4 * TRIALS  # it must not end before its last fault
    spec = SPEC | {"search": SPEC["search"] | {"budget": {"trials": trials}}}
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with Lab(folder, spec, nodes, server) as lab:
            lines: list[dict[str, Any]] = []
            for name in names:
                if (line := inject(lab, name, chance)) is not None:
                    lines.append(line)
            status = lab.status(1800)
            events = lab.events()
            found = check(events)
            diverged = list(_diverged(events))
            whole = found["finished"] + len(diverged) == trials and not found["lost"]
            good = {"status": status, "whole": whole, "again": found["again"], "leaked": _is_free(lab)}
            if lab.server:
                good["tracked"] = lab.server.finished() == found["finished"]
            decided = decisions(events)
            if undisturbed is not None and not any(FAULTS[name].joins for name in names):
                good["equal"] = decided == undisturbed
            lines = [line | good for line in [*lines, *diverged]]
            if not lines or not is_good(lines[0]):
                kept = Path(tempfile.mkdtemp(prefix="faults-kept-"))
                shutil.copy(lab.log, kept)
                (kept / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
                print(f"its output and its ledger are in {kept}", flush=True)
            return lines, decided
    finally:
        time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)


def deck(available: list[str], chance: random.Random) -> Iterator[list[str]]:
    """Yield the faults of one search after another: each kind as often as any other, those of a sort together."""
    while True:
        kinds = chance.sample(available, len(available))
        kinds.sort(key=lambda name: (FAULTS[name].server != "", FAULTS[name].joins))
        hand = list[str]()
        for name in kinds:
            if len(hand) == PER_SEARCH or (FAULTS[name].hangs and any(FAULTS[other].hangs for other in hand)):
                yield hand
                hand = []
            hand.append(name)
        yield hand


def quick(available: list[str], chance: random.Random) -> Iterator[list[str]]:
    """Yield, for one search after another, the same ten faults, each of which is survived in seconds."""
    while True:
        ten = [name for name in available for _ in range(FAULTS[name].quick)]
        yield chance.sample(ten, len(ten))


def run(
    faults: int, seed: int, nodes: int, only: str, dealt: Callable[..., Iterator[list[str]]], results: Path
) -> None:
    """Inject faults that ``dealt`` divides among searches, and append a line for each to ``results``."""
    missing = {name: why for name, fault in FAULTS.items() if (why := fault.needs())}
    for name, why in missing.items():
        print(f"left out: {name}: {why}", flush=True)
    available = [name for name in FAULTS if name not in missing and only in name]
    undisturbed = search_with_faults([], nodes, random.Random(seed))[1] if nodes == 1 else None
    done = _lines(results)
    # A run that was cut off goes on with other faults than it had.
    chance = random.Random(f"{seed} {nodes} {len(done)}")
    left = faults
    for names in dealt(available, chance):
        if left <= 0:
            break
        names = names[:left]
        try:
            lines, _ = search_with_faults(names, nodes, chance, undisturbed)
        except TimeoutError as error:
            lines = [{"fault": names[0], "problem": str(error)}]
        with results.open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line | {"nodes": nodes, "seed": seed}) + "\n")
                print(line, flush=True)
        left -= sum(line["fault"] != DIVERGED for line in lines)


def _lines(results: Path) -> list[dict[str, Any]]:
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def is_good(line: dict[str, Any]) -> bool:
    """Return whether the search of a line lost and repeated nothing, freed its CPUs, and decided as it should."""
    if "problem" in line:
        return False
    held = line["whole"] and line.get("equal", True) and line.get("tracked", True)
    return held and not (line["status"] or line["again"] or line["leaked"])


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of the table of all faults."""
    yield "| fault | times | noticed after, s (median, worst) | trained on after, s (median, worst) | epochs repeated |"
    yield "| --- | --- | --- | --- | --- |"
    for name in [*FAULTS, DIVERGED]:
        those = [line for line in lines if line["fault"] == name and "problem" not in line]
        if those:
            cells = [str(len(those))]
            for key in ("noticed", "recovered"):
                values = [line[key] for line in those]
                cells.append(f"{statistics.median(values):.1f}, {max(values):.1f}")
            yield f"| {name} | {' | '.join(cells)} | {sum(line.get('repeated', 0) for line in those)} |"
    compared = [line for line in lines if "equal" in line]
    yield ""
    yield f"{len(lines)} faults; {sum(not is_good(line) for line in lines)} of them in a search that broke a rule."
    yield from (line["problem"] for line in lines if "problem" in line)
    yield f"{len(compared)} of them in searches whose decisions were compared with those of an undisturbed one."


def main() -> None:
    parser = argparse.ArgumentParser(description="inject faults into real searches")
    parser.add_argument("--faults", type=int, default=10, help="number of faults to inject now")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=NODES, help="1: also compare decisions with an undisturbed search")
    parser.add_argument("--only", default="", help="only the faults with this text in their name")
    parser.add_argument("--quick", action="store_true", help="only faults that are survived in seconds, ten a search")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that gets a line for each fault")
    parser.add_argument("--table", action="store_true", help="only print the table of all faults so far")
    arguments = parser.parse_args()
    if not arguments.table:
        if ISOLATED not in os.environ:
            os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
            os.environ.pop("RAY_ADDRESS", None)
            sys.exit(subprocess.run(isolated(["-m", "tests.cluster.faults", *sys.argv[1:]]), check=False).returncode)
        dealt = quick if arguments.quick else deck
        run(arguments.faults, arguments.seed, arguments.nodes, arguments.only, dealt, arguments.results)
    print("\n".join(table(_lines(arguments.results))))


if __name__ == "__main__":
    main()

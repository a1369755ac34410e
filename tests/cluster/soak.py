"""Runs searches one after the other on one cluster, and records what they leave behind.

A head and two nodes of one CPU stay up. After each search, the memory, open files, sockets and processes of the
cluster are counted, and the bytes in the folders of its nodes. None of them should grow from search to search. Each
search adds one line to a table, so a run can be cut off and continued at any time, on a new cluster::

    python -m tests.cluster.soak --hours 8
    python -m tests.cluster.soak --table
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml
from scipy.stats import theilslopes

from tests.cluster.faults import SPEC
from tests.cluster.lab import START, Node, answers, cpus
from tests.processes import free_port, wait_for

#: one line of JSON for each search
RESULTS = Path(__file__).parent / "soak.jsonl"
NODES = 2
#: seconds after a search in which Ray ends the processes that it keeps for the next one
IDLE = 10.0
#: searches of a cluster that do not count: it starts its processes with them
WARM_UP = 2
COUNTED = ("memory_mb", "files", "sockets", "processes", "folder_mb", "search_mb")


def kind_of(process: psutil.Process) -> str:
    """Return the name of the program of one of Ray's processes: the script where it is one of Python."""
    program, *words = process.cmdline() or [process.name()]
    if Path(program).name.startswith("python"):
        program = next((word for word in words if not word.startswith("-")), program)
    return Path(program).name


def counts(nodes: list[Node]) -> dict[str, Any]:
    """Return what the processes of a cluster use now, and the megabytes in the folders of its nodes.

    ``by_kind`` has the memory in megabytes and the open files of the processes of each program.
    """
    used = dict.fromkeys(("memory_mb", "files", "sockets", "processes"), 0.0)
    kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for node in nodes:
        root = psutil.Process(node.process.pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                found = process.memory_full_info().uss / 1e6, process.num_fds(), len(process.net_connections("all"))
                for name, value in zip(used, (*found, 1), strict=True):
                    used[name] += value
                kind = kinds[kind_of(process)]
                kind[0], kind[1] = round(kind[0] + found[0], 2), kind[1] + found[1]
    folders = sum(file.lstat().st_size for node in nodes for file in node.folder.rglob("*") if not file.is_symlink())
    return used | {"folder_mb": folders / 1e6, "by_kind": dict(kinds)}


def search(folder: Path, number: int, address: str) -> dict[str, Any]:
    """Run one search, and return how it went."""
    output = folder / "out"
    trials = 4
    tree = SPEC | {"search": {"budget": {"trials": trials}, "sampler": {"kind": "random", "seed": number}}}
    tree |= {"output": str(output), "trial": SPEC["trial"] | {"train": {"epochs": 2, "batch": 4, "lr": 0.05}}}
    tree["trial"]["train"]["weight_decay"] = {"float": [1e-5, 1e-3]}
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(tree))
    began = time.monotonic()
    command = [sys.executable, "-m", "search", "run", str(spec), "--address", address]
    with (folder / "search.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    text = (output / "ledger.jsonl").read_text() if (output / "ledger.jsonl").exists() else ""
    finished = sum(json.loads(line)["event"] == "finished" for line in text.splitlines())
    if status:
        print((folder / "search.log").read_text(errors="replace")[-2000:], flush=True)
    shutil.rmtree(output, ignore_errors=True)
    return {
        "status": os.waitstatus_to_exitcode(status), "whole": finished == trials,
        "seconds": time.monotonic() - began, "search_mb": usage.ru_maxrss / 1e3,
    }  # fmt: skip


def run(hours: float, searches: int, results: Path) -> None:
    """Run searches for some hours, or some of them, and append a line for each to ``results``."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    address = f"127.0.0.1:{free_port()}"
    nodes: list[Node] = []
    began = time.monotonic()
    cluster = f"{time.time():.0f}"
    try:
        nodes.append(Node(folder / "n0", 0, address))
        wait_for(lambda: answers(address), START, "the head does not answer")
        nodes += [Node(folder / f"n{number}", number, address) for number in range(1, NODES + 1)]
        wait_for(lambda: cpus(address)[1] == NODES, START, "the nodes do not join")
        number = 0
        while number < searches and time.monotonic() - began < 3600 * hours:
            line = search(folder, number, address)
            time.sleep(IDLE)
            hour = (time.monotonic() - began) / 3600
            line = {"cluster": cluster, "search": number, "hours": hour} | line | counts(nodes)
            line = {key: round(value, 4) if isinstance(value, float) else value for key, value in line.items()}
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
            number += 1
    finally:
        for node in reversed(nodes):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of the table of all searches: what a search adds is the median slope, by Theil and Sen."""
    clusters = {line["cluster"]: [other for other in lines if other["cluster"] == line["cluster"]] for line in lines}
    hours = sum(those[-1]["hours"] for those in clusters.values())
    broken = sum(bool(line["status"]) or not line["whole"] for line in lines)
    yield f"{len(lines)} searches on {len(clusters)} clusters in {hours:.1f} hours; {broken} of them were not whole."
    yield ""
    yield "| cluster | searches | what | first three | last three | a search adds (95 % interval) |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for those in clusters.values():
        warm = those[WARM_UP:]
        if len(warm) < 3:
            continue
        rows = {name: [line[name] for line in warm] for name in COUNTED}
        for kind in sorted(warm[-1].get("by_kind", ())):
            of_kind = [line["by_kind"].get(kind, [0.0, 0.0]) for line in warm]
            rows |= {f"{name} of {kind}": [used[n] for used in of_kind] for n, name in enumerate(COUNTED[:2])}
        for name, values in rows.items():
            slope, _, low, high = theilslopes(values)
            first, last = statistics.median(values[:3]), statistics.median(values[-3:])
            adds = f"{slope:+.3g} ({low:+.3g} to {high:+.3g})"
            yield f"| {those[0]['cluster']} | {len(those)} | {name} | {first:.4g} | {last:.4g} | {adds} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="run searches one after the other on one cluster")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--searches", type=int, default=10**9, help="number of searches at most")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that gets a line for each search")
    parser.add_argument("--table", action="store_true", help="only print the table of all searches so far")
    arguments = parser.parse_args()
    if not arguments.table:
        os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
        os.environ.pop("RAY_ADDRESS", None)
        run(arguments.hours, arguments.searches, arguments.results)
    lines = arguments.results.read_text(encoding="utf-8").splitlines() if arguments.results.exists() else []
    print("\n".join(table([json.loads(line) for line in lines])))


if __name__ == "__main__":
    main()

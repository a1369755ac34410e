"""Compares the whole service with two others on one machine, by the hypervolume of their fronts over time.

    python tests/benchmarks/bench_service.py run --work FOLDER [--systems ...] [--seconds 300] [--seeds 3] [--set ...]
    python tests/benchmarks/bench_service.py pack --work FOLDER
    python tests/benchmarks/bench_service.py table
    python tests/benchmarks/bench_service.py plot --out FILE.png

All search the space of spaces/library/quickstart.yaml on the same video files (FOLDER/videos, one folder per class),
with the same training config and seeds, one after another on the whole machine. Time is counted from the start of the
process, so it includes imports, the start of Ray and the decoding of files.

``run`` writes each search as a file into FOLDER and skips those that exist; ``pack`` adds them to
results/services.parquet; ``table`` prints this file as Markdown and ``plot`` draws it as a PNG. The two other services
are in services.py.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search.analysis.pareto import hypervolume
from search.ledger.file import NAME, history
from search.spec.schema import Spec
from search.spec.validation import load
from search.spec.yaml_reader import read
from vattn.data.layouts.motion import MotionDataConfig, generate

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "services.parquet"
QUICKSTART = HERE.parents[1] / "spaces" / "library" / "quickstart.yaml"
#: this project's service under different settings, with the changes of the spec; None for the other services
SYSTEMS: dict[str, list[str] | None] = {
    "ours": [],
    "ours-frontier": ["search.scheduler={kind: frontier}"],
    "stock": None,
    "competent": None,
    "competent-asha": None,
}
#: systems that are measured by default
DEFAULT_SYSTEMS = ("ours", "stock", "competent")
#: file of the other services, with a line when a trial reports or ends
REPORTS = "reports.jsonl"
#: seconds between SIGINT and the end of a system
GRACE = 120
Row = dict[str, Any]


def run(work: Path, systems: list[str], seconds: float, seeds: range, sets: list[str]) -> Iterator[str]:
    """Run the searches that ``work`` does not have yet, seed by seed, and yield a line about each."""
    work = work.resolve()
    videos = work / "videos"
    data = load(QUICKSTART, sets).data
    assert isinstance(data, MotionDataConfig)
    generate(data, videos)
    for seed, system in product(seeds, systems):
        path = work / f"{system}_{seed}.json"
        if path.exists():
            continue
        folder = work / f"{system}_{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        file = folder / "spec.yaml"
        changes = [*sets, *(SYSTEMS[system] or [])]
        file.write_text(json.dumps(tree(videos, folder / "search", seed, seconds, changes), indent=1))
        began = run_for(seconds, command(system, file, folder / "search", seed), folder / "log.txt")
        spec = load(file)
        read_trials = trials_of_ledger if SYSTEMS[system] is not None else trials_of_reports
        epochs = spec.trial_config(spec.space.plain()[1]).train.epochs
        trials = sorted(read_trials(folder / "search", epochs, began, began + seconds), key=lambda trial: trial["at"])
        # "dearest" is the name of the recorded column.
        row: Row = {"system": system, "seed": seed, "seconds": seconds, "dearest": max_gflops(spec), "trials": trials}
        path.with_suffix(".part").write_text(json.dumps(row))
        path.with_suffix(".part").replace(path)
        shutil.rmtree(folder / "search" / "cache", ignore_errors=True)  # hundreds of megabytes
        counts = ", ".join(f"{count(row, state)} {state}" for state in ("finished", "stopped", "cut"))
        yield f"{path.stem}: {counts}; hypervolume {Curve(row).at(seconds):.4f}"


def tree(videos: Path, output: Path, seed: int, seconds: float, sets: Sequence[str]) -> dict[str, Any]:
    """Return the quickstart's spec for these videos, with a budget of time only; one seed for sampler and weights."""
    spec = read(QUICKSTART, sets)
    spec["trial"]["data"] = {"kind": "folders", "root": str(videos)}
    spec["trial"]["train"]["seed"] = spec["search"]["sampler"]["seed"] = seed
    spec["search"]["budget"] = {"hours": seconds / 3600}
    spec["output"] = str(output)
    return spec


def command(system: str, spec: Path, output: Path, seed: int) -> list[str]:
    """Return the command that runs a search."""
    if SYSTEMS[system] is not None:
        return [sys.executable, "-m", "search", "run", str(spec)]
    return [sys.executable, str(HERE / "services.py"), system, str(spec), str(output), str(seed)]


def run_for(seconds: float, arguments: list[str], log: Path) -> float:
    """Run a command for this time, then interrupt it; return its start in Unix seconds.

    Raises:
        RuntimeError: it ended much earlier, or does not end.
    """
    with log.open("w") as file:
        began = time.time()
        process = subprocess.Popen(arguments, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"process {process.pid} does not end; see {log}, and end it") from None
    if (
        time.time() - began < 0.8 * seconds
    ):  # this project's service ends a little early, once no trial could finish in time
        raise RuntimeError(f"ended early, with status {process.returncode}; see {log}")
    return began


def trials_of_ledger(output: Path, epochs: int, began: float, until: float) -> Iterator[Row]:
    """Yield the trials of this project's service as they were at the time ``until``."""
    for trial in history(output / NAME).trials.values():
        reports = [(report.time, report.metrics["top1"], report.seconds) for report in trial.reports]
        network = {"gflops": trial.cost["gflops"], "architecture": trial.architecture}
        yield from trial_at(reports, trial.end.time if trial.end else None, network, epochs, began, until)


def trials_of_reports(output: Path, epochs: int, began: float, until: float) -> Iterator[Row]:
    """Yield the trials of another service as they were at the time ``until``."""
    events: dict[str, list[Row]] = {}
    for line in (output / REPORTS).read_text().splitlines():
        event = json.loads(line)
        events.setdefault(event["trial"], []).append(event)
    for lines in events.values():
        reports = [(line["time"], line["top1"], line["seconds"]) for line in lines if "top1" in line]
        end = next((line["time"] for line in lines if "top1" not in line), None)
        network = {name: lines[0].get(name) for name in ("gflops", "architecture")}
        yield from trial_at(reports, end, network, epochs, began, until)


def trial_at(
    reports: list[tuple[float, float, float]], end: float | None, network: Row, epochs: int, began: float, until: float
) -> Iterator[Row]:
    """Yield a trial as it was at ``until``, if it had reported (time, top1, seconds) by then.

    Its state is finished, stopped, or cut, which means that it was still running.
    """
    reports = [report for report in reports if report[0] <= until]
    if not reports:
        return
    stopped = end is not None and end <= until
    state = "finished" if len(reports) == epochs else "stopped" if stopped else "cut"
    yield {
        "at": round(reports[-1][0] - began, 2), "state": state, "epochs": len(reports), "top1": reports[-1][1],
        "training": round(sum(seconds for *_, seconds in reports), 2), **network,
    }  # fmt: skip


def max_gflops(spec: Spec) -> float:
    """Return the GFLOPs of the most expensive config of the space that meets the constraints."""
    costs = (spec.cost(spec.trial_config(tree)) for _, tree in spec.space.enumerate())
    return max(cost["gflops"] for cost in costs if not spec.broken_limits(cost))


def pack(work: Path) -> int:
    """Add the searches of ``work`` to the committed ones, and return their number."""
    rows = load_results() if RESULTS.exists() else []
    rows += [json.loads(path.read_text()) for path in work.glob("*.json")]
    by_key = {(row["seconds"], row["system"], row["seed"]): row for row in rows}
    RESULTS.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([by_key[key] for key in sorted(by_key)]), RESULTS, compression="zstd")
    return len(by_key)


def load_results() -> list[Row]:
    """Return the committed searches."""
    return pq.read_table(RESULTS).to_pylist()


def count(row: Row, state: str) -> int:
    """Return the number of trials of a search in this state."""
    return sum(trial["state"] == state for trial in row["trials"])


class Curve:
    """Hypervolume of the finished trials of a search over time.

    Objectives are top-1 accuracy and GFLOPs as a fraction of the most expensive config, both linear from 0 to 1; the
    reference point is (0, 1). Each service measures accuracy itself, on the same validation split.
    """

    def __init__(self, row: Row) -> None:
        finished = [trial for trial in row["trials"] if trial["state"] == "finished"]
        points = [(trial["top1"], trial["gflops"] / row["dearest"]) for trial in finished]
        self._times = [trial["at"] for trial in finished]
        self._volumes = [hypervolume(points[: n + 1], (0, 1), ("max", "min")) for n in range(len(points))]

    def at(self, seconds: float) -> float:
        """Return the hypervolume this many seconds after the start of the process."""
        done = int(np.searchsorted(self._times, seconds, side="right"))
        return self._volumes[done - 1] if done else 0.0

    def reached(self, volume: float) -> float:
        """Return the seconds until the search has this hypervolume; infinite if it never has."""
        steps = zip(self._times, self._volumes, strict=True)
        return next((seconds for seconds, reached in steps if reached >= volume), inf)

    @property
    def times(self) -> list[float]:
        """Return the seconds at which the hypervolume can change."""
        return self._times


class System:
    """The searches of one system, by seed."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.seconds = rows[0]["seconds"]
        self.curves = {row["seed"]: Curve(row) for row in rows}

    def at(self, seconds: float) -> list[float]:
        """Return the hypervolume of each seed after this many seconds."""
        return [curve.at(seconds) for curve in self.curves.values()]

    def reached(self, volume: float) -> float:
        """Return the seconds until the median over seeds has this hypervolume; infinite if it never has."""
        times = sorted(seconds for curve in self.curves.values() for seconds in curve.times)
        return next((seconds for seconds in times if np.median(self.at(seconds)) >= volume), inf)

    def overhead(self, slots: int) -> float:
        """Return the seconds per trial that are not spent in epochs: start, decoding, proposals.

        Args:
            slots: trials that run at the same time.
        """
        overheads = [
            (slots * row["seconds"] - sum(t["training"] for t in row["trials"])) / max(len(row["trials"]), 1)
            for row in self.rows
        ]
        return float(np.median(overheads))


def systems_by_duration(rows: Sequence[Row]) -> dict[float, dict[str, System]]:
    """Return the measured systems, in the order of `SYSTEMS`, by the duration of their searches."""
    groups: dict[float, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: (row["seconds"], list(SYSTEMS).index(row["system"]))):
        groups.setdefault(row["seconds"], {}).setdefault(row["system"], []).append(row)
    return {
        seconds: {name: System(searches) for name, searches in systems.items()} for seconds, systems in groups.items()
    }


def table(rows: Sequence[Row], slots: int) -> Iterator[str]:
    """Yield the lines of the tables as Markdown: the final hypervolumes, and the times until they are reached."""
    for seconds, systems in systems_by_duration(rows).items():
        yield from [f"### {seconds:g} seconds", "", *_compared(systems, slots), ""]


def _compared(systems: dict[str, System], slots: int) -> Iterator[str]:
    yield "| system | seeds | final hypervolume | finished | stopped | first finished, s | overhead per trial, s |"
    yield "| --- " * 7 + "|"
    for name, system in systems.items():
        final = system.at(system.seconds)
        first = np.median([curve.reached(0.0) for curve in system.curves.values()])
        counts = [f"{np.median([count(row, state) for row in system.rows]):g}" for state in ("finished", "stopped")]
        yield (
            f"| {name} | {len(final)} | {np.median(final):.4f} ({min(final):.4f} to {max(final):.4f}) | "
            f"{' | '.join(counts)} | {first:.0f} | {system.overhead(slots):.2f} |"
        )
    for champion, peer in product(systems, systems):
        if SYSTEMS[champion] is not None and SYSTEMS[peer] is None:
            yield from ["", *against(champion, systems[champion], peer, systems[peer])]


def against(name: str, system: System, peer_name: str, peer: System) -> Iterator[str]:
    """Yield the times until a system and its peer reach the peer's final hypervolume, by seed and for the medians."""
    yield (
        f"| seconds to the final hypervolume of {peer_name} | {name} | {peer_name} | of the duration | of {peer_name} |"
    )
    yield "| --- " * 5 + "|"
    finals = {seed: curve.at(peer.seconds) for seed, curve in peer.curves.items()}
    rows = [
        (f"seed {seed}", system.curves[seed].reached(finals[seed]), peer.curves[seed].reached(finals[seed]))
        for seed in sorted(system.curves.keys() & finals.keys())
    ]
    final = float(np.median(list(finals.values())))
    for label, seconds, peer_seconds in [*rows, ("of the medians", system.reached(final), peer.reached(final))]:
        if seconds == inf:
            yield f"| {label} | never | {peer_seconds:.0f} | - | - |"
        else:
            fractions = f"{seconds / peer.seconds:.0%} | {seconds / peer_seconds:.0%}"
            yield f"| {label} | {seconds:.0f} | {peer_seconds:.0f} | {fractions} |"


def plot(rows: Sequence[Row], out: Path) -> Path:
    """Plot the median hypervolume of each system over time, and its range over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = systems_by_duration(rows)
    figure, (axes,) = plt.subplots(
        1, len(panels), squeeze=False, sharey=True, figsize=(1 + 6 * len(panels), 4.5), layout="constrained"
    )
    for axis, (seconds, systems) in zip(axes, panels.items(), strict=True):
        grid = np.linspace(0, seconds, 600)
        for name, system in systems.items():
            color = f"C{list(SYSTEMS).index(name)}"
            volumes = np.array([system.at(time) for time in grid])
            axis.plot(grid, np.median(volumes, axis=1), label=name, color=color, linewidth=1.8, drawstyle="steps-post")
            axis.fill_between(grid, volumes.min(1), volumes.max(1), color=color, alpha=0.15, linewidth=0, step="post")
        axis.set(xlabel="seconds since the start of the process", title=f"{seconds:g} seconds for each search")
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    axes[0].set(ylabel="hypervolume (top-1 x fraction of GFLOPs)", ylim=(0, None))
    figure.suptitle("Median and range over seeds")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)
    return out


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run the searches that FOLDER does not have yet")
    runs.add_argument("--work", type=Path, required=True)
    runs.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(DEFAULT_SYSTEMS))
    runs.add_argument("--seconds", type=float, default=300, help="duration of each search")
    runs.add_argument("--seeds", type=int, default=3, help="the seeds 0 ... N - 1")
    runs.add_argument("--set", nargs="+", default=[], help="changes of the spec, a.b=value, for a quick test")
    packs = commands.add_parser("pack", help="add the searches of FOLDER to the committed ones")
    packs.add_argument("--work", type=Path, required=True)
    tables = commands.add_parser("table", help="print the committed searches as Markdown")
    plots = commands.add_parser("plot", help="draw the committed searches")
    plots.add_argument("--out", type=Path, required=True)
    for command_parser in (tables, plots):
        command_parser.add_argument("--work", type=Path, help="use the searches of FOLDER instead")
    tables.add_argument(
        "--slots", type=int, default=os.cpu_count(), help="trials at the same time on the machine of the measurement"
    )
    args = parser.parse_args()
    if args.command == "run":
        lines: Iterator[Any] = run(args.work, args.systems, args.seconds, range(args.seeds), args.set)
    elif args.command == "pack":
        lines = iter([f"{RESULTS}: {pack(args.work)} searches"])
    else:
        rows = (
            [json.loads(path.read_text()) for path in sorted(args.work.glob("*.json"))] if args.work else load_results()
        )
        lines = table(rows, args.slots) if args.command == "table" else iter([plot(rows, args.out)])
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()

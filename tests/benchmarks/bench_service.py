"""The whole service beside two others on one machine: how good a front each has after how many seconds.

    python tests/benchmarks/bench_service.py run --work FOLDER [--systems ...] [--seconds 300] [--seeds 3] [--set ...]
    python tests/benchmarks/bench_service.py pack --work FOLDER
    python tests/benchmarks/bench_service.py table
    python tests/benchmarks/bench_service.py plot --out FILE.png

All search the space of spaces/library/quickstart.yaml, from the same video files (FOLDER/videos, a folder a class),
with the same recipe and the same seeds, and each has the whole machine. The clock starts with the process: imports, the
start of Ray and the decoding of files are in it. ``run`` keeps each search as a file in FOLDER and passes over those
that are there; ``pack`` puts them into results/services.parquet, from which ``table`` writes Markdown and ``plot`` a
PNG. The other two are in services.py.
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
#: Ours by what of its spec is changed; the others by None. The first is compared with the others.
SYSTEMS: dict[str, list[str] | None] = {
    "ours": [],
    "ours-frontier": ["search.scheduler={kind: frontier}"],
    "stock": None,
    "competent": None,
    "competent-asha": None,
}
#: which of them are measured unless others are named
USUAL = ("ours", "stock", "competent")
#: what the other two write into their folder: a line when a trial reports or ends
REPORTS = "reports.jsonl"
#: seconds that a system has to end after SIGINT
GRACE = 120
Row = dict[str, Any]


def run(work: Path, systems: list[str], seconds: float, seeds: range, sets: list[str]) -> Iterator[str]:
    """Run what ``work`` does not have yet, seed by seed, and yield a line about each search."""
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
        began = watch(command(system, file, folder / "search", seed), seconds, folder / "log.txt")
        spec = load(file)
        ends = ledger_ends if SYSTEMS[system] is not None else reported_ends
        epochs = spec.trial_config(spec.space.plain()[1]).train.epochs
        trials = sorted(ends(folder / "search", epochs, began, began + seconds), key=lambda trial: trial["at"])
        row: Row = {"system": system, "seed": seed, "seconds": seconds, "dearest": dearest(spec), "trials": trials}
        path.with_suffix(".part").write_text(json.dumps(row))
        path.with_suffix(".part").replace(path)
        shutil.rmtree(folder / "search" / "cache", ignore_errors=True)  # hundreds of megabytes
        counts = ", ".join(f"{count(row, state)} {state}" for state in ("finished", "stopped", "cut"))
        yield f"{path.stem}: {counts}; hypervolume {Curve(row).at(seconds):.4f}"


def tree(videos: Path, output: Path, seed: int, seconds: float, sets: Sequence[str]) -> dict[str, Any]:
    """Return the quickstart's spec on these videos, with a budget of time alone; the seed is also that of weights."""
    spec = read(QUICKSTART, sets)
    spec["trial"]["data"] = {"kind": "folders", "root": str(videos)}
    spec["trial"]["train"]["seed"] = spec["search"]["sampler"]["seed"] = seed
    spec["search"]["budget"] = {"hours": seconds / 3600}
    spec["output"] = str(output)
    return spec


def command(system: str, spec: Path, output: Path, seed: int) -> list[str]:
    """Return the command that searches."""
    if SYSTEMS[system] is not None:
        return [sys.executable, "-m", "search", "run", str(spec)]
    return [sys.executable, str(HERE / "services.py"), system, str(spec), str(output), str(seed)]


def watch(words: list[str], seconds: float, log: Path) -> float:
    """Run a command for so long, then interrupt it; return when it began (Unix seconds).

    Raises RuntimeError where it ends much earlier, or does not end.
    """
    with log.open("w") as file:
        began = time.time()
        process = subprocess.Popen(words, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"process {process.pid} does not end; see {log}, and end it") from None
    if time.time() - began < 0.8 * seconds:  # ours ends itself once no trial could end in time
        raise RuntimeError(f"ended early, with status {process.returncode}; see {log}")
    return began


def ledger_ends(output: Path, epochs: int, began: float, until: float) -> Iterator[Row]:
    """Yield what ours has of each trial at the time ``until``."""
    for trial in history(output / NAME).trials.values():
        reports = [(report["time"], report["metrics"]["top1"], report["seconds"]) for report in trial.reports]
        network = {"gflops": trial.cost["gflops"], "architecture": trial.architecture}
        yield from ended(reports, trial.end["time"] if trial.end else None, network, epochs, began, until)


def reported_ends(output: Path, epochs: int, began: float, until: float) -> Iterator[Row]:
    """Yield what another system has of each trial at the time ``until``."""
    events: dict[str, list[Row]] = {}
    for line in (output / REPORTS).read_text().splitlines():
        event = json.loads(line)
        events.setdefault(event["trial"], []).append(event)
    for lines in events.values():
        reports = [(line["time"], line["top1"], line["seconds"]) for line in lines if "top1" in line]
        end = next((line["time"] for line in lines if "top1" not in line), None)
        network = {name: lines[0].get(name) for name in ("gflops", "architecture")}
        yield from ended(reports, end, network, epochs, began, until)


def ended(
    reports: list[tuple[float, float, float]], end: float | None, network: Row, epochs: int, began: float, until: float
) -> Iterator[Row]:
    """Yield a trial that had reported (time, top1, seconds) by ``until``: finished, stopped, or cut by the clock."""
    reports = [report for report in reports if report[0] <= until]
    if not reports:
        return
    stopped = end is not None and end <= until
    state = "finished" if len(reports) == epochs else "stopped" if stopped else "cut"
    yield {
        "at": round(reports[-1][0] - began, 2), "state": state, "epochs": len(reports), "top1": reports[-1][1],
        "training": round(sum(seconds for *_, seconds in reports), 2), **network,
    }  # fmt: skip


def dearest(spec: Spec) -> float:
    """Return the GFLOPs of the space's most expensive config within the limits."""
    costs = (spec.cost(spec.trial_config(tree)) for _, tree in spec.space.enumerate())
    return max(cost["gflops"] for cost in costs if not spec.broken_limits(cost))


def pack(work: Path) -> int:
    """Write the searches of ``work`` into the committed table; return how many there are now."""
    rows = load_results() if RESULTS.exists() else []
    rows += [json.loads(path.read_text()) for path in work.glob("*.json")]
    found = {(row["seconds"], row["system"], row["seed"]): row for row in rows}
    RESULTS.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([found[key] for key in sorted(found)]), RESULTS, compression="zstd")
    return len(found)


def load_results() -> list[Row]:
    """Return the committed searches."""
    return pq.read_table(RESULTS).to_pylist()


def count(row: Row, state: str) -> int:
    """Return how many trials of a search are in a state."""
    return sum(trial["state"] == state for trial in row["trials"])


class Curve:
    """What the finished trials of a search dominate, after each: the share of accuracy 0 ... 1 x cost 0 ... dearest.

    Cost is linear. All are judged by the accuracy that they measured themselves, on the same validation split.
    """

    def __init__(self, row: Row) -> None:
        finished = [trial for trial in row["trials"] if trial["state"] == "finished"]
        points = [(trial["top1"], trial["gflops"] / row["dearest"]) for trial in finished]
        self._times = [trial["at"] for trial in finished]
        self._volumes = [hypervolume(points[: n + 1], (0, 1), ("max", "min")) for n in range(len(points))]

    def at(self, seconds: float) -> float:
        """Return the hypervolume so many seconds after the start of the process."""
        done = int(np.searchsorted(self._times, seconds, side="right"))
        return self._volumes[done - 1] if done else 0.0

    def reached(self, volume: float) -> float:
        """Return the seconds after which it has this hypervolume; infinite if it never has."""
        steps = zip(self._times, self._volumes, strict=True)
        return next((at for at, reached in steps if reached >= volume), inf)

    @property
    def times(self) -> list[float]:
        """When it changes, seconds."""
        return self._times


class System:
    """The searches of one system, by seed."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.seconds = rows[0]["seconds"]
        self.curves = {row["seed"]: Curve(row) for row in rows}

    def at(self, seconds: float) -> list[float]:
        """Return each seed's hypervolume after so many seconds."""
        return [curve.at(seconds) for curve in self.curves.values()]

    def reached(self, volume: float) -> float:
        """Return the seconds after which the median over seeds is this hypervolume; infinite if it never is."""
        times = sorted(at for curve in self.curves.values() for at in curve.times)
        return next((at for at in times if np.median(self.at(at)) >= volume), inf)

    def outside(self, slots: int) -> float:
        """Return the seconds of a slot that pass outside of epochs, a trial; start, decoding, proposals included."""
        each = [
            (slots * row["seconds"] - sum(t["training"] for t in row["trials"])) / max(len(row["trials"]), 1)
            for row in self.rows
        ]
        return float(np.median(each))


def clocks(rows: Sequence[Row]) -> dict[float, dict[str, System]]:
    """Return the systems that have been measured, in their order, by the seconds that each search had."""
    met: dict[float, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: (row["seconds"], list(SYSTEMS).index(row["system"]))):
        met.setdefault(row["seconds"], {}).setdefault(row["system"], []).append(row)
    return {seconds: {name: System(each) for name, each in systems.items()} for seconds, systems in met.items()}


def table(rows: Sequence[Row], slots: int) -> Iterator[str]:
    """Yield the lines of the tables, Markdown: what each has in the end, and when ours had what others have then."""
    for seconds, systems in clocks(rows).items():
        yield from [f"### {seconds:g} seconds", "", *_compared(systems, slots), ""]


def _compared(systems: dict[str, System], slots: int) -> Iterator[str]:
    yield "| system | seeds | hypervolume in the end | finished | stopped | first finished, s | outside epochs, s |"
    yield "| --- " * 7 + "|"
    for name, system in systems.items():
        final = system.at(system.seconds)
        first = np.median([curve.reached(0.0) for curve in system.curves.values()])
        ends = [f"{np.median([count(row, state) for row in system.rows]):g}" for state in ("finished", "stopped")]
        yield (
            f"| {name} | {len(final)} | {np.median(final):.4f} ({min(final):.4f} to {max(final):.4f}) | "
            f"{' | '.join(ends)} | {first:.0f} | {system.outside(slots):.2f} |"
        )
    for champion, peer in product(systems, systems):
        if SYSTEMS[champion] is not None and SYSTEMS[peer] is None:
            yield from ["", *against(champion, systems[champion], peer, systems[peer])]


def against(champion: str, ours: System, peer: str, theirs: System) -> Iterator[str]:
    """Yield when one system had what another has in the end, by seed and of the medians."""
    yield f"| seconds to the final front of {peer} | {champion} | {peer} | share of the clock | share of {peer}'s |"
    yield "| --- " * 5 + "|"
    finals = {seed: curve.at(theirs.seconds) for seed, curve in theirs.curves.items()}
    rows = [
        (f"seed {seed}", ours.curves[seed].reached(finals[seed]), theirs.curves[seed].reached(finals[seed]))
        for seed in sorted(ours.curves.keys() & finals.keys())
    ]
    final = float(np.median(list(finals.values())))
    for label, own, other in [*rows, ("of the medians", ours.reached(final), theirs.reached(final))]:
        if own == inf:
            yield f"| {label} | never | {other:.0f} | - | - |"
        else:
            yield f"| {label} | {own:.0f} | {other:.0f} | {own / theirs.seconds:.0%} | {own / other:.0%} |"


def plot(rows: Sequence[Row], out: Path) -> Path:
    """Draw each system's median hypervolume over time, and the range over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = clocks(rows)
    figure, (axes,) = plt.subplots(
        1, len(panels), squeeze=False, sharey=True, figsize=(1 + 6 * len(panels), 4.5), layout="constrained"
    )
    for axis, (seconds, systems) in zip(axes, panels.items(), strict=True):
        grid = np.linspace(0, seconds, 600)
        for name, system in systems.items():
            color = f"C{list(SYSTEMS).index(name)}"
            volumes = np.array([system.at(at) for at in grid])
            axis.plot(grid, np.median(volumes, axis=1), label=name, color=color, linewidth=1.8, drawstyle="steps-post")
            axis.fill_between(grid, volumes.min(1), volumes.max(1), color=color, alpha=0.15, linewidth=0, step="post")
        axis.set(xlabel="seconds since the start of the process", title=f"{seconds:g} seconds for each search")
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    axes[0].set(ylabel="hypervolume (top-1 x share of GFLOPs)", ylim=(0, None))
    figure.suptitle("Median over seeds, and their range")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)
    return out


def main() -> None:
    """Run, pack or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run the searches that FOLDER does not have yet")
    runs.add_argument("--work", type=Path, required=True)
    runs.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(USUAL))
    runs.add_argument("--seconds", type=float, default=300, help="wall-clock of each search")
    runs.add_argument("--seeds", type=int, default=3, help="the seeds 0 ... N - 1")
    runs.add_argument("--set", nargs="+", default=[], help="changes of the spec, a.b=value, for a quick look")
    packs = commands.add_parser("pack", help="add the searches of FOLDER to the committed ones")
    packs.add_argument("--work", type=Path, required=True)
    tables = commands.add_parser("table", help="print the committed searches as Markdown")
    plots = commands.add_parser("plot", help="draw the committed searches")
    plots.add_argument("--out", type=Path, required=True)
    for shows in (tables, plots):
        shows.add_argument("--work", type=Path, help="show those of FOLDER instead")
    tables.add_argument("--slots", type=int, default=os.cpu_count(), help="trials at once, where it was measured")
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

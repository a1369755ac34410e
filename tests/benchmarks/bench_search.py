"""Search methods compared on recorded trainings: how good a front each has found for how much compute.

    python tests/benchmarks/bench_search.py run --work FOLDER [--problems ...] [--peers ...] [--workers 1 8] [--seeds 8]
    python tests/benchmarks/bench_search.py pack --work FOLDER
    python tests/benchmarks/bench_search.py table
    python tests/benchmarks/bench_search.py plot --out FOLDER

``run`` keeps each search as a file in FOLDER and passes over those that are there; ``pack`` puts them into
results/searches.parquet, from which ``table`` writes Markdown and ``plot`` PNGs. Some methods need the packages of
requirements-peers.txt; what a regret is, `problems.Problem.volume` says.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import binom, wilcoxon

from tests.benchmarks.peers import PEERS, STOPPING
from tests.benchmarks.problems import BUDGETS, OURS, SETTINGS, Problem, load_problem
from tests.benchmarks.simulator import Training, simulate

RESULTS = Path(__file__).parent / "results" / "searches.parquet"
#: shares of the budget at which a search is looked at
LOOKS = (0.3, 0.6, 1.0)
#: regrets below are drawn as this one: a logarithm has no place for 0
SHOWN = 0.5
#: the methods that the others are compared with, and from how many seeds on another one sets their target
CHAMPIONS, ENOUGH = ("frontier", "frontier-stopping"), 5
#: What is kept of each training, see `simulator.Training`, and the regret after it.
TYPES = {
    "config": pa.int16(), "epochs": pa.int8(), "full": pa.bool_(), "spent": pa.float32(), "regret": pa.float32(),
}  # fmt: skip
Row = dict[str, Any]


def run(work: Path, problems: list[str], peers: list[str], workers: list[int], seeds: range) -> Iterator[str]:
    """Run what ``work`` does not have yet, seed by seed, and yield a line about each search."""
    work.mkdir(parents=True, exist_ok=True)
    table = cache(load_problem)
    for seed, name, peer, count in product(seeds, problems, peers, workers):
        path = work / f"{name}_{peer}_{count}_{seed}.json"
        if path.exists() or (peer in STOPPING and name != OURS):
            continue
        problem = table(name)
        trainings = simulate(problem, PEERS[peer](problem, seed, count), count, BUDGETS[name], seed)
        row: Row = {"problem": name, "peer": peer, "workers": count, "seed": seed}
        kept = [name for name in TYPES if name != "regret"]
        row |= {name: [getattr(training, name) for training in trainings] for name in kept}
        row["regret"] = regrets(problem, trainings)
        row["thought"] = float(np.mean([training.thought for training in trainings]))
        part = path.with_suffix(".part")
        part.write_text(json.dumps(row))
        part.replace(path)
        shown = ", ".join(f"{at(row, share * BUDGETS[name]):.1f}" for share in LOOKS)
        yield f"{path.stem}: {len(trainings)} trainings, regret {shown}"


def regrets(problem: Problem, trainings: Sequence[Training]) -> list[float]:
    """Return the regret of what is fully trained, after each of the trainings."""
    full = [training.full for training in trainings]
    values = [1000 * problem.best, *problem.regrets([training.config for training in trainings if training.full])]
    return [float(values[n]) for n in np.cumsum(full)]


def at(row: Row, spent: float) -> float:
    """Return a search's regret when it had used ``spent`` full trainings; infinite before its first training ended."""
    done = np.searchsorted(row["spent"], spent + 1e-9)
    return row["regret"][done - 1] if done else inf


def pack(work: Path) -> int:
    """Write the searches of ``work`` into the committed table; return how many there are now."""
    rows = {_name(row): row for row in read()} if RESULTS.exists() else {}
    rows |= {_name(row): row for row in (json.loads(path.read_text()) for path in work.glob("*.json"))}
    table = pa.Table.from_pylist([rows[name] for name in sorted(rows)])
    for name, kind in TYPES.items():
        values = pa.array(table[name].to_pylist(), pa.list_(kind))
        table = table.set_column(table.schema.get_field_index(name), name, values)
    RESULTS.parent.mkdir(exist_ok=True)
    pq.write_table(table, RESULTS, compression="zstd", compression_level=19, use_dictionary=False)
    return len(rows)


def _name(row: Row) -> tuple[str, str, int, int]:
    return row["problem"], row["peer"], row["workers"], row["seed"]


def read() -> list[Row]:
    """Return the committed searches."""
    return pq.read_table(RESULTS).to_pylist()


class Comparison:
    """The searches of all methods on one problem with one number of workers."""

    def __init__(self, problem: str, rows: list[Row]) -> None:
        self.budget = BUDGETS[problem]
        self.looks = [round(share * self.budget) for share in LOOKS]
        self.searches: dict[str, dict[int, Row]] = {}
        for row in sorted(rows, key=lambda row: list(PEERS).index(row["peer"])):
            self.searches.setdefault(row["peer"], {})[row["seed"]] = row

    def regrets(self, peer: str, spent: float) -> dict[int, float]:
        """Return the regret of each seed."""
        return {seed: at(row, spent) for seed, row in self.searches[peer].items()}

    def median(self, peer: str, spent: float) -> float:
        """Return the median regret over seeds."""
        return round(float(np.median(list(self.regrets(peer, spent).values()))), 6)  # what is left of 0 is rounding

    def target(self) -> float:
        """Return the least median regret that a method other than the champions has in the end."""
        others = [peer for peer, found in self.searches.items() if peer not in CHAMPIONS and len(found) >= ENOUGH]
        return min((self.median(peer, self.budget) for peer in others), default=inf)

    def needed(self, peer: str, target: float | None = None) -> float:
        """Return after how many full trainings the median regret is at the target; infinite if it never is."""
        target = self.target() if target is None else target
        steps = sorted({spent for row in self.searches[peer].values() for spent in row["spent"]})
        return next((spent for spent in steps if self.median(peer, spent) <= target), inf)

    def proposal(self, peer: str) -> float:
        """Return the mean CPU seconds of a proposal, the mean over searches."""
        return float(np.mean([row["thought"] for row in self.searches[peer].values()]))


def compared(rows: list[Row]) -> dict[tuple[str, int], Comparison]:
    """Return the comparisons by (problem, workers)."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["problem"], row["workers"]), []).append(row)
    return {key: Comparison(key[0], groups[key]) for key in sorted(groups)}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the order statistics between which the median lies with a confidence of 95 % or more, or all there are."""
    ordered = sorted(values)
    outside = int(binom.ppf(0.025, len(ordered), 0.5)) - 1  # of so many at each end the chance is below 2.5 %
    outside = max(outside, 0)
    return ordered[outside], ordered[-1 - outside]


def foreseen(problem: Problem, row: Row, after: int) -> Row:
    """Return the search as if a judge who knows the truth had stopped, after that epoch, all that adds nothing.

    What adds to the area goes on to its end. No scheduler can do better with these proposals in this order.
    """
    full: list[int] = []
    most, used = 0.0, 0.0
    spent, regret = [], []
    for config in row["config"]:
        volume = problem.volume(np.array([*full, config]))
        if volume > most:
            full.append(config)
            most = volume
            used += 1
        else:
            used += after / problem.epochs
        spent.append(used)
        regret.append(1000 * (problem.best - most))
    return row | {"spent": spent, "regret": regret}


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, 1979), in the order given."""
    order = np.argsort(chances)
    steps = np.array(chances)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()


def table(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of the tables, Markdown: an overview, the champion against the others, all with intervals."""
    comparisons = compared(rows)
    for workers in sorted({workers for _, workers in comparisons}):
        panels = {problem: comparison for (problem, count), comparison in comparisons.items() if count == workers}
        title = f"{workers} worker{'s' * (workers > 1)}"
        yield f"### {title}: median regret after {', '.join(f'{share:.0%}' for share in LOOKS)} of the budget"
        yield from ["", *_overview(panels), ""]
        for champion in CHAMPIONS:
            yield from _against(champion, panels)
        for problem, comparison in panels.items():
            yield from [f"### {title}: {problem}", "", *_details(comparison), ""]
        if workers == 1 and OURS in panels:
            yield from [*_bounds(panels[OURS]), ""]


def _overview(panels: dict[str, Comparison]) -> Iterator[str]:
    budgets = [f"{problem} ({comparison.budget})" for problem, comparison in panels.items()]
    yield f"| method (trainings) | {' | '.join(budgets)} | ms a proposal |"
    yield "| --- " * (2 + len(panels)) + "|"
    for peer in PEERS:
        met = [comparison for comparison in panels.values() if peer in comparison.searches]
        if not met:
            continue
        cells = [
            " / ".join(f"{comparison.median(peer, n):.3g}" for n in comparison.looks) if comparison in met else ""
            for comparison in panels.values()
        ]
        thought = 1000 * np.mean([comparison.proposal(peer) for comparison in met])
        yield f"| {peer} | {' | '.join(cells)} | {thought:.1f} |"


def _details(comparison: Comparison) -> Iterator[str]:
    looks = " | ".join(f"after {n}" for n in comparison.looks)
    yield f"| method | seeds | {looks} | trainings to {comparison.target():.1f} | ms a proposal |"
    yield "| --- " * (4 + len(LOOKS)) + "|"
    for peer, searches in comparison.searches.items():
        cells = [peer, str(len(searches))]
        for n in comparison.looks:
            low, high = interval(list(comparison.regrets(peer, n).values()))
            cells.append(f"{comparison.median(peer, n):.1f} ({low:.1f} to {high:.1f})")
        needed = comparison.needed(peer)
        cells += [f"{needed:.0f}" if needed < inf else "-", f"{1000 * comparison.proposal(peer):.1f}"]
        yield f"| {' | '.join(cells)} |"


def _bounds(comparison: Comparison) -> Iterator[str]:
    """Yield what early stopping could gain at most, with the proposals that there were without it."""
    problem, target = load_problem(OURS), comparison.target()
    needed = []
    for after in range(1, problem.epochs + 1):
        rows = [foreseen(problem, row, after) for row in comparison.searches["frontier"].values()]
        known = Comparison(OURS, rows)
        needed.append(f"{after}: {known.needed('frontier', target):.1f}")
    yield f"Trainings of {OURS} to {target:.1f} with the proposals of frontier, had a judge who knows the end stopped"
    yield f"after that epoch what adds nothing to the front: {', '.join(needed)}"


def _against(champion: str, panels: dict[str, Comparison]) -> Iterator[str]:
    """Yield how a champion does against the others, where it has run."""
    met = {problem: c for problem, c in panels.items() if champion in c.searches and c.target() < inf}
    if not met:
        return
    share = np.exp(np.mean([np.log(comparison.needed(champion) / comparison.budget) for comparison in met.values()]))
    yield f"{champion} reaches what the best other method has in the end with {100 * share:.0f} % of the budget"
    yield f"(geometric mean; {', '.join(met)})."
    yield ""
    yield "| problem | method | after | seeds | median difference | p (Holm) |"
    yield "| --- " * 6 + "|"
    tests = [(problem, *test) for problem, comparison in met.items() for test in _tests(champion, comparison)]
    for (*cells, difference, _), p in zip(tests, holm([chance for *_, chance in tests]), strict=True):
        verdict = "" if p >= 0.05 else " better" if difference < 0 else " **worse**"
        yield f"| {' | '.join(map(str, cells))} | {difference:+.1f} | {p:.2g}{verdict} |"
    yield ""


def _tests(champion: str, comparison: Comparison) -> Iterator[tuple[str, int, int, float, float]]:
    """Yield method, look, seeds, the champion's median difference, and Wilcoxon's p-value, paired over seeds."""
    for peer, look in product(comparison.searches, comparison.looks):
        if peer in CHAMPIONS:
            continue
        own, theirs = comparison.regrets(champion, look), comparison.regrets(peer, look)
        seeds = sorted(own.keys() & theirs.keys())
        differences = np.array([own[seed] - theirs[seed] for seed in seeds])
        tested: Any = wilcoxon(differences) if differences.any() else (0.0, 1.0)
        yield peer, look, len(seeds), float(np.median(differences)), float(tested[1])


def plot(rows: list[Row], out: Path) -> Iterator[Path]:
    """Draw the median regret against compute, a picture for each number of workers and a panel for each problem."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    out.mkdir(parents=True, exist_ok=True)
    comparisons = compared(rows)
    for workers in sorted({workers for _, workers in comparisons}):
        panels = {problem: c for (problem, w), c in comparisons.items() if w == workers}
        across = min(len(panels), 4)
        down = -(-len(panels) // across)
        size = (4.2 * across, 3.6 * down)
        figure, axes = plt.subplots(down, across, squeeze=False, figsize=size, layout="constrained")
        colors = {peer: f"C{number}" for number, peer in enumerate(PEERS)}
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        for axis, (problem, comparison) in zip(axes.flat, panels.items(), strict=False):
            grid = np.arange(0.1, 1.001, 0.005) * comparison.budget
            for peer, searches in comparison.searches.items():
                curves = np.array([[at(row, spent) for spent in grid] for row in searches.values()])
                low, middle, high = np.quantile(curves.clip(SHOWN), (0.25, 0.5, 0.75), axis=0, method="nearest")
                bold = 2.4 if peer in CHAMPIONS else 1.3
                axis.plot(grid, middle, label=peer, color=colors[peer], linewidth=bold)
                axis.fill_between(grid, low, high, color=colors[peer], alpha=0.12, linewidth=0)
            axis.set(title=problem, yscale="log", xlabel="full trainings' worth of epochs", ylabel="regret x 1000")
            axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            for write in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                write("{x:g}")
            axis.grid(alpha=0.3)
        handles = {label: h for a in axes.flat for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        figure.suptitle(f"{workers} worker{'s' * (workers > 1)}: median over seeds, and the middle half")
        path = out / f"search-{workers}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        yield path


def main() -> None:
    """Run, pack or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run the searches that FOLDER does not have yet")
    runs.add_argument("--work", type=Path, required=True)
    runs.add_argument("--problems", nargs="+", choices=[*SETTINGS, OURS], default=[*SETTINGS, OURS])
    runs.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    runs.add_argument("--workers", nargs="+", type=int, default=[1, 8])
    runs.add_argument("--seeds", type=int, default=20, help="the seeds 0 ... N - 1")
    packs = commands.add_parser("pack", help="add the searches of FOLDER to the committed ones")
    packs.add_argument("--work", type=Path, required=True)
    commands.add_parser("table", help="print the committed searches as Markdown")
    plots = commands.add_parser("plot", help="draw the committed searches")
    plots.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    match args.command:
        case "run":
            lines: Iterator[Any] = run(args.work, args.problems, args.peers, args.workers, range(args.seeds))
        case "pack":
            lines = iter([f"{RESULTS}: {pack(args.work)} searches"])
        case "table":
            lines = table(read())
        case _:
            lines = plot(read(), args.out)
    try:
        for line in lines:
            print(line, flush=True)
    except ModuleNotFoundError as missing:
        raise SystemExit(f"{missing.name} is missing: pip install -r tests/benchmarks/requirements-peers.txt") from None


if __name__ == "__main__":
    main()

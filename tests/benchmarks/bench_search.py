"""Compares search methods on recorded trainings, by the hypervolume of their fronts over the compute used.

    python tests/benchmarks/bench_search.py run --work FOLDER [--problems ...] [--peers ...] [--workers 1 8] [--seeds 8]
    python tests/benchmarks/bench_search.py pack --work FOLDER
    python tests/benchmarks/bench_search.py table
    python tests/benchmarks/bench_search.py plot --out FOLDER
    python tests/benchmarks/bench_search.py --tables FOLDER [--methods ...] [--workers 8] [--seeds 3] [--processes 2]
    python tests/benchmarks/bench_search.py --tables FOLDER --calibration [--workers 8] [--seeds 3] [--processes 2]

``run`` writes each search as a file into FOLDER and skips those that exist; ``pack`` adds them to
results/searches.parquet; ``table`` prints this file as Markdown and ``plot`` draws it as PNGs. Some methods need the
packages of requirements-peers.txt, those of NePS those of requirements-neps.txt. Regret is 1000 x the difference
between the hypervolume of all configs and that of the trained configs (`problems.Problem.volume`).

``--tables`` compares methods on all tables of learning curves in FOLDER (`curve_tables`), and prints for each table and
number of workers one line a method (`stopping`); ``--own`` adds this project's own table. With ``--work FOLDER``
searches are kept there, and not run again.
``--until-front`` ends a search when it has full training's front: the area is then at most what is printed.
``--calibration`` prints instead, for trials stopped with a stated probability, the share that would have entered the
front (`calibration`).
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

from search.report.clips.paired import holm
from tests.benchmarks.calibration import calibration
from tests.benchmarks.curve_tables import table_files
from tests.benchmarks.peers import PEERS, SEVERAL, STOPPING
from tests.benchmarks.problems import BUDGETS, OWN_TABLES, RECORDED, SETTINGS, THREE_OBJECTIVES, Problem, load_problem
from tests.benchmarks.simulator import simulate
from tests.benchmarks.stopping import FULL, OURS, OWN, compare, regrets
from vattn.errors import UserError

RESULTS = Path(__file__).parent / "results" / "searches.parquet"
#: fractions of the budget at which searches are compared
BUDGET_FRACTIONS = (0.3, 0.6, 1.0)
#: problems that are run, printed and drawn unless others are named
STANDARD = [*SETTINGS, RECORDED]
#: smallest regret in a plot, whose axis is logarithmic
MIN_PLOTTED_REGRET = 0.5
#: this project's methods, which are compared with all others
CHAMPIONS = ("frontier", "frontier-stopping")
#: a method with fewer seeds does not set the target for the champions
MIN_TARGET_SEEDS = 5
#: recorded fields of each training (`simulator.Training`), and the regret after it
TYPES = {
    "config": pa.int32(), "epochs": pa.int8(), "full": pa.bool_(), "spent": pa.float32(), "regret": pa.float32(),
}  # fmt: skip
Row = dict[str, Any]


def run(work: Path, problems: list[str], peers: list[str], workers: list[int], seeds: range) -> Iterator[str]:
    """Run the searches that ``work`` does not have yet, seed by seed, and yield a line about each."""
    work.mkdir(parents=True, exist_ok=True)
    table = cache(load_problem)
    for seed, name, peer, count in product(seeds, problems, peers, workers):
        path = work / f"{name}_{peer}_{count}_{seed}.json"
        if path.exists() or not _suits(peer, name):
            continue
        problem = table(name)
        trainings = simulate(problem, PEERS[peer](problem, seed, count), count, BUDGETS[name], seed)
        row: Row = {"problem": name, "peer": peer, "workers": count, "seed": seed}
        fields = [field for field in TYPES if field != "regret"]
        row |= {field: [getattr(training, field) for training in trainings] for field in fields}
        row["regret"] = regrets(problem, trainings)
        row["thought"] = float(np.mean([training.proposal_seconds for training in trainings]))  # the recorded column
        part = path.with_suffix(".part")
        part.write_text(json.dumps(row))
        part.replace(path)
        values = ", ".join(f"{at(row, fraction * BUDGETS[name]):.1f}" for fraction in BUDGET_FRACTIONS)
        yield f"{path.stem}: {len(trainings)} trainings, regret {values}"


def _suits(peer: str, problem: str) -> bool:
    """Return whether a method has something to do on a problem: costs to minimise, or epochs to stop after."""
    if problem in THREE_OBJECTIVES:
        return peer in SEVERAL
    return problem in OWN_TABLES or peer not in STOPPING


def at(row: Row, spent: float) -> float:
    """Return the regret of a search after the compute of ``spent`` full trainings; infinite before the first one."""
    done = np.searchsorted(row["spent"], spent + 1e-9)
    return row["regret"][done - 1] if done else inf


def pack(work: Path) -> int:
    """Add the searches of ``work`` to the committed ones, and return their number."""
    rows = {_name(row): row for row in read(list(BUDGETS))} if RESULTS.exists() else {}
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


def read(problems: Sequence[str] = STANDARD) -> list[Row]:
    """Return the committed searches on these problems."""
    return [row for row in pq.read_table(RESULTS).to_pylist() if row["problem"] in problems]


class Comparison:
    """The searches of all methods on one problem with one number of workers."""

    def __init__(self, problem: str, rows: list[Row]) -> None:
        self.budget = BUDGETS[problem]
        #: full trainings after which the methods are compared
        self.checkpoints = [round(fraction * self.budget) for fraction in BUDGET_FRACTIONS]
        self.searches: dict[str, dict[int, Row]] = {}
        for row in sorted(rows, key=lambda row: list(PEERS).index(row["peer"])):
            self.searches.setdefault(row["peer"], {})[row["seed"]] = row

    def regrets(self, peer: str, spent: float) -> dict[int, float]:
        """Return the regret by seed, after the compute of ``spent`` full trainings."""
        return {seed: at(row, spent) for seed, row in self.searches[peer].items()}

    def median(self, peer: str, spent: float) -> float:
        """Return the median regret over seeds."""
        return round(float(np.median(list(self.regrets(peer, spent).values()))), 6)  # 0 apart from rounding errors is 0

    def target(self) -> float:
        """Return the smallest final median regret of all methods but the champions."""
        peers = [peer for peer, by_seed in self.searches.items() if len(by_seed) >= MIN_TARGET_SEEDS]
        return min((self.median(peer, self.budget) for peer in peers if peer not in CHAMPIONS), default=inf)

    def needed(self, peer: str, target: float | None = None) -> float:
        """Return the number of full trainings until the median regret reaches the target; infinite if it never does."""
        target = self.target() if target is None else target
        steps = sorted({spent for row in self.searches[peer].values() for spent in row["spent"]})
        return next((spent for spent in steps if self.median(peer, spent) <= target), inf)

    def proposal(self, peer: str) -> float:
        """Return the CPU seconds of a proposal: the mean over searches of the mean of each."""
        return float(np.mean([row["thought"] for row in self.searches[peer].values()]))


def compared(rows: list[Row]) -> dict[tuple[str, int], Comparison]:
    """Return the comparisons by (problem, workers)."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["problem"], row["workers"]), []).append(row)
    return {key: Comparison(key[0], groups[key]) for key in sorted(groups)}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a confidence interval of the median from order statistics, of at least 95 % if there are enough values."""
    ordered = sorted(values)
    outside = int(binom.ppf(0.025, len(ordered), 0.5)) - 1  # values outside of each end, at a level below 2.5 %
    outside = max(outside, 0)
    return ordered[outside], ordered[-1 - outside]


def with_oracle(problem: Problem, row: Row, after: int) -> Row:
    """Return the search as if an oracle had stopped it early: a scheduler that knows the final errors.

    It stops, after epoch ``after``, every training that would not increase the hypervolume. Trainings that do increase
    it run to the end. No scheduler can do better with these proposals in this order.
    """
    full: list[int] = []
    best, used = 0.0, 0.0
    spent, regret = [], []
    for config in row["config"]:
        volume = problem.volume(np.array([*full, config]))
        if volume > best:
            full.append(config)
            best = volume
            used += 1
        else:
            used += after / problem.epochs
        spent.append(used)
        regret.append(1000 * (problem.best - best))
    return row | {"spent": spent, "regret": regret}


def table(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of the tables as Markdown: an overview, the champions against the others, all with intervals."""
    comparisons = compared(rows)
    for workers in sorted({workers for _, workers in comparisons}):
        panels = {problem: comparison for (problem, count), comparison in comparisons.items() if count == workers}
        title = f"{workers} worker{'s' * (workers > 1)}"
        yield f"### {title}: median regret after {', '.join(f'{part:.0%}' for part in BUDGET_FRACTIONS)} of the budget"
        yield from ["", *_overview(panels), ""]
        for champion in CHAMPIONS:
            yield from _against(champion, panels)
        for problem, comparison in panels.items():
            yield from [f"### {title}: {problem}", "", *_details(comparison), ""]
        if workers == 1 and RECORDED in panels:
            yield from [*_bounds(panels[RECORDED]), ""]


def _overview(panels: dict[str, Comparison]) -> Iterator[str]:
    budgets = [f"{problem} ({comparison.budget})" for problem, comparison in panels.items()]
    yield f"| method (trainings) | {' | '.join(budgets)} | ms per proposal |"
    yield "| --- " * (2 + len(panels)) + "|"
    for peer in PEERS:
        measured = [comparison for comparison in panels.values() if peer in comparison.searches]
        if not measured:
            continue
        cells = [
            " / ".join(f"{comparison.median(peer, n):.3g}" for n in comparison.checkpoints)
            if comparison in measured
            else ""
            for comparison in panels.values()
        ]
        proposal_ms = 1000 * np.mean([comparison.proposal(peer) for comparison in measured])
        yield f"| {peer} | {' | '.join(cells)} | {proposal_ms:.1f} |"


def _details(comparison: Comparison) -> Iterator[str]:
    columns = " | ".join(f"after {n}" for n in comparison.checkpoints)
    yield f"| method | seeds | {columns} | trainings to {comparison.target():.1f} | ms per proposal |"
    yield "| --- " * (4 + len(BUDGET_FRACTIONS)) + "|"
    for peer, searches in comparison.searches.items():
        cells = [peer, str(len(searches))]
        for n in comparison.checkpoints:
            low, high = interval(list(comparison.regrets(peer, n).values()))
            cells.append(f"{comparison.median(peer, n):.1f} ({low:.1f} to {high:.1f})")
        needed = comparison.needed(peer)
        cells += [f"{needed:.0f}" if needed < inf else "-", f"{1000 * comparison.proposal(peer):.1f}"]
        yield f"| {' | '.join(cells)} |"


def _bounds(comparison: Comparison) -> Iterator[str]:
    """Yield an upper bound of the gain by early stopping: an oracle on the proposals of frontier."""
    problem, target = load_problem(RECORDED), comparison.target()
    needed = []
    for after in range(1, problem.epochs + 1):
        rows = [with_oracle(problem, row, after) for row in comparison.searches["frontier"].values()]
        needed.append(f"{after}: {Comparison(RECORDED, rows).needed('frontier', target):.1f}")
    yield f"Trainings of {RECORDED} to {target:.1f} with the proposals of frontier, if an oracle that knows the final"
    yield f"errors stops, after this epoch, each training that adds nothing to the front: {', '.join(needed)}"


def _against(champion: str, panels: dict[str, Comparison]) -> Iterator[str]:
    """Yield the comparison of a champion with the other methods, on the problems where it has run."""
    measured = {problem: c for problem, c in panels.items() if champion in c.searches and c.target() < inf}
    if not measured:
        return
    fraction = np.exp(np.mean([np.log(c.needed(champion) / c.budget) for c in measured.values()]))
    yield f"{champion} reaches the final regret of the best other method with {100 * fraction:.0f} % of the budget"
    yield f"(geometric mean; {', '.join(measured)})."
    yield ""
    yield "| problem | method | after | seeds | median difference | p (Holm) |"
    yield "| --- " * 6 + "|"
    tests = [(problem, *test) for problem, comparison in measured.items() for test in _tests(champion, comparison)]
    for (*cells, difference, _), p in zip(tests, holm([p_value for *_, p_value in tests]), strict=True):
        verdict = "" if p >= 0.05 else " better" if difference < 0 else " **worse**"
        yield f"| {' | '.join(map(str, cells))} | {difference:+.1f} | {p:.2g}{verdict} |"
    yield ""


def _tests(champion: str, comparison: Comparison) -> Iterator[tuple[str, int, int, float, float]]:
    """Yield method, trainings, seeds, median difference in regret, and the p-value of Wilcoxon's signed-rank test.

    Differences are paired over seeds; negative ones are in favour of the champion.
    """
    for peer, spent in product(comparison.searches, comparison.checkpoints):
        if peer in CHAMPIONS:
            continue
        champion_regrets, peer_regrets = comparison.regrets(champion, spent), comparison.regrets(peer, spent)
        seeds = sorted(champion_regrets.keys() & peer_regrets.keys())
        differences = np.array([champion_regrets[seed] - peer_regrets[seed] for seed in seeds])
        test: Any = wilcoxon(differences) if differences.any() else (0.0, 1.0)
        yield peer, spent, len(seeds), float(np.median(differences)), float(test[1])


def plot(rows: list[Row], out: Path) -> Iterator[Path]:
    """Plot the median regret against compute: one image for each number of workers, one panel for each problem."""
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
                low, middle, high = np.quantile(
                    curves.clip(MIN_PLOTTED_REGRET), (0.25, 0.5, 0.75), axis=0, method="nearest"
                )
                linewidth = 2.4 if peer in CHAMPIONS else 1.3
                axis.plot(grid, middle, label=peer, color=colors[peer], linewidth=linewidth)
                axis.fill_between(grid, low, high, color=colors[peer], alpha=0.12, linewidth=0)
            axis.set(title=problem, yscale="log", xlabel="compute, full trainings", ylabel="regret x 1000")
            axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            for set_formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                set_formatter("{x:g}")
            axis.grid(alpha=0.3)
        handles = {label: h for a in axes.flat for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        figure.suptitle(f"{workers} worker{'s' * (workers > 1)}: median and interquartile range over seeds")
        path = out / f"search-{workers}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        yield path


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, metavar="FOLDER", help="compare methods on the tables in this folder")
    parser.add_argument("--own", action="store_true", help="compare them on this project's own table too")
    parser.add_argument("--methods", nargs="+", choices=list(PEERS), default=[FULL, OURS])
    parser.add_argument("--workers", nargs="+", type=_positive, default=[8])
    parser.add_argument("--seeds", type=_positive, default=3, help="the seeds 0 ... N - 1")
    parser.add_argument("--processes", type=_positive, default=2)
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep the searches in this folder", dest="kept")
    parser.add_argument("--until-front", action="store_true", help="end each search at full training's front")
    parser.add_argument("--calibration", action="store_true", help="compare stated probabilities with the known ends")
    commands = parser.add_subparsers(dest="command")
    runs = commands.add_parser("run", help="run the searches that FOLDER does not have yet")
    runs.add_argument("--work", type=Path, required=True)
    runs.add_argument("--problems", nargs="+", choices=list(BUDGETS), default=STANDARD)
    runs.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    runs.add_argument("--workers", nargs="+", type=int, default=[1, 8])
    runs.add_argument("--seeds", type=int, default=20, help="the seeds 0 ... N - 1")
    packs = commands.add_parser("pack", help="add the searches of FOLDER to the committed ones")
    packs.add_argument("--work", type=Path, required=True)
    tables = commands.add_parser("table", help="print the committed searches as Markdown")
    tables.add_argument("--problems", nargs="+", choices=list(BUDGETS), default=STANDARD)
    plots = commands.add_parser("plot", help="draw the committed searches")
    plots.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    match args.command:
        case None if args.tables or args.own:
            lines: Iterator[Any] = (
                line
                for file in (*(table_files(args.tables) if args.tables else ()), *[OWN][: args.own])
                for workers in args.workers
                for line in (*compared_on(file, workers, args), "")
            )
        case None:
            parser.error("give --tables FOLDER, --own, or one of run, pack, table, plot")
        case "run":
            lines = run(args.work, args.problems, args.peers, args.workers, range(args.seeds))
        case "pack":
            lines = iter([f"{RESULTS}: {pack(args.work)} searches"])
        case "table":
            lines = table(read(args.problems))
        case _:
            lines = plot(read(), args.out)
    try:
        for line in lines:
            print(line, flush=True)
    except ModuleNotFoundError as missing:
        packages = "neps" if missing.name == "neps" else "peers"
        raise SystemExit(
            f"{missing.name} is missing: pip install -r tests/benchmarks/requirements-{packages}.txt"
        ) from None
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


def compared_on(file: Path, workers: int, args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines about one table, with the options of the command line."""
    if args.calibration:
        return calibration(file, workers, args.seeds, args.processes)
    return compare(file, args.methods, workers, args.seeds, args.kept, args.processes, args.until_front)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {number})")
    return number


if __name__ == "__main__":
    main()

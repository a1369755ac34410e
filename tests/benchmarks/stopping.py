"""Compares methods on tables of learning curves, by the epochs that they need for the front of full trainings.

The target of a search is the regret that ``frontier``, which trains every config to the end, has after as many
trainings as the budget (`Problem.budget`) has, with the same seed and number of workers. Where a config has several
recorded trainings, the one that a search sees is its truth (`simulator.observed`).
"""

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from search.report.clips.paired import holm
from tests.benchmarks.curve_tables import read_table
from tests.benchmarks.peers import PEERS
from tests.benchmarks.problems import RECORDED_LARGE, Problem, load_problem
from tests.benchmarks.simulator import Training, observed, simulate

#: the method that trains every config to the end
FULL = "frontier"
#: this project's method that stops trainings, with which the others are compared
OURS = "frontier-stopping"
#: name of the bound: ``frontier``'s proposals, each stopped after one epoch unless it will be on the front
OMNISCIENT = "omniscient"
#: budget of a method that stops trainings, in budgets of full trainings
MARGIN = 1.1
#: what stands for the logarithm of infinite trainings in a test of ranks
NEVER = 1e3
#: added to a regret in front of its logarithm
REGRET_OFFSET = 2.0
#: stands for the file of this project's own table, which has seconds and several trainings of a config
OWN = Path(RECORDED_LARGE)
Row = dict[str, Any]


@cache
def load_table(file: Path) -> Problem:
    """Return the table in a file, or this project's own one for `OWN`."""
    return load_problem(RECORDED_LARGE) if file == OWN else read_table(file)


def regrets(problem: Problem, trainings: Sequence[Training]) -> list[float]:
    """Return the regret of the fully trained configs, after each of the trainings."""
    full = [training.full for training in trainings]
    values = [1000 * problem.best, *problem.regrets([training.config for training in trainings if training.full])]
    return [float(values[n]) for n in np.cumsum(full)]


def search(file: Path, method: str, workers: int, seed: int, work: Path | None, target: float = -1.0) -> Row:
    """Return a search on a table: by training the config, the epochs, whether it is full, spent trainings and regret.

    If ``work`` is a folder, the search is kept there, and taken from there the next time. It ends when its regret is
    ``target`` or less.
    """
    kept = work and work / f"{file.stem}_{method}_{workers}_{seed}.json"
    if kept and kept.exists():
        return json.loads(kept.read_text())
    problem = observed(load_table(file), seed)
    # With many workers, much of the compute is in trainings that have not ended yet.
    budget = problem.budget * (1.0 if method == FULL else MARGIN) + workers

    def is_there(trainings: Sequence[Training]) -> bool:
        full = [training.config for training in trainings if training.full]
        return bool(full) and 1000 * (problem.best - problem.volume(np.array(full))) <= target + 1e-9

    trainings = simulate(problem, PEERS[method](problem, seed, workers), workers, budget, seed, is_there)
    if method == FULL:
        trainings = trainings[: problem.budget]
    row: Row = {
        name: [getattr(training, name) for training in trainings] for name in ("config", "epochs", "full", "spent")
    }
    row["regret"] = regrets(problem, trainings)
    row["thought"] = float(np.mean([training.proposal_seconds for training in trainings]))
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.with_suffix(".part").write_text(json.dumps(row))
        kept.with_suffix(".part").replace(kept)
    return row


def needed(row: Row, target: float) -> float:
    """Return the compute, in full trainings, after which the regret of a search is ``target`` at most; or infinity."""
    reached = np.flatnonzero(np.array(row["regret"]) <= target + 1e-9)
    return float(row["spent"][reached[0]]) if len(reached) else math.inf


def area(row: Row, budget: float, worst: float) -> float:
    """Return the mean of log(regret + `REGRET_OFFSET`) over the compute from 0 to ``budget`` full trainings.

    ``worst`` is the regret before the first full training.
    """
    spent = np.minimum(np.array([0.0, *row["spent"], budget]), budget)
    regret = np.array([worst, *row["regret"]])
    return float(np.diff(spent) @ np.log(regret + REGRET_OFFSET)) / budget


def omniscient(problem: Problem, row: Row) -> Row:
    """Return a search of full trainings as one that knows their end would do it.

    It stops every training after one epoch, except those that are on the front of the search at its end.
    """
    configs = np.array(row["config"])
    error, cost = problem.truth[configs], problem.cost[configs]
    on_front = [
        not any((cost <= cost[n]) & (error <= error[n]) & ((cost < cost[n]) | (error < error[n])))
        for n in range(len(cost))
    ]
    spent = np.cumsum(np.where(on_front, 1.0, 1 / problem.epochs))
    volumes = [
        problem.volume(configs[: n + 1][on_front[: n + 1]]) if any(on_front[: n + 1]) else 0.0
        for n in range(len(configs))
    ]
    return row | {
        "spent": spent.tolist(),
        "regret": [1000 * (problem.best - volume) for volume in volumes],
        "full": on_front,
    }


def share_of_saving(full: float, method: float, bound: float) -> float:
    """Return the share of the saving of the omniscient stopper that a method has, in logarithms.

    Args:
        full: trainings that full training needs.
        method: trainings that the method needs; infinite if it does not get there.
        bound: trainings that the omniscient stopper needs.
    """
    if bound >= full:
        return math.nan
    return math.log(full / method) / math.log(full / bound) if math.isfinite(method) else -math.inf


def quartiles(values: Sequence[float]) -> list[float]:
    """Return median, first and third quartile; each is one of the values, so that some may be infinite."""
    return np.quantile(values, [0.5, 0.25, 0.75], method="nearest").tolist()


def compare(
    file: Path,
    methods: Sequence[str],
    workers: int,
    seeds: int,
    work: Path | None = None,
    processes: int = 1,
    until_front: bool = False,
) -> Iterator[str]:
    """Yield a heading, and one line a method, for the searches on one table with one number of workers.

    Args:
        file: the table, or `OWN`.
        methods: names in `PEERS`; `FULL` is always there.
        workers: number of workers.
        seeds: the seeds are 0 ... seeds - 1.
        work: folder that keeps searches.
        processes: number of processes that run searches.
        until_front: end a search when it has what full training has in the end.
    """
    problem = load_table(file)
    methods = list(dict.fromkeys([FULL, *methods]))
    rows: dict[tuple[str, int], Row] = {}
    with ProcessPoolExecutor(processes) as pool:
        full = [pool.submit(search, file, FULL, workers, seed, work) for seed in range(seeds)]
        rows |= {(FULL, seed): future.result() for seed, future in enumerate(full)}
        targets = [rows[FULL, seed]["regret"][-1] if until_front else -1.0 for seed in range(seeds)]
        others = {
            (method, seed): pool.submit(search, file, method, workers, seed, work, targets[seed])
            for method, seed in product(methods[1:], range(seeds))
        }
        rows |= {task: future.result() for task, future in others.items()}
    worlds = [observed(problem, seed) for seed in range(seeds)]
    for seed, world in enumerate(worlds):
        rows[OMNISCIENT, seed] = omniscient(world, rows[FULL, seed])
    yield f"{problem.name}: {len(problem.params)} configs x {problem.epochs} epochs, {workers} workers, {seeds} seeds"
    yield from lines(worlds, [*methods, OMNISCIENT], rows)


def lines(worlds: Sequence[Problem], methods: Sequence[str], rows: dict[tuple[str, int], Row]) -> Iterator[str]:
    """Yield the lines of a table in Markdown with the figures of each method; ``worlds`` is what each seed sees."""
    seeds, budget, worst = len(worlds), worlds[0].budget, [1000 * world.best for world in worlds]
    targets = [rows[FULL, seed]["regret"][-1] for seed in range(seeds)]
    to_front = {m: [needed(rows[m, seed], targets[seed]) for seed in range(seeds)] for m in methods}
    areas = {m: [area(rows[m, seed], budget, worst[seed]) for seed in range(seeds)] for m in methods}
    others = [m for m in methods if OURS in methods and m not in (OURS, OMNISCIENT)]
    by_front = dict(zip(others, holm([p_of_trainings(to_front[OURS], to_front[m]) for m in others]), strict=True))
    by_area = dict(zip(others, holm([_p(areas[OURS], areas[m]) for m in others]), strict=True))
    yield (f"| method | trainings to full training's front after {budget}: median [quartiles] | "
           "area under log regret | of the omniscient saving | stopped | p (Holm), trainings | p (Holm), area | "
           "ms a proposal |")  # fmt: skip
    yield "| --- " * 8 + "|"
    for m in methods:
        median, low, high = quartiles(to_front[m])
        shares = [
            share_of_saving(full, own, bound)
            for full, own, bound in zip(to_front[FULL], to_front[m], to_front[OMNISCIENT], strict=True)
        ]
        share = quartiles(shares)[0] if not any(map(math.isnan, shares)) else math.nan
        stopped = np.mean([1 - np.mean(rows[m, seed]["full"]) for seed in range(seeds)])
        thought = 1000 * np.mean([rows[m, seed]["thought"] for seed in range(seeds)])
        tests = [
            verdict(p_values[m], values[OURS], values[m]) if m in p_values else ""
            for p_values, values in ((by_front, to_front), (by_area, areas))
        ]
        yield (f"| {m} | {_trainings(median)} [{_trainings(low)}, {_trainings(high)}] | {np.mean(areas[m]):.3f} | "
               f"{share:.0%} | {stopped:.0%} | {' | '.join(tests)} | {thought:.0f} |")  # fmt: skip


def verdict(p: float, ours: Sequence[float], others: Sequence[float]) -> str:
    """Return a p-value, and at 0.05 whether `OURS` is ahead: less than the other method in most pairs that differ."""
    ahead = np.sum(np.less(ours, others)) > np.sum(np.greater(ours, others))
    return f"{p:.2g}" + (f" {OURS} {'ahead' if ahead else 'behind'}" if p < 0.05 else "")


def p_of_trainings(ours: Sequence[float], others: Sequence[float]) -> float:
    """Return the p-value of a test on the logarithms of trainings, paired over seeds.

    A search that does not get there is behind all that do, and equal to the like.
    """

    def ranked(trainings: Sequence[float]) -> list[float]:
        return [math.log(value) if math.isfinite(value) else NEVER for value in trainings]

    return _p(ranked(ours), ranked(others))


def _trainings(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "never"


def _p(ours: Sequence[float], others: Sequence[float]) -> float:
    """Return the p-value of Wilcoxon's signed-rank test, paired over seeds; pairs without a difference are left out."""
    differences = np.array(ours) - np.array(others)
    return float(wilcoxon(differences)[1]) if differences.any() else 1.0  # pyright: ignore

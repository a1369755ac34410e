"""How often stopped trials would have entered the front, by the probability that was stated when they were judged.

The tables have full learning curves, so that the end of a stopped training is known.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.analysis.intervals import by_clips
from search.ledger.history import History
from search.schedulers.frontier import FrontierConfig, Outlooks, is_look, is_spared
from tests.benchmarks.peers import frontier_peer, objectives_of
from tests.benchmarks.problems import Problem
from tests.benchmarks.simulator import first_rung, observed, simulate
from tests.benchmarks.stopping import MARGIN, load_table

#: upper ends of the bins of stated probabilities
BINS = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Judgement:
    """What the rule stated of a trial after an epoch, and what became or would have become of it."""

    stated: float
    """probability to end better than its rival"""
    is_stopped: bool
    entered: bool
    """whether it ends so"""
    stays: bool
    """whether no config that the search trained to the end dominates it"""


def judgements(problem: Problem, seed: int, workers: int) -> list[Judgement]:
    """Return all judgements of the frontier scheduler in a search on a table, in their order."""
    problem = observed(problem, seed)
    objectives = objectives_of(problem)
    rule = FrontierConfig(min_epochs=first_rung(problem)).build(objectives, "top1")
    noted: list[tuple[int, float, bool, int]] = []  # config, stated probability, whether it stops, the rival's config

    def verdict(history: History, number: int) -> str | None:
        reason, trial = rule.verdict(history, number), history.trials[number]
        if is_look(trial.epoch, trial.epochs, first_rung(problem)) and not is_spared(history, trial):
            outlooks = Outlooks(history, objectives, "top1")
            outlook = outlooks.outlook(trial, trial.epoch) if outlooks.knows_enough(trial) else None
            if outlook is not None:
                rival = problem.number(outlook.rival.params)
                noted.append((problem.number(trial.params), outlook.chance, reason is not None, rival))
        return reason

    budget = problem.budget * MARGIN + workers
    trainings = simulate(problem, frontier_peer(problem, seed, workers, verdict), workers, budget, seed)
    trained = [training.config for training in trainings if training.full]

    final = problem.truth
    ends = {config: (final[config], problem.cost[config]) for config in trained}
    found = []
    for config, stated, is_stopped, rival in noted:
        error, cost = final[config], problem.cost[config]
        dominated = any(
            e <= error and c <= cost and (e < error or c < cost) for other, (e, c) in ends.items() if other != config
        )
        found.append(Judgement(stated, is_stopped, bool(error < final[rival]), not dominated))
    return found


def calibration(file: Path, workers: int, seeds: int, processes: int = 1) -> Iterator[str]:
    """Yield a heading, and the lines of a table in Markdown, for the searches on one table.

    Args:
        file: the table.
        workers: number of workers.
        seeds: the seeds are 0 ... seeds - 1.
        processes: number of processes that run searches.
    """
    problem = load_table(file)
    with ProcessPoolExecutor(processes) as pool:
        searches = [pool.submit(_on_table, file, seed, workers) for seed in range(seeds)]
        found = [judgement for search in searches for judgement in search.result()]
    yield f"{problem.name}: {workers} workers, {seeds} seeds, {len(found)} judgements"
    yield from lines(found)


def _on_table(file: Path, seed: int, workers: int) -> list[Judgement]:
    return judgements(load_table(file), seed, workers)


def lines(found: Sequence[Judgement]) -> Iterator[str]:
    """Yield a row for each bin of stated probabilities that has a judgement: stopped trials, then those that went on.

    The share that entered the front has an interval of 95 % (Wilson), for judgements that are independent.
    """
    yield "| stated | judged | mean stated | entered the front | 95 % interval | on it at the end |"
    yield "| --- " * 6 + "|"
    for is_stopped, low, high in [(s, low, high) for s in (True, False) for low, high in zip((0, *BINS), BINS)]:  # noqa: B905
        inside = [j for j in found if j.is_stopped is is_stopped and (low < j.stated or not low) and j.stated <= high]
        if inside:
            share = float(np.mean([j.entered for j in inside]))
            estimate = by_clips("top1", share, len(inside))
            name = f"{'stopped' if is_stopped else 'went on'}, {100 * low:g} to {100 * high:g} %"
            yield (
                f"| {name} | {len(inside)} | {np.mean([j.stated for j in inside]):.2%} | {share:.1%} | "
                f"{estimate.low:.1%} to {estimate.high:.1%} | {np.mean([j.stays for j in inside]):.1%} |"
            )

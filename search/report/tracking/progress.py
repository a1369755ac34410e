"""The metrics of a search as a whole: hypervolume, the best so far, and the best at round costs."""

import math
from collections.abc import Iterator

from search.analysis.certainty import first_measured
from search.analysis.front import Coverage
from search.analysis.pareto import Objectives
from search.analysis.runs import cost_objective
from search.ledger.history import History, Trial

#: steps between two powers of ten
_STEPS = (1, 2, 5)


class Progress:
    """The metrics after each finished trial, in the order of their ends."""

    def __init__(self, history: History) -> None:
        self._objectives: Objectives = history.objectives
        self._coverage = Coverage(history.objectives, history.constraints)
        self._best: tuple[float, float] | None = None
        self._at_cost: dict[float, float] = {}

    def add(self, trial: Trial) -> dict[str, float]:
        """Add the next finished trial; return the metrics that it changes.

        These are the hypervolume (`search.analysis.front.covered` says from which point it is measured); the best
        value of the measured objective, and its costs; and the best value at each round cost that it improves, such as
        "best/top1 at 0.05 gflops". Round costs are 1, 2 and 5 times powers of ten, up to the first that all finished
        trials are within.
        """
        changed = {"hypervolume": self._coverage.add(trial)}
        name = first_measured(self._objectives, trial.cost)
        cost_name = cost_objective(self._objectives, trial.cost)
        sign = 1 if self._objectives[name] == "max" else -1
        value, cost = trial.metrics.get(name, math.nan), trial.cost.get(cost_name, math.nan)
        if not math.isfinite(value) or not 0 < cost < math.inf:
            return changed
        if self._best is None or (sign * value, -cost) > (sign * self._best[0], -self._best[1]):
            self._best = value, cost
            costs = [cost_name, *(objective for objective in self._objectives if objective in trial.cost)]
            changed |= {name: value} | {each: trial.cost[each] for each in costs if each != name}
        last = max(self._at_cost, default=cost)
        pick = max if sign > 0 else min
        for limit in round_costs(min(cost, last), max(cost, last)):
            # All earlier trials are within the last round cost, so the best at that is the best at any further one.
            before = self._at_cost.get(limit if limit <= last else last)
            known = ([] if before is None else [before]) + ([value] if cost <= limit else [])
            if known and (best := pick(known)) != self._at_cost.get(limit):
                self._at_cost[limit] = best
                changed[f"best/{name} at {limit:g} {cost_name}"] = best
        return changed


def round_costs(low: float, high: float) -> Iterator[float]:
    """Yield 1, 2 and 5 times powers of ten from the first that is at least ``low`` to the first at least ``high``."""
    power = math.floor(math.log10(low))
    while True:
        for step in _STEPS:
            value = float(f"{step}e{power}")
            if value >= low:
                yield value
                if value >= high:
                    return
        power += 1

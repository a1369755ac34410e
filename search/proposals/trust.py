"""Warm start: what earlier searches know that is of use here, and whether to believe it.

An earlier search may have seen other data, other epochs, another recipe. So nothing of it is believed at first: the
best of its front are trained again, and as they and other trials end, its accuracies are compared with those here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from search.analysis.rank_correlation import correlation
from search.ledger.history import Trial
from search.proposals.warm_start import ENOUGH, Source
from search.spec.schema import ACCURACIES, COSTS, Spec
from spaces.space import Choice, Domain, Subset

#: an earlier search is believed once its rank correlation is above this with 95 % confidence, and until it falls below
AGREEMENT, CONFIDENCE = 0.2, 1.645


@dataclass(frozen=True)
class Verdict:
    """Whether an earlier search is believed, by what it foretold of so many trials here; a ``guard`` event.

    ``correlation`` is of ranks, among trials of equal cost. ``offset`` is how much more an accuracy is here.
    """

    source: str
    trusted: bool
    correlation: float
    trials: int
    offset: dict[str, float]


class Guard:
    """Compares an earlier search with the finished trials here, and says when to believe it, and when no more.

    Foretold is the mean accuracy of the earlier trials that are nearest in the space. What costs more is better in most
    searches, so that two that have nothing else in common agree on it: ranks are correlated at equal cost. The limit of
    confidence is Fisher's, with the variance for ranks of Fieller, Hartley and Pearson (Biometrika, 1957).
    """

    def __init__(self, spec: Spec, source: Source) -> None:
        self._source, self._domains = source, spec.space.domains
        self._accuracies = [name for name in spec.objectives if name in ACCURACIES]
        self._costs = [name for name in spec.objectives if name in COSTS]
        self._foretold: dict[int, dict[str, float]] = {}

    def verdict(self, own: Sequence[Trial], trusted: bool) -> Verdict | None:
        """Return the verdict where it is another than ``trusted``, by the finished trials ``own``."""
        first = self._accuracies[0]
        own = [trial for trial in own if math.isfinite(trial.metrics[first])]
        if len(own) < ENOUGH or not self._source.trials:
            return None
        for trial in own:
            if trial.number not in self._foretold:
                self._foretold[trial.number] = self._foretell(trial)
        foretold = [self._foretold[trial.number][first] for trial in own]
        cost = [[trial.metrics[name] for name in self._costs] for trial in own]
        found = correlation(foretold, [trial.metrics[first] for trial in own], cost)
        sure = found if trusted else _least(found, len(own), len(self._costs))
        if (sure > AGREEMENT) == trusted:
            return None
        offset = {
            name: median(trial.metrics[name] - self._foretold[trial.number][name] for trial in own)
            for name in self._accuracies
        }
        return Verdict(self._source.source, not trusted, round(found, 4), len(own), offset)

    def _foretell(self, trial: Trial) -> dict[str, float]:
        far = [distance(trial.params, other.params, self._domains) for other in self._source.trials]
        nearest = [other for other, d in zip(self._source.trials, far, strict=True) if d <= min(far) + 1e-12]
        return {name: sum(other.metrics[name] for other in nearest) / len(nearest) for name in self._accuracies}


def distance(one: Mapping[str, Any], other: Mapping[str, Any], domains: Mapping[str, Domain]) -> float:
    """Return how far two configs of a space are apart: up to 1 for each range, and 1 where only one has it."""
    total = float(len(one.keys() ^ other.keys()))
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        match domains[name]:
            case Choice():
                total += a != b
            case Subset():
                total += len(set(a) ^ set(b)) / max(1, len(set(a) | set(b)))
            case number:
                low, high, a, b = (math.log(x) if number.log else x for x in (number.lo, number.hi, a, b))  # pyright: ignore
                total += abs(a - b) / (high - low) if high > low else 0.0
    return total


def _least(found: float, trials: int, costs: int) -> float:
    """Return what a rank correlation is at least, with 95 % confidence."""
    freedom = trials - 3 - costs
    if freedom < 1:
        return -1.0
    return math.tanh(math.atanh(max(-0.999, min(found, 0.999))) - CONFIDENCE * math.sqrt(1.06 / freedom))

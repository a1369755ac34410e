"""Trust: whether the accuracies of an earlier search are used, by how well they predict those of this search."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from search.analysis.rank_correlation import correlation
from search.ledger.events import Event, Guarded, WarmStarted
from search.ledger.history import History, Trial
from search.spec.schema import Spec
from search.spec.sections import ACCURACIES, COSTS
from spaces.space import Choice, Domain, Subset

#: finished trials of this search below which no earlier search is trusted
MIN_TRIALS = 6

#: an earlier search is trusted once its rank correlation is certainly above this, and until its estimate falls below
AGREEMENT = 0.2

#: 95 % quantile of the standard normal distribution, for a one-sided confidence limit
QUANTILE_95 = 1.645

#: variance of Fisher's z of a rank correlation, times the degrees of freedom (Fieller, Hartley and Pearson)
RANK_VARIANCE = 1.06

#: largest absolute rank correlation of which Fisher's z is taken
MAX_CORRELATION = 0.999


class Trust:
    """Decides for each earlier search of a warm start whether its accuracies are used from now on."""

    def __init__(self, spec: Spec, history: History) -> None:
        self._spec, self._history = spec, history
        self._guards: dict[str, Guard] = {}
        self._judged = 0  # number of finished trials at the last decision

    def apply(self, event: Event) -> None:
        """Take note of an earlier search."""
        if isinstance(event, WarmStarted):
            self._guards[event.source] = Guard(self._spec, event)

    def decisions(self) -> Iterator[Guarded]:
        """Yield the event for each earlier search that is trusted from now on, or no longer."""
        finished = self._history.in_state("finished")
        if len(finished) == self._judged:
            return
        self._judged = len(finished)
        for source, guard in self._guards.items():
            last = self._history.guards.get(source)
            if decision := guard.decide(finished, trusted=last is not None and last.trusted):
                yield decision


class Guard:
    """Compares an earlier search with the finished trials of this search.

    The predicted accuracy of a trial is the mean over the earlier trials that are nearest to it in the space
    (`distance`). Predicted and measured accuracies are compared by their partial Spearman rank correlation, given the
    ranks of the cost: in most searches a model of higher cost is more accurate, so that two searches with nothing else
    in common would agree. The earlier search becomes trusted when the lower 95 % confidence limit of the correlation is
    above `AGREEMENT`, and is dropped when the correlation itself falls below it. The limit is Fisher's, with the
    variance for ranks of E. C. Fieller, H. O. Hartley and E. S. Pearson, "Tests for rank correlation coefficients. I",
    Biometrika 44(3/4), 1957.

    Args:
        spec: this search.
        earlier: the earlier search.
    """

    def __init__(self, spec: Spec, earlier: WarmStarted) -> None:
        self._earlier, self._domains = earlier, spec.space.domains
        self._accuracies = [name for name in spec.objectives if name in ACCURACIES]
        self._costs = [name for name in spec.objectives if name in COSTS]
        self._predicted: dict[int, dict[str, float]] = {}

    def decide(self, finished: Sequence[Trial], trusted: bool) -> Guarded | None:
        """Return the decision on the earlier search by the finished trials; None if it stays as ``trusted`` says."""
        first = self._accuracies[0]
        trials = [trial for trial in finished if math.isfinite(trial.metrics[first])]
        if len(trials) < MIN_TRIALS or not self._earlier.trials:
            return None
        for trial in trials:
            if trial.number not in self._predicted:
                self._predicted[trial.number] = self._predict(trial)
        predicted = [self._predicted[trial.number][first] for trial in trials]
        cost = [[trial.metrics[name] for name in self._costs] for trial in trials]
        estimate = correlation(predicted, [trial.metrics[first] for trial in trials], cost)
        compared = estimate if trusted else _lower_limit(estimate, len(trials), len(self._costs))
        if (compared > AGREEMENT) == trusted:
            return None
        offset = {
            name: median(trial.metrics[name] - self._predicted[trial.number][name] for trial in trials)
            for name in self._accuracies
        }
        return Guarded(
            source=self._earlier.source,
            trusted=not trusted,
            correlation=round(estimate, 4),
            trials=len(trials),
            offset=offset,
        )

    def _predict(self, trial: Trial) -> dict[str, float]:
        distances = [distance(trial.params, earlier.params, self._domains) for earlier in self._earlier.trials]
        limit = min(distances) + 1e-12
        nearest = [earlier for earlier, d in zip(self._earlier.trials, distances, strict=True) if d <= limit]
        return {name: sum(earlier.metrics[name] for earlier in nearest) / len(nearest) for name in self._accuracies}


def distance(params: Mapping[str, Any], others: Mapping[str, Any], domains: Mapping[str, Domain]) -> float:
    """Return the distance of two configs of a space: the sum over ranges, each 0 ... 1.

    A choice adds 1 if it differs, a subset its Jaccard distance, a number the share of its range (on the log scale
    where the range is logarithmic), and a range that only one config has adds 1.
    """
    total = float(len(params.keys() ^ others.keys()))
    for name in params.keys() & others.keys():
        a, b = params[name], others[name]
        match domains[name]:
            case Choice():
                total += a != b
            case Subset():
                total += len(set(a) ^ set(b)) / max(1, len(set(a) | set(b)))
            case number:
                low, high, a, b = (math.log(x) if number.log else x for x in (number.lo, number.hi, a, b))  # pyright: ignore
                total += abs(a - b) / (high - low) if high > low else 0.0
    return total


def _lower_limit(estimate: float, trials: int, costs: int) -> float:
    """Return the lower confidence limit (95 %, one-sided) of a partial rank correlation."""
    freedom = trials - 3 - costs
    if freedom < 1:
        return -1.0
    z = math.atanh(max(-MAX_CORRELATION, min(estimate, MAX_CORRELATION)))
    return math.tanh(z - QUANTILE_95 * math.sqrt(RANK_VARIANCE / freedom))

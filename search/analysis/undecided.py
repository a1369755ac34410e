"""What a search could not decide: options that are equally good within noise, and epochs that do not show the end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.analysis.choices import Choice, choices_of
from search.analysis.equal_cost import Gain, gains
from search.analysis.pareto import Objectives
from search.analysis.rank_correlation import correlation
from search.analysis.runs import runs_of
from search.ledger.events import Stopped
from search.ledger.history import History

#: finished trials below which nothing is said
MIN_FINISHED = 8
#: rank correlation with the end, at equal cost, below which an epoch says little about the order of trials
MIN_CORRELATION = 0.5


@dataclass(frozen=True)
class WeakEpoch:
    """An epoch after which trials were stopped although the finished trials had another order there than at the end."""

    epoch: int
    stopped: int
    """number of trials that were stopped after it"""
    finished: int
    """number of finished trials, by which it is judged"""
    correlation: float
    """Spearman's rank correlation, at equal cost, of the measured objective after it and after the last epoch"""


@dataclass(frozen=True)
class Undecided:
    """What a search could not decide."""

    ties: Sequence[tuple[Choice, Gain]]
    """pairs of options without a significant difference at equal cost, those with most runs first"""
    epochs: Sequence[WeakEpoch]

    def __bool__(self) -> bool:
        return bool(self.ties or self.epochs)


def undecided(
    history: History, objectives: Objectives, name: str, gained: Sequence[tuple[Choice, Gain]] | None = None
) -> Undecided:
    """Return what a search could not decide; nothing before `MIN_FINISHED` trials have finished.

    Args:
        history: the search.
        objectives: the objectives by which it is judged.
        name: the measured objective.
        gained: the gains of all choices (`search.analysis.equal_cost.gains`), where they are known already.
    """
    if len(history.in_state("finished")) < MIN_FINISHED:
        return Undecided([], [])
    if gained is None:
        runs, choices = runs_of(history, objectives), choices_of(history.began.spec, list(history.trials.values()))
        gained = [(choice, gain) for choice in choices for gain in gains(choice, runs, objectives[name] == "max")]
    ties = [(choice, gain) for choice, gain in gained if gain.against and not gain.gain.low > 0]
    ties.sort(key=lambda pair: -min(pair[1].runs, pair[1].others))
    return Undecided(ties, _weak_epochs(history, objectives, name))


def _weak_epochs(history: History, objectives: Objectives, name: str) -> list[WeakEpoch]:
    stopped = Counter(trial.end.epoch for trial in history.trials.values() if isinstance(trial.end, Stopped))
    weak = []
    for epoch, count in sorted(stopped.items()):
        rows = [
            (trial.reports[epoch - 1].metrics[name], trial.metrics[name], *_costs(trial.cost, objectives))
            for trial in history.in_state("finished")
            if trial.epoch > epoch and name in trial.reports[epoch - 1].metrics
        ]
        values = np.array(rows, dtype=float)
        values = values[np.isfinite(values).all(axis=1)] if rows else values
        if len(values) < MIN_FINISHED:
            continue
        agreement = correlation(values[:, 0], values[:, 1], values[:, 2:])
        if agreement < MIN_CORRELATION:
            weak.append(WeakEpoch(epoch, count, len(values), agreement))
    return weak


def _costs(cost: dict[str, float], objectives: Objectives) -> list[float]:
    return [cost[name] for name in objectives if name in cost]

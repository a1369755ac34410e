"""What is known of one trial, as typed parts. Rates are fractions; seconds are those inside the epochs.

A trial dominates another if it is nowhere worse in the objectives, cost included, and somewhere better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from search.analysis.confirmation import Row
from search.analysis.intervals import Estimate
from search.analysis.pareto import Objectives
from search.ledger.events import MemorySaved
from search.ledger.history import State


@dataclass(frozen=True)
class TrialValues:
    """A trial with its objectives, of its last epoch or of the epoch of a comparison."""

    trial: int
    state: State
    values: Mapping[str, float]


@dataclass(frozen=True)
class SimilarTrial(TrialValues):
    """A trial with a similar config."""

    epoch: int
    differences: Mapping[str, tuple[str, str]]
    """by name: the explained trial's value and this trial's, in words"""


@dataclass(frozen=True)
class SimilarTrials:
    """The trials whose configs differ least, proposed before and after the explained one."""

    earlier: Sequence[SimilarTrial]
    later: Sequence[SimilarTrial]


@dataclass(frozen=True)
class Proposal:
    """Why a trial was proposed, and what the search knew at that time."""

    reason: Mapping[str, Any] | None
    """the reason in the ledger, an open mapping because samplers are pluggable; None in ledgers of early versions"""
    sampler: str
    trusted_searches: Sequence[str]
    """earlier searches that were trusted"""
    known_trials: Mapping[State, int]
    """number of trials by state"""
    rejected_before: Mapping[str, int]
    """number of proposals rejected since the previous trial, by reason"""
    num_duplicates: int
    """later proposals that were rejected because they were this trial"""


@dataclass(frozen=True)
class Inheritance:
    """Where a trial's first weights come from."""

    source: int | None
    """the trial with these weights; None if the trial started without any"""
    model: str | None
    """the source's config in words"""
    reason: str


@dataclass(frozen=True)
class Weights:
    """The weights that a trial started with, and the trials that started with its weights."""

    inheritance: Inheritance | None
    heirs: Sequence[int]


@dataclass(frozen=True)
class Standing:
    """How a trial compares with the trials that have reported the same epoch."""

    num_compared: int
    """how many these are, the trial included"""
    dominated_by: Sequence[TrialValues]
    """in order of the first objective, best first"""


@dataclass(frozen=True)
class Epoch:
    """One epoch of a trial: the objectives that training measures."""

    epoch: int
    values: Mapping[str, float]
    is_rung: bool
    """whether successive halving judged trials after it"""
    standing: Standing | None
    """None for a base or a retraining, which is compared with no trial"""


@dataclass(frozen=True)
class Stop:
    """Why a trial was stopped early, and how it stood at that moment."""

    reason: str
    values: Mapping[str, float]
    standing: Standing


@dataclass(frozen=True)
class End:
    """How the processes of a trial ended."""

    num_attempts: int
    errors: Sequence[str]
    """of the attempts that were followed by another one"""
    error: str | None
    """of a failed trial"""
    stop: Stop | None
    """of a trial that was stopped early"""
    memory: MemorySaved | None = None
    """how it was trained since a GPU had too little memory"""


@dataclass(frozen=True)
class Retrainings:
    """The trainings with fresh seeds of a finished trial."""

    trial: int
    """the trial that was trained again: the explained one, or the one that it trains again"""
    is_confirmed: bool
    """whether the whole front has been trained again"""
    trainings: Sequence[tuple[int, State]]
    """number and state of each"""
    result: Row | None
    """what they show; None until the front is confirmed"""


@dataclass(frozen=True)
class _FrontPlace:
    """Where a finished trial stands to the front."""

    is_confirmed: bool
    """whether this is the front of the means over fresh seeds"""
    compared_by: Literal["search", "fresh seeds"]
    """whose metrics are compared: those of the search, or the means over fresh seeds"""
    values: Mapping[str, float]
    """the trial's objectives by these"""


@dataclass(frozen=True)
class OnFront(_FrontPlace):
    """What a trial of the front adds to it."""

    size: int
    """number of trials on the front"""
    share: float
    """part of the front's hypervolume that would be lost without this trial"""
    picks: Sequence[str]
    """the rules of `vattn export --pick` that choose it"""
    lower_cost: TrialValues | None
    """the next trial of the front at lower cost"""
    higher_cost: TrialValues | None
    """the next trial of the front at higher cost"""


@dataclass(frozen=True)
class OffFront(_FrontPlace):
    """What keeps a trial off the front."""

    ahead: Sequence[TrialValues]
    """trials that dominate it, and an equal one with a lower number"""
    needs: Mapping[str, float]
    """by objective: the value beyond which the trial would be on the front, whatever its other objectives are"""


@dataclass(frozen=True)
class Why:
    """All that a ledger says of one trial."""

    search: str
    trial: int
    confirms: int | None
    """the trial that this one trains again with a fresh seed"""
    is_base: bool
    """whether it is a model without mechanisms, whose weights other trials start with"""
    objectives: Objectives
    measured: Sequence[str]
    """the objectives that training measures; the others are costs"""
    state: State
    model: str
    """the config in words"""
    metrics: Mapping[str, float]
    """objectives and cost of the last epoch"""
    test: Mapping[str, float]
    """the measured objectives on the test split"""
    epoch: int
    """finished epochs"""
    epochs: int
    """epochs of the whole training"""
    seconds: float
    proposal: Proposal | None
    """None for a base or a retraining, which no sampler proposed"""
    weights: Weights
    similar: SimilarTrials | None
    """None for a base or a retraining"""
    reports: Sequence[Epoch]
    end: End
    retrainings: Retrainings | None
    """None in a search without retrainings, and of a trial that is not finished"""
    estimate: Estimate | None
    """the first measured objective with its interval, of a finished trial of the search; by fresh seeds if confirmed"""
    certainty: str
    """what a trial of the front differs from significantly, in words"""
    front: OnFront | OffFront | None
    """None for a base, a retraining, and a trial that is not finished"""

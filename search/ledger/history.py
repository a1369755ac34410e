"""The state of a search in memory, as its events add up to it: the trials, the budget, how it ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal, Self

from search.ledger.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Guarded,
    Inherited,
    Measured,
    MemorySaved,
    Paused,
    Proposed,
    Rejected,
    Reported,
    Resumed,
    SearchBegan,
    Started,
    Stopped,
    Suspended,
    TrialEvent,
    WarmStarted,
)

Direction = Literal["max", "min"]
State = Literal["proposed", "running", "finished", "stopped", "failed"]

#: Reasons to end before the budget is spent: every config within the limits has been tried.
EXHAUSTED = "space exhausted"
#: Too many trials failed in a row at the start; the search can be resumed.
FAILING = "every trial failed"
#: The search can be resumed with a larger budget.
LATE = "no further trial could end within the budget"


@dataclass
class Trial:
    """One training and what the events report of it: a trial of the search, a base or a retraining."""

    number: int
    params: dict[str, Any]
    config: dict[str, Any]
    identity: str
    architecture: str
    cost: dict[str, float]
    why: dict[str, Any] = field(default_factory=dict)
    state: State = "proposed"
    reports: list[Reported] = field(default_factory=list)
    starts: list[Started] = field(default_factory=list)
    end: Stopped | Failed | Finished | None = None
    #: of a retraining: the trial that it trains again with a fresh seed
    confirms: int | None = None
    #: whether this is a model without mechanisms, trained so that other trials can start with its weights
    base: bool = False
    #: the event that chose the initial weights
    inherits: Inherited | None = None
    #: how it is trained since the memory of a GPU was too small; None if it never was
    memory: MemorySaved | None = None
    #: the retrainings of this trial
    retrainings: list["Trial"] = field(default_factory=list)

    @property
    def run_config(self) -> dict[str, Any]:
        """The config that it is trained with: ``config``, with what saves GPU memory."""
        if self.memory is None:
            return self.config
        changes: dict[str, Any] = {"recompute": "blocks"} if self.memory.recompute else {}
        if self.memory.accumulate > 1:
            changes["accumulate"] = self.memory.accumulate
        return self.config | {"train": self.config["train"] | changes}

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self.reports[-1].epoch if self.reports else 0

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole training."""
        return self.config["train"]["epochs"]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last epoch, and the cost; partial unless the state is "finished"."""
        return self.cost | (self.reports[-1].metrics if self.reports else {})

    @property
    def source(self) -> int | None:
        """The trial whose weights this one starts with; None for random weights."""
        return self.inherits.source if self.inherits else None

    def curve(self, name: str) -> list[float]:
        """Return a metric after each epoch."""
        return [report.metrics[name] for report in self.reports]

    @property
    def seconds(self) -> float:
        """Duration of all finished epochs in seconds."""
        return sum(report.seconds for report in self.reports)

    @property
    def confirmed(self) -> bool:
        """Whether this trial has retrainings and all of them have ended."""
        return bool(self.retrainings) and all(trial.end is not None for trial in self.retrainings)

    @property
    def fresh(self) -> list[dict[str, float]]:
        """The metrics of each finished retraining."""
        return [trial.metrics for trial in self.retrainings if trial.state == "finished"]

    def settled(self) -> "Trial":
        """Return this trial with the means over its finished retrainings as metrics; it must have at least one.

        Means are rounded to twelve digits: seeds often agree in the number of correct clips, and floating-point
        rounding must not decide which trial is better.
        """
        names = set.intersection(*(set(metrics) for metrics in self.fresh)) - self.cost.keys()
        means = {name: round(fmean(metrics[name] for metrics in self.fresh), 12) for name in names}
        last = self.reports[-1].model_copy(update={"metrics": means})
        return replace(self, reports=[*self.reports[:-1], last])


@dataclass
class History:
    """The state of a search, built up event by event with `apply`."""

    #: the first event; None before it
    search: SearchBegan | None = None
    #: trials, hours and gpu_hours, as of the last start or resume
    budget: dict[str, Any] = field(default_factory=dict)
    #: root and cache of the data, where a resume has changed them
    places: dict[str, str] = field(default_factory=dict)
    #: the trials of the search, by number: it learns from these and picks among them
    trials: dict[int, Trial] = field(default_factory=dict)
    #: bases and retrainings, by number; they share one numbering with ``trials``
    extras: dict[int, Trial] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    #: None while the search runs, also after a resume
    ended: Ended | None = None
    #: the trials of each earlier search, by its source
    warm: dict[str, WarmStarted] = field(default_factory=dict)
    #: the latest decision whether to trust an earlier search, by its source
    guards: dict[str, Guarded] = field(default_factory=dict)
    #: the measured latency of each network, by its identity
    latencies: dict[str, Measured] = field(default_factory=dict)
    #: seconds during which a process ran this search; neither the time between an interruption and its resume
    #: nor pauses count
    active: float = 0.0
    #: seconds of epochs times the GPUs of their trials; retrainings do not count, as they are on top of the budget
    gpu_seconds: float = 0.0
    #: time of the last event in Unix seconds; 0 before the first
    last: float = 0.0
    #: the trainings that have not ended, by number: they are asked for several times for each event
    _unfinished: dict[int, Trial] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        trainings = {**self.trials, **self.extras}
        self._unfinished = {number: trial for number, trial in trainings.items() if trial.end is None}

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """Return the history of ``events``, which begin with the first of a ledger."""
        history = cls()
        for event in events:
            history.apply(event)
        return history

    def apply(self, event: Event) -> None:
        """Update the state by the next event. A second report of the same epoch changes nothing."""
        if self.search and not isinstance(event, Resumed):
            self.active += max(0.0, event.time - self.last)
        self.last = event.time
        match event:
            case SearchBegan():
                self.search, self.budget = event, event.spec["search"]["budget"]
            case Proposed():
                self._propose(event)
            case Rejected():
                self.rejected.append(event)
            case Resumed():
                self.ended, self.budget = None, self.budget if event.budget is None else event.budget
                self.places |= event.places or {}
                for trial in self.running():  # the process that ran them has ended
                    trial.state = "proposed"
            case Paused():
                self.active = max(0.0, self.active - event.seconds)
            case Ended():
                self.ended = event
            case WarmStarted():
                self.warm[event.source] = event
            case Measured():
                self.latencies[event.architecture] = event
            case Guarded():
                self.guards[event.source] = event
            case _:
                self._apply_to_trial(self.trial(event.trial), event)

    def _propose(self, event: Proposed) -> None:
        trial = Trial(
            event.trial, event.params, event.config, event.identity, event.architecture, event.cost,
            why=event.why or {}, confirms=event.confirms, base=event.base,
        )  # fmt: skip
        of_the_search = trial.confirms is None and not trial.base
        (self.trials if of_the_search else self.extras)[trial.number] = trial
        self._unfinished[trial.number] = trial
        if trial.confirms is not None:
            self.trials[trial.confirms].retrainings.append(trial)

    def _apply_to_trial(self, trial: Trial, event: TrialEvent) -> None:
        match event:
            case Started():
                trial.state = "running"
                trial.starts.append(event)
            case Reported():
                if event.epoch == trial.epoch + 1:
                    trial.reports.append(event)
                    if trial.confirms is None and trial.starts:
                        self.gpu_seconds += event.seconds * trial.starts[-1].gpus
            case Inherited():
                trial.inherits = event
            case MemorySaved():
                trial.memory = event
            case Failed(final=False) | Suspended():
                trial.state = "proposed"
            case Stopped() | Failed() | Finished():
                trial.state, trial.end = event.event, event
                self._unfinished.pop(trial.number, None)

    @property
    def began(self) -> SearchBegan:
        """The first event; the search must have begun."""
        assert self.search is not None
        return self.search

    @property
    def name(self) -> str:
        """The name of the search."""
        return self.began.name

    @property
    def objectives(self) -> dict[str, Direction]:
        """The objectives of the search with their directions."""
        return self.began.spec["objectives"]

    @property
    def constraints(self) -> dict[str, Any]:
        """The limits on cost, as in the spec: ``{"gflops": {"max": 1.0}}``."""
        return self.began.spec.get("constraints") or {}

    def trial(self, number: int) -> Trial:
        """Return the training with that number: a trial of the search, a base or a retraining."""
        return self.trials[number] if number in self.trials else self.extras[number]

    @property
    def next_number(self) -> int:
        """The number of the next training that is proposed."""
        return len(self.trials) + len(self.extras)

    def in_state(self, *states: State) -> list[Trial]:
        """Return the trials of the search that are in one of ``states``, in order of their numbers."""
        return [trial for trial in self.trials.values() if trial.state in states]

    def unfinished(self) -> list[Trial]:
        """Return the trainings that have not ended, in order of their numbers."""
        return sorted(self._unfinished.values(), key=lambda trial: trial.number)

    def started(self) -> list[Trial]:
        """Return the trainings that have started at least once."""
        return [trial for trial in [*self.trials.values(), *self.extras.values()] if trial.starts]

    def running(self) -> list[Trial]:
        """Return the trainings that are running, in order of their numbers."""
        return [trial for trial in self.unfinished() if trial.state == "running"]

    def spent(self, trials: int | None, hours: float | None, gpu_hours: float | None) -> float:
        """Return the fraction of a budget that is spent, the greatest of its three parts; None stands for no limit."""
        shares = [
            0.0 if trials is None else len(self.trials) / trials,
            0.0 if hours is None else self.active / (3600 * hours),
            0.0 if gpu_hours is None else self.gpu_seconds / (3600 * gpu_hours),
        ]
        return max(shares)

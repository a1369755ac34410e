"""What the events of a search add up to: its trials and their states, in memory."""

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
    Proposed,
    Rejected,
    Reported,
    Resumed,
    SearchBegan,
    Started,
    Stopped,
    TrialEvent,
    WarmStarted,
    parse_event,
)

Direction = Literal["max", "min"]
State = Literal["proposed", "running", "finished", "stopped", "failed"]

#: reasons of an end before the budget is spent. A search that was failing can be resumed; one that was late can be
#: resumed with a larger budget.
EXHAUSTED = "space exhausted"
FAILING = "every trial failed"
LATE = "no further trial could end within the budget"


@dataclass
class Trial:
    """What the events say of one trial."""

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
    #: the trial that this one trains again with a fresh seed
    confirms: int | None = None
    #: a model without mechanisms, whose weights other trials start with
    base: bool = False
    #: the event that names the trial whose weights this one starts with
    inherits: Inherited | None = None
    #: trials that train this one again
    retrainings: list["Trial"] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.reports[-1].epoch if self.reports else 0

    @property
    def epochs(self) -> int:
        """Epochs of the whole training."""
        return self.config["train"]["epochs"]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last epoch, and the cost; partial unless the state is "finished"."""
        return self.cost | (self.reports[-1].metrics if self.reports else {})

    @property
    def source(self) -> int | None:
        """The trial whose weights this one starts with; None where it starts without any."""
        return self.inherits.source if self.inherits else None

    def curve(self, name: str) -> list[float]:
        """Return a metric after each epoch."""
        return [report.metrics[name] for report in self.reports]

    @property
    def seconds(self) -> float:
        """Seconds inside the epochs."""
        return sum(report.seconds for report in self.reports)

    @property
    def confirmed(self) -> bool:
        """Whether all of its retrainings with fresh seeds have ended."""
        return bool(self.retrainings) and all(trial.end is not None for trial in self.retrainings)

    @property
    def fresh(self) -> list[dict[str, float]]:
        """The metrics of each retraining that finished."""
        return [trial.metrics for trial in self.retrainings if trial.state == "finished"]

    def settled(self) -> "Trial":
        """Return this trial with the mean of its fresh seeds in place of its own metrics; it must have some.

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

    search: SearchBegan | None = None
    #: trials, hours, gpu_hours: as of the last start
    budget: dict[str, Any] = field(default_factory=dict)
    #: the trials of the search itself, from which it learns and among which it chooses
    trials: dict[int, Trial] = field(default_factory=dict)
    #: bases and retrainings; they share one numbering with ``trials``
    extras: dict[int, Trial] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    ended: Ended | None = None
    #: by source: what each earlier search offers, and the last decision whether to trust it
    warm: dict[str, WarmStarted] = field(default_factory=dict)
    guards: dict[str, Guarded] = field(default_factory=dict)
    #: seconds during which a process worked on this search; pauses between an interruption and its resume do not count
    active: float = 0.0
    #: seconds of epochs times the GPUs of their trials, without the retrainings that confirm the front
    gpu_seconds: float = 0.0
    _last: float | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """Return the history of some events."""
        history = cls()
        for event in events:
            history.apply(event)
        return history

    def apply(self, event: Event) -> None:
        """Take in one event; a report of an epoch that is already known changes nothing."""
        if isinstance(event, dict):  # TRANSITIONAL
            event = parse_event(event)
        if self._last is not None and not isinstance(event, Resumed):
            self.active += max(0.0, event.time - self._last)
        self._last = event.time
        match event:
            case SearchBegan():
                self.search, self.budget = event, event.spec["search"]["budget"]
            case Proposed():
                self._propose(event)
            case Rejected():
                self.rejected.append(event)
            case Resumed():
                self.ended, self.budget = None, self.budget if event.budget is None else event.budget
            case Ended():
                self.ended = event
            case WarmStarted():
                self.warm[event.source] = event
            case Guarded():
                self.guards[event.source] = event
            case _:
                self._apply_to_trial(self.trial(event.trial), event)

    def _propose(self, event: Proposed) -> None:
        trial = Trial(
            event.trial, event.params, event.config, event.identity, event.architecture, event.cost,
            why=event.why or {}, confirms=event.confirms, base=event.base,
        )  # fmt: skip
        own = trial.confirms is None and not trial.base
        (self.trials if own else self.extras)[trial.number] = trial
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
            case Failed(final=False):
                trial.state = "proposed"
            case Stopped() | Failed() | Finished():
                trial.state, trial.end = event.event, event

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
        """The objectives of the search and their directions."""
        return self.began.spec["objectives"]

    @property
    def constraints(self) -> dict[str, Any]:
        """The limits on cost, as in the spec: ``{"gflops": {"max": 1.0}}``."""
        return self.began.spec.get("constraints") or {}

    def trial(self, number: int) -> Trial:
        """Return the trial of that number: a trial of the search, a base or a retraining."""
        return self.trials[number] if number in self.trials else self.extras[number]

    @property
    def next_number(self) -> int:
        """The number of the trial that is proposed next."""
        return len(self.trials) + len(self.extras)

    def in_state(self, *states: State) -> list[Trial]:
        """Return the trials of the search in any of ``states``, by number."""
        return [trial for trial in self.trials.values() if trial.state in states]

    def unfinished(self) -> list[Trial]:
        """Return the trials of all kinds that have not ended, by number."""
        everyone = sorted([*self.trials.values(), *self.extras.values()], key=lambda trial: trial.number)
        return [trial for trial in everyone if trial.end is None]

    def running(self) -> list[Trial]:
        """Return the trials of all kinds that are running, by number."""
        return [trial for trial in self.unfinished() if trial.state == "running"]

    def spent(self, trials: int | None, hours: float | None, gpu_hours: float | None) -> float:
        """Return the share of a budget that is spent, the greatest of the three; 1 is all, and None is no limit."""
        shares = [
            0.0 if trials is None else len(self.trials) / trials,
            0.0 if hours is None else self.active / (3600 * hours),
            0.0 if gpu_hours is None else self.gpu_seconds / (3600 * gpu_hours),
        ]
        return max(shares)

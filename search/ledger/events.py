"""The events of a search, one class each; a ledger is a file of them, and everything else is derived from it."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from vattn.base import Config


class _Event(Config):
    """One line of a ledger. `Ledger.append` sets ``time``, in Unix seconds.

    A field that an event was made without is not written, so that ledgers of earlier versions and of this one look
    alike; a field that this version does not know is ignored.
    """

    # Lenient where a config is strict: numbers of a ledger may be whole, and a diverged metric is NaN.
    model_config = ConfigDict(extra="ignore", strict=False, allow_inf_nan=True)

    event: str
    time: float = 0.0

    def line(self) -> dict[str, Any]:
        """Return what is written to the file: the kind, the time, and the fields that were given."""
        fields = self.model_dump(mode="python", exclude_unset=True, exclude={"event", "time"})
        return {"event": self.event, "time": self.time, **fields}

    # TRANSITIONAL: read by string until every reader uses attributes.
    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)

    def __contains__(self, name: str) -> bool:
        return name in type(self).model_fields


class _TrialEvent(_Event):
    """An event of one trial, a base or a retraining; ``trial`` is its number."""

    trial: int


class SearchBegan(_Event):
    """The first line: the identity of the search and its whole spec."""

    event: Literal["search"] = "search"
    id: str
    name: str
    spec: dict[str, Any]
    versions: dict[str, str] = {}


class Resumed(_Event):
    """A new process continues the search; the budget may have been raised."""

    event: Literal["resumed"] = "resumed"
    budget: dict[str, Any] | None = None


class Ended(_Event):
    """The search ended for this reason; "interrupted" can be resumed."""

    event: Literal["ended"] = "ended"
    reason: str


class EarlierTrial(Config):
    """A finished trial of an earlier search, written as a trial of this search's space.

    ``metrics`` holds the accuracies of the earlier search, and the cost as this search counts it.
    """

    # A metric that is no objective may be NaN.
    model_config = ConfigDict(extra="ignore", strict=False, allow_inf_nan=True)

    trial: int
    params: dict[str, Any]
    identity: str
    metrics: dict[str, float]


class WarmStarted(_Event):
    """What an earlier search (``id``, ``name``, found at ``source``) offers for a warm start."""

    event: Literal["warm_start"] = "warm_start"
    source: str
    id: str
    name: str
    trials: tuple[EarlierTrial, ...]
    left_out: dict[str, int]
    """how many finished trials cannot be used, by reason"""
    differs: tuple[str, ...]
    """paths of data and training at which the earlier search differs from this one"""


class Guarded(_Event):
    """Whether the accuracies of an earlier search are trusted from now on."""

    event: Literal["guard"] = "guard"
    source: str
    trusted: bool
    correlation: float
    """rank correlation at equal cost, over ``trials`` finished trials of this search"""
    trials: int
    offset: dict[str, float]
    """by metric: median of this search's accuracy minus the predicted one"""


class Proposed(_TrialEvent):
    """A new trial with its config and cost."""

    event: Literal["proposed"] = "proposed"
    params: dict[str, Any]
    """the choice of each dimension of the space"""
    config: dict[str, Any]
    identity: str
    architecture: str
    cost: dict[str, float]
    why: dict[str, Any] | None = None
    """what the sampler knew, or plain, chance (drawn at random), earlier; None in ledgers of the first versions"""
    confirms: int | None = None
    """the trial that this one trains again with a fresh seed"""
    base: bool = False
    """whether it is a model without mechanisms, trained so that other trials can start with its weights"""


class Rejected(_Event):
    """A proposal that did not become a trial."""

    event: Literal["rejected"] = "rejected"
    params: dict[str, Any]
    identity: str
    cost: dict[str, float]
    reason: str
    duplicate_of: int | None = None
    """the trial with the same identity"""
    late: bool = False
    """whether it could not have ended within the budget of time"""


class Inherited(_TrialEvent):
    """The trial whose weights this trial starts with; None: it starts without any."""

    event: Literal["inherits"] = "inherits"
    source: int | None
    reason: str


class Started(_TrialEvent):
    """A process began to train; once more after a failure or a resume."""

    event: Literal["started"] = "started"
    epoch: int
    """finished epochs from which it continues"""
    gpus: float = 0
    """of all its workers together"""


class Reported(_TrialEvent):
    """The metrics after an epoch, counted from 1, and the seconds that this epoch took."""

    event: Literal["report"] = "report"
    epoch: int
    metrics: dict[str, float]
    seconds: float


class Stopped(_TrialEvent):
    """The scheduler ended a trial early; its metrics are partial."""

    event: Literal["stopped"] = "stopped"
    epoch: int
    reason: str


class Failed(_TrialEvent):
    """An error ended a training; it is tried again unless ``final``."""

    event: Literal["failed"] = "failed"
    error: str
    final: bool


class Finished(_TrialEvent):
    """A trial was trained to its last epoch; ``seconds`` are those inside its epochs, of all attempts."""

    event: Literal["finished"] = "finished"
    epoch: int
    seconds: float


TrialEvent = Proposed | Inherited | Started | Reported | Stopped | Failed | Finished
Event = SearchBegan | Resumed | Ended | WarmStarted | Guarded | Rejected | TrialEvent

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(tree: Any) -> Event:
    """Return the event in a tree, as a line of a ledger has it; raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(tree)

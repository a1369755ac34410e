"""The events of a search, one class each.

A ledger is a file of events in the order in which they happened. The state of a search, its display and its MLflow runs
are all derived from them.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from vattn.base import Config

#: what ended the process of a training
Cause = Literal["", "node", "memory", "hang", "files"]


class _Recorded(Config):
    """A mapping in a ledger. Fields that this version does not know are ignored when it is read."""

    # More lenient than a config: a float may be written as an integer, and the metric of a diverged training is NaN.
    model_config = ConfigDict(extra="ignore", strict=False, allow_inf_nan=True)


class _Event(_Recorded):
    """One line of a ledger. ``time`` is in Unix seconds; `Ledger.append` sets it.

    `line` leaves out fields that were not given, so that this version writes the same lines as earlier ones.
    """

    event: str
    time: float = 0.0

    def line(self) -> dict[str, Any]:
        """Return the mapping that is written to the file: kind, time, and the fields that were given."""
        fields = self.model_dump(mode="python", exclude_unset=True, exclude={"event", "time"})
        return {"event": self.event, "time": self.time, **fields}


class _TrialEvent(_Event):
    """An event of one training: a trial of the search, a base or a retraining."""

    trial: int
    """its number"""


class SearchBegan(_Event):
    """The first event of every ledger: the search began."""

    event: Literal["search"] = "search"
    id: str
    """random, unique to this search"""
    name: str
    spec: dict[str, Any]
    """the whole spec, with defaults filled in"""
    versions: dict[str, str] = Field(default={})
    """versions of Python and of the main packages"""
    clips: dict[str, int] = Field(default={})
    """number of clips of each split; empty in ledgers of earlier versions"""
    content: str = Field(default="")
    """identity of the clips by their content, as `vattn.data.cache.content_of`; empty in ledgers of earlier versions"""


class Resumed(_Event):
    """A new process continued the search."""

    event: Literal["resumed"] = "resumed"
    budget: dict[str, Any] | None = None
    """the budget from now on, as in the spec; None where it did not change"""
    places: dict[str, str] | None = None
    """root and cache of the data from now on, as in the spec; None where they did not change"""


class Paused(_Event):
    """The search stood still for a part of the time before this event, which its budget of hours leaves out."""

    event: Literal["paused"] = "paused"
    seconds: float = Field(ge=0)
    """length of that part"""
    reason: str
    """such as "the machine slept" """


class Ended(_Event):
    """The search ended."""

    event: Literal["ended"] = "ended"
    reason: str
    """such as "budget", or "interrupted" for a search that can be resumed"""


class EarlierTrial(_Recorded):
    """A finished trial of an earlier search, converted to this search's space."""

    trial: int
    """its number in the earlier search"""
    params: dict[str, Any]
    """its config as choices in this search's space"""
    identity: str
    """the identity of its config in this search"""
    metrics: dict[str, float]
    """the metrics that the earlier search measured, and the cost as this search computes it"""


class WarmStarted(_Event):
    """The finished trials of an earlier search were read for a warm start."""

    event: Literal["warm_start"] = "warm_start"
    source: str
    """the earlier search, as ``search.warm_start`` in the spec names it"""
    id: str
    """its id, as in its `SearchBegan`"""
    name: str
    """its name"""
    trials: tuple[EarlierTrial, ...]
    left_out: dict[str, int]
    """number of finished trials that cannot be used, by reason"""
    differs: tuple[str, ...]
    """paths in the data and train sections, and of sizes of the model, at which the earlier search has other values"""


class Guarded(_Event):
    """It was decided whether the accuracies of an earlier search are trusted from now on."""

    event: Literal["guard"] = "guard"
    source: str
    """the earlier search, as in its `WarmStarted`"""
    trusted: bool
    correlation: float
    """partial rank correlation, at equal cost, of the accuracies of this search with those predicted from the other"""
    trials: int
    """number of finished trials of this search over which it was computed"""
    offset: dict[str, float]
    """by metric: median difference of this search's accuracy and the predicted one"""


class Measured(_Event):
    """The latency of a network was measured, while no training of this search ran."""

    event: Literal["measured"] = "measured"
    architecture: str
    """`vattn.canonical.architecture_id` of the network"""
    latency_ms: float
    """median time of a forward pass in milliseconds; 0 with an ``error``"""
    p99_ms: float = 0.0
    """99th percentile of that time"""
    device: str
    """name of the processor or the GPU"""
    error: str = ""
    """why it could not be measured"""


class Proposed(_TrialEvent):
    """A new training was proposed."""

    event: Literal["proposed"] = "proposed"
    params: dict[str, Any]
    """the value of each active range of the space, by name; indices for a choice or a subset"""
    config: dict[str, Any]
    """the complete config"""
    identity: str
    """`vattn.canonical.trial_id` of the config"""
    architecture: str
    """`vattn.canonical.architecture_id` of its model"""
    cost: dict[str, float]
    """gflops (1e9 multiply-adds), params_m (1e6 parameters) and activation_mb (1e6 bytes), of one clip; also
    gflops_video (1e9 multiply-adds of one video in evaluation), where `Spec.costs` has it, and latency_ms, as measured,
    where the spec has a section latency"""
    why: dict[str, Any] | None = None
    """what the sampler knew, or one of plain (the plainest config, which comes first), start (a config of
    ``search.start``, by its place), chance (sampled at random) and earlier (the config of a trial of an earlier
    search); None in ledgers of the first versions"""
    confirms: int | None = None
    """the trial of which this is a retraining, with a fresh seed"""
    base: bool = False
    """whether this is a base: a model without mechanisms, trained so that other trials can start with its weights"""


class Rejected(_Event):
    """A proposal did not become a trial."""

    event: Literal["rejected"] = "rejected"
    params: dict[str, Any]
    identity: str
    cost: dict[str, float]
    reason: str
    duplicate_of: int | None = None
    """the trial that has the same identity"""
    late: bool = False
    """whether the reason is that it could not have finished within the budget of time"""


class Inherited(_TrialEvent):
    """The initial weights of a trial were chosen."""

    event: Literal["inherits"] = "inherits"
    source: int | None
    """the trial whose weights it starts with; None for random weights"""
    reason: str


class Started(_TrialEvent):
    """A process began to train. After a failure or a resume a trial starts again."""

    event: Literal["started"] = "started"
    epoch: int
    """number of finished epochs from which it continues"""
    gpus: float = 0
    """number of GPUs, of all its workers together"""
    workers: int | None = None
    """number of its workers, where that follows the cluster; then there is an event for each change"""


class Reported(_TrialEvent):
    """An epoch of a training ended."""

    event: Literal["report"] = "report"
    epoch: int
    """the number of the epoch, from 1"""
    metrics: dict[str, float]
    """top1, top5, mean_class (rates in 0 ... 1), loss and others, after this epoch"""
    seconds: float
    """duration of the epoch"""


class Stopped(_TrialEvent):
    """The scheduler ended a trial early, so its metrics are partial."""

    event: Literal["stopped"] = "stopped"
    epoch: int
    """number of finished epochs"""
    reason: str


class Failed(_TrialEvent):
    """An error ended an attempt to train."""

    event: Literal["failed"] = "failed"
    error: str
    final: bool
    """whether it is not tried again"""
    cause: Cause = ""
    """what ended its process: the loss of its node, too little memory of the machine, no sign of life, or that its
    files could not be read or written; "" for an error of the training, another end of the process, and in ledgers of
    earlier versions"""


class Suspended(_TrialEvent):
    """A training gave its resources back after an epoch. It continues from there later."""

    event: Literal["suspended"] = "suspended"
    epoch: int
    """number of finished epochs"""
    reason: str


class MemorySaved(_TrialEvent):
    """A GPU had too little memory for a training; how it is tried from now on."""

    event: Literal["memory"] = "memory"
    alone: bool = False
    """whether no other training uses its GPU"""
    recompute: bool = False
    """whether blocks compute their activations again, as with ``train.recompute: blocks``"""
    accumulate: int = 1
    """number of parts of the clips of a step, as ``train.accumulate``; with more than 1, all epochs are trained again
    in this way"""
    changes_result: bool = False
    """whether the parts change the result, as they do where batch norm sees them"""


class Finished(_TrialEvent):
    """A training reached its last epoch."""

    event: Literal["finished"] = "finished"
    epoch: int
    """number of epochs"""
    seconds: float
    """duration of all its epochs"""


TrialEvent = Proposed | Inherited | Started | Reported | Stopped | Failed | Suspended | MemorySaved | Finished
Event = SearchBegan | Resumed | Paused | Ended | WarmStarted | Guarded | Measured | Rejected | TrialEvent

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(tree: Any) -> Event:
    """Return the event that the mapping of a ledger's line stands for. Raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(tree)

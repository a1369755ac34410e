"""The sections of a spec file: limits, the search, its budget, its resources, and where it is tracked."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cluster.placement import gpu_problem
from search.samplers import SamplerConfig
from search.samplers.tpe import TPEConfig
from search.schedulers import SchedulerConfig
from search.schedulers.none import NoSchedulerConfig
from vattn.base import LATER, Config, NoneOr, any_of

#: what training measures
Accuracy = Literal[
    "top1", "top5", "mean_class", "loss", "map", "map_0.1", "map_0.2", "map_0.3", "map_0.4", "map_0.5", "recall"
]
#: what is known before training
CostName = Literal["gflops", "params_m", "activation_mb", "gflops_video", "latency_ms"]
#: the direction of each accuracy
ACCURACIES: dict[str, str] = {name: "min" if name == "loss" else "max" for name in get_args(Accuracy)}
#: the accuracies of task detection; the others are those of classification
OF_DETECTION = frozenset(name for name in ACCURACIES if name.startswith("map") or name == "recall")
#: costs of a model: gflops (1e9 multiply-adds of one clip), params_m (1e6 parameters), activation_mb (1e6 bytes of one
#: clip)
MODEL_COSTS = ("gflops", "params_m", "activation_mb")
#: all costs in closed form; gflops_video (1e9 multiply-adds of all views of one video in evaluation) depends on the
#: data section too
COSTS = (*MODEL_COSTS, "gflops_video")
#: the cost that is measured, milliseconds: the median time of a forward pass, see `Latency`
LATENCY = "latency_ms"


class Limit(Config):
    """Bounds of a cost; give at least one."""

    min: float | None = Field(default=None, ge=0, description="lowest cost that is allowed, in the unit of the cost")
    max: float | None = Field(default=None, ge=0, description="highest cost that is allowed, in the unit of the cost")

    @model_validator(mode="after")
    def _in_order(self) -> "Limit":
        if self.min is None and self.max is None:
            raise ValueError("limits nothing; give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("has min above max; lower min or raise max")
        return self


class Latency(Config):
    """How ``latency_ms`` is measured: once for each network, by the process of the search, while no trial runs."""

    device: Literal["cpu", "cuda"] = Field(
        description="device of the machine on which the search itself runs; cuda = its first GPU"
    )
    batch: int = Field(default=1, ge=1, le=100_000, description="clips of a forward pass")
    threads: int = Field(default=1, ge=1, le=1_000, description="torch threads of a forward pass on the CPU")


class Budget(Config):
    """When a search stops proposing trials: at the first limit that is reached. Give at least one."""

    trials: int | None = Field(default=None, ge=1, le=10_000_000, description="number of trials")
    hours: float | None = Field(
        default=None, gt=0, le=1_000_000, description="hours during which the search runs; interruptions do not count"
    )
    gpu_hours: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000_000,
        description="GPU hours: the hours of all epochs, times the GPUs of their trials",
    )

    @model_validator(mode="after")
    def _ends(self) -> "Budget":
        if self.trials is None and self.hours is None and self.gpu_hours is None:
            raise ValueError("has no end; give trials, hours or gpu_hours, or several of them")
        return self


class Confirm(Config):
    """Which trials are trained again with fresh seeds, after the last trial and on top of the budget."""

    top: int = Field(
        default=3,
        ge=0,
        description="number of trials that are confirmed besides the front: those that miss it by least",
    )
    seeds: int = Field(
        default=2, ge=2, le=100, description="fresh seeds of each trial; one seed alone has no spread to estimate"
    )


def _tpe_unless_named(value: Any) -> Any:
    return {"kind": "tpe"} | value if isinstance(value, dict) else value


def _none_as_kind(value: Any) -> Any:
    return {"kind": "none"} if value == "none" else value


if TYPE_CHECKING:
    AnySampler = SamplerConfig
    AnyScheduler = SchedulerConfig
else:
    AnySampler = Annotated[any_of(SamplerConfig), BeforeValidator(_tpe_unless_named)]
    AnyScheduler = Annotated[any_of(SchedulerConfig), BeforeValidator(_none_as_kind)]


def _once(runs: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [run for n, run in enumerate(runs) if run in runs[:n]]:
        raise ValueError(f"names {twice[0]} twice; name it once")
    return runs


class Search(Config):
    """How the search chooses, stops and confirms trials."""

    sampler: AnySampler = Field(default=TPEConfig(), description="how configs are proposed")
    scheduler: AnyScheduler = Field(default=NoSchedulerConfig(), description="when trials are stopped early")
    budget: Budget = Field(description="when the search stops proposing trials")
    confirm: NoneOr[Confirm] = Field(
        default="none", description="which trials are trained again with fresh seeds, to estimate their true accuracy"
    )
    inherit: Literal["none", "base", "parent"] = Field(
        default="none",
        description="initial weights of a trial: none = random, base = those of its model without mechanisms, "
        "which is trained first, parent = those of the most similar finished trial",
    )
    warm_start: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(_once)] = Field(
        default=(), description="earlier searches whose trials are used, as folders or names of folders below runs"
    )
    prior: dict[str, dict[str, Annotated[float, Field(gt=0, le=1e6)]]] = Field(
        default={},
        json_schema_extra=LATER,
        description="values that you expect to be good: for names of ranges, weights of options, items, numbers or "
        "intervals LOW..HIGH; what is not named has weight 1. Half of the first trials are drawn by these weights, "
        "and their effect decays with the number of ended trials. Only the frontier sampler uses it",
    )
    start: tuple[dict[str, Any], ...] = Field(
        default=(),
        max_length=1_000,
        json_schema_extra=LATER,
        description="configs that are tried first, after the baseline: values by the names of ranges; the "
        "others are those of the baseline",
    )


class WorkerRange(Config):
    """A number of workers that follows the cluster."""

    min: int = Field(ge=1, le=100_000, description="fewest workers with which a trial trains; it waits for them")
    max: int = Field(ge=1, le=100_000, description="most workers of a trial")

    @field_validator("max")
    @classmethod
    def _is_most(cls, most: int, info: ValidationInfo) -> int:
        if most < (least := info.data.get("min", 1)):
            raise ValueError(f"must be at least min, {least}")
        return most


#: Chooses between a number and a range by the value's form, so that a message is about the intended one.
_NUMBER_OR_RANGE = Discriminator(lambda value: "config" if isinstance(value, Mapping | WorkerRange) else "word")


class Resources(Config):
    """The resources of one trial, how many trials run at once, and the room for their files."""

    workers: Annotated[
        Annotated[int, Field(ge=1, le=100_000), Tag("word")] | Annotated[WorkerRange, Tag("config")], _NUMBER_OR_RANGE
    ] = Field(
        default=1,
        description="number of processes that train one trial together; {min: 2, max: 8} = as many as there is room "
        "for, and more or fewer when nodes join or leave",
    )
    cpus: int = Field(
        default=1, ge=1, le=100_000, description="CPUs of one worker, which is also its number of torch threads"
    )
    gpus: Literal["auto"] | Annotated[float, Field(ge=0, le=100_000)] = Field(
        default=0.0,
        description="GPUs of one worker: 0 = it trains on the CPU, 1 = on a GPU of its own; a fraction, with one "
        "worker only, shares a GPU between trials; auto = the fraction that a trial's predicted memory is of the "
        "smallest GPU's, or CPUs if the cluster has no GPU",
    )
    concurrent: Literal["auto"] | Annotated[int, Field(ge=1, le=100_000)] = Field(
        default="auto",
        description="number of trials that run at once; auto = as many as the cluster has resources for, which follows "
        "nodes that join and leave",
    )
    patience: Literal["auto"] | Annotated[float, Field(ge=10, le=1e6)] = Field(
        default="auto",
        description="seconds without a finished epoch after which a trial is taken for hung, ended and started again, "
        "once; auto = five times its longest epoch so far, at least 600, and 3600 where nothing is known",
    )
    storage_gb: Literal["auto"] | Annotated[float, Field(gt=0, le=1_000_000_000)] = Field(
        default="auto",
        description="1e9 bytes that the weights and checkpoints of this search may take; beyond it, those of trials "
        "that nothing needs are removed, the oldest first. What a resume, the front, its confirmation and "
        "search.inherit need is kept. auto = they are removed only while the disk is full",
    )

    @field_validator("gpus")
    @classmethod
    def _usable(cls, gpus: float | Literal["auto"], info: ValidationInfo) -> float | Literal["auto"]:
        if gpus != "auto" and (problem := gpu_problem(_most(info.data.get("workers", 1)), gpus)):
            raise ValueError(f"{problem.rule}; write workers: {problem.workers}, gpus: {problem.gpus:g}")
        return gpus

    @property
    def fewest(self) -> int:
        """The fewest workers of a trial."""
        return self.workers if isinstance(self.workers, int) else self.workers.min

    @property
    def most(self) -> int:
        """The most workers of a trial."""
        return _most(self.workers)


def _most(workers: int | WorkerRange) -> int:
    return workers if isinstance(workers, int) else workers.max


class Tracking(Config):
    """Where the search writes its MLflow runs."""

    uri: str = Field(
        default="auto", min_length=1, description="MLflow tracking URI; auto = a SQLite file in the output folder"
    )
    experiment: str = Field(
        default="auto", min_length=1, description="MLflow experiment; auto = the name of the search"
    )

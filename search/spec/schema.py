"""The spec file: what is searched, for what, within what limits and with what means. Every corner of it is checked."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from search.samplers import SamplerConfig
from search.samplers.tpe import TPEConfig
from search.schedulers import SchedulerConfig
from search.schedulers.none import NoSchedulerConfig
from search.spec.messages import SpecError, spec_error
from spaces.space import Problem, Space, Tree
from vattn.base import Config, NoneOr
from vattn.config import TrialConfig, any_of
from vattn.cost import cost
from vattn.data import DataConfig

Accuracy = Literal["top1", "top5", "mean_class", "loss"]


CostName = Literal["gflops", "params_m", "activation_mb"]


ACCURACIES: dict[str, str] = {"top1": "max", "top5": "max", "mean_class": "max", "loss": "min"}


COSTS = ("gflops", "params_m", "activation_mb")


class Limit(Config):
    """Bounds of a cost, both inclusive; unlimited where not given."""

    min: float | None = Field(default=None, ge=0)
    max: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Limit":
        if self.min is None and self.max is None:
            raise ValueError("limits nothing; give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("has min above max; lower min or raise max")
        return self


class Budget(Config):
    """When a search ends: at the first of these."""

    trials: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0, description="hours of epochs, times the GPUs of their trial")

    @model_validator(mode="after")
    def _ends(self) -> "Budget":
        if self.trials is None and self.hours is None and self.gpu_hours is None:
            raise ValueError("has no end; give trials, hours or gpu_hours, or several of them")
        return self


class Confirm(Config):
    """Training the front again before it is called one."""

    top: int = Field(default=3, ge=0, description="how many of those that miss the front by least go with it")
    seeds: int = Field(default=2, ge=2, le=100, description="fresh seeds of each; one alone would tell of no spread")


def _tpe_unless_named(value: Any) -> Any:
    return {"kind": "tpe"} | value if isinstance(value, dict) else value


def _none_as_kind(value: Any) -> Any:
    return {"kind": "none"} if value == "none" else value


if TYPE_CHECKING:
    AnySampler, AnyScheduler = SamplerConfig, SchedulerConfig
else:
    AnySampler = Annotated[any_of(SamplerConfig), BeforeValidator(_tpe_unless_named)]
    AnyScheduler = Annotated[any_of(SchedulerConfig), BeforeValidator(_none_as_kind)]


def _once(runs: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [run for n, run in enumerate(runs) if run in runs[:n]]:
        raise ValueError(f"names {twice[0]} twice; name it once")
    return runs


class Search(Config):
    """How a search goes about it."""

    sampler: AnySampler = TPEConfig()
    scheduler: AnyScheduler = NoSchedulerConfig()
    budget: Budget
    confirm: NoneOr[Confirm] = "none"
    inherit: Annotated[
        Literal["none", "base", "parent"],
        Field(description="start with the weights of the model without mechanisms, or of the nearest finished trial"),
    ] = "none"
    warm_start: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(_once)] = ()


class Resources(Config):
    """What one trial takes, and how many run at once."""

    workers: int = Field(default=1, ge=1)
    cpus: int = Field(default=1, ge=1, description="of a worker; also its number of torch threads")
    gpus: float = Field(default=0, ge=0, description="of a worker")
    concurrent: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"


class Tracking(Config):
    """Where MLflow writes."""

    uri: str = Field(default="auto", min_length=1)
    experiment: str = Field(default="auto", min_length=1)


class Spec(Config):
    """A spec file. `load` reads one and checks all of it; this class alone leaves ``trial`` unread."""

    version: Literal[1] = Field(alias="schema")
    name: str
    trial: dict[str, Any]
    objectives: dict[Literal[Accuracy, CostName], Literal["max", "min"]] = Field(
        default={"top1": "max", "gflops": "min"}
    )
    constraints: dict[CostName, Limit] = Field(default={})
    search: Search
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    output: str = Field(default="auto", min_length=1)

    _file: Path = PrivateAttr(default=Path("spec.yaml"))

    @model_validator(mode="after")
    def _one_objective_is_forecast(self) -> "Spec":
        parts = {"search.sampler": self.search.sampler, "search.scheduler": self.search.scheduler}
        kinds = {path: part.kind for path, part in parts.items() if part.forecasts_one_objective}
        if kinds and len(self.measured) > 1:
            raise ValueError(
                f"objectives: {' and '.join(kinds)} of kind {' and '.join(dict.fromkeys(kinds.values()))} forecast one "
                f"that training measures; keep one of {', '.join(self.measured)}"
            )
        return self

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            way_out = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "my-search"
            raise ValueError(f"names a folder too, so it is made of a-z, 0-9 and -; try {way_out}")
        return name

    @field_validator("objectives")
    @classmethod
    def _sensible(cls, objectives: dict[str, str]) -> dict[str, str]:
        for name, way in objectives.items():
            right = ACCURACIES.get(name, "min")
            if way != right:
                raise ValueError(f"{name}: must be {right}: a model is better with {_better(right)} {name} (got {way})")
        if not 1 <= len(objectives) <= 3:
            raise ValueError(f"must be 1 to 3; leave out what matters least (got {len(objectives)})")
        if not objectives.keys() & ACCURACIES:
            raise ValueError(f"has none that training measures; add one of {', '.join(ACCURACIES)}")
        return objectives

    @model_validator(mode="after")
    def _gpus_are_there_to_be_counted(self) -> "Spec":
        if self.search.budget.gpu_hours is not None and not self.resources.gpus:
            raise ValueError(
                "search.budget.gpu_hours: is never spent, as trials have no GPU; set resources.gpus, or give hours "
                f"instead (got {self.search.budget.gpu_hours:g})"
            )
        return self

    def tree(self) -> dict[str, Any]:
        """Return plain mappings, lists and scalars, with every default filled in; `parse` reads it back."""
        return self.model_dump(mode="json", by_alias=True)

    @cached_property
    def space(self) -> Space:
        """The space over whole trials; names begin with data, model or train."""
        return Space(self.trial, ("trial",))

    @cached_property
    def data(self) -> DataConfig:
        """The one data set; where augmentation and such are searched, with their first values."""
        return self.trial_config(next(self.space.one_at_a_time())[1]).data

    @cached_property
    def classes(self) -> int:
        """How many classes the data set has; raises SpecError where its files cannot tell."""
        try:
            return self.data.num_classes()
        except ValueError as error:
            raise SpecError([f"{self._file}: trial.{error}"]) from None

    def trial_config(self, tree: Tree) -> TrialConfig:
        """Return the config of a tree that `space` gave."""
        return TrialConfig.parse(tree)

    def cost(self, config: TrialConfig) -> dict[str, float]:
        """Return gflops (1e9 multiply-adds), params_m (1e6), activation_mb (1e6 bytes) of one clip."""
        counted = cost(config.model, self.classes)
        return {name: getattr(counted, name) for name in COSTS}

    def broken_limits(self, cost: Mapping[str, float]) -> list[str]:
        """Return the limits that a model of this cost breaks, in words."""
        broken = []
        for name, limit in self.constraints.items():
            if limit.max is not None and cost[name] > limit.max:
                broken.append(f"{name} {cost[name]:.4g} is above {limit.max:g}")
            if limit.min is not None and cost[name] < limit.min:
                broken.append(f"{name} {cost[name]:.4g} is below {limit.min:g}")
        return broken

    def error(self, *found: Problem) -> SpecError:
        """Return the error that tells ``found``, beginning with the file that this spec was read from."""
        return spec_error(self._file, found)

    @property
    def measured(self) -> list[str]:
        """The objectives that only training tells."""
        return [name for name in self.objectives if name in ACCURACIES]

    def output_dir(self) -> Path:
        """The folder of everything that a search leaves."""
        return Path("runs") / self.name if self.output == "auto" else Path(self.output)


def _better(way: str) -> str:
    return {"max": "more", "min": "less"}[way]

"""A spec file as an object: its sections, the rules between them, and the costs of its configs.

`search.spec.validation.load` reads a spec file and also checks its trial section, which `Spec` alone leaves unread.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from search.ledger.remote import check_url, is_url, work_folder
from search.spec.messages import SpecError
from search.spec.sections import (
    ACCURACIES,
    COSTS,
    LATENCY,
    MODEL_COSTS,
    OF_DETECTION,
    Accuracy,
    CostName,
    Latency,
    Limit,
    Resources,
    Search,
    Tracking,
)
from spaces.partial import complete
from spaces.prior import Prior
from spaces.space import Params, Problem, Space, Tree
from vattn.base import Config, NoneOr
from vattn.config import ModelConfig, TrialConfig
from vattn.cost import cost, gflops_video
from vattn.data import DataConfig
from vattn.data.config import StoreConfig, ViewsConfig
from vattn.files import at_home
from vattn.weights.statistics import recorded

#: characters of a search's name
MAX_NAME = 200


class Spec(Config):
    """A spec file: what is searched, for which objectives, within which limits, and with which resources."""

    version: Literal[1] = Field(alias="schema", description="version of the format of this file")
    name: str = Field(description="name of the search, made of a-z, 0-9 and -")
    trial: dict[str, Any] = Field(
        description="the search space: the config of a trial (data, model, train) in which values may be ranges"
    )
    objectives: dict[Literal[Accuracy, CostName], Literal["max", "min"]] = Field(
        default={"top1": "max", "gflops": "min"},
        description="1 to 3 metrics or costs to optimise, each with its direction; at least one metric",
    )
    constraints: dict[CostName, Limit] = Field(
        default={},
        description="limits on gflops (1e9 multiply-adds of one clip), params_m (1e6 parameters), activation_mb (1e6 "
        "bytes of one clip), gflops_video (1e9 multiply-adds of all views of one video in evaluation) and latency_ms "
        "(milliseconds of a forward pass, see latency); a config beyond a limit is never trained",
    )
    latency: NoneOr[Latency] = Field(
        default="none",
        description="how latency_ms is measured; it is then recorded of each trial, and can be an objective or a limit",
    )
    search: Search = Field(description="how the search chooses, stops and confirms trials")
    resources: Resources = Field(default=Resources(), description="resources of one trial")
    tracking: Tracking = Field(default=Tracking(), description="where the search writes its MLflow runs")
    output: str = Field(
        default="auto",
        min_length=1,
        description="folder for all files of the search; auto = runs/ and its name. A URL of s3://, gs:// or file:// "
        "names a store, to which ledger, checkpoints, weights and clip cache are copied",
    )

    # It may hold a secret, so it is no part of `tree`, and never reaches the ledger or MLflow.
    notify: str = Field(
        default="none",
        exclude=True,
        description="URL that receives a JSON message when the search has ended, has failed or needs help; none = no "
        "message",
    )

    #: the file that this spec was read from
    _file: Path = PrivateAttr(default=Path("spec.yaml"))
    #: whether `data.store` was auto: it has a size, and the rest is chosen when the clips are listed
    _chooses_store: bool = PrivateAttr(default=False)

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

    @model_validator(mode="after")
    def _objectives_are_of_the_task(self) -> "Spec":
        task = self.trial.get("task", "classification")
        own = [name for name in ACCURACIES if (name in OF_DETECTION) == (task == "detection")]
        if foreign := [name for name in self.measured if name not in own]:
            raise ValueError(
                f"objectives: task {task} does not measure {', '.join(foreign)}; take {', '.join(own)} (got "
                f"{', '.join(self.measured)})"
            )
        return self

    @model_validator(mode="after")
    def _latency_has_a_device(self) -> "Spec":
        if self.latency == "none" and (LATENCY in self.objectives or LATENCY in self.constraints):
            raise ValueError(
                "latency: says on which device latency_ms is measured; add latency: {device: cpu}, or cuda (got none)"
            )
        return self

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if len(name) > MAX_NAME:
            raise ValueError(f"names a folder too, so it has at most {MAX_NAME} characters (got {len(name)})")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            way_out = re.sub(r"[^a-z0-9]+", "-", name[:60].lower()).strip("-") or "my-search"
            raise ValueError(f"names a folder too, so it is made of a-z, 0-9 and -; try {way_out}")
        return name

    @field_validator("output")
    @classmethod
    def _is_place(cls, output: str) -> str:
        return check_url(output) if is_url(output) else output

    @model_validator(mode="after")
    def _workers_share_a_folder(self) -> "Spec":
        if is_url(self.output) and self.resources.most > 1:
            raise ValueError(
                "resources.workers: several workers of a trial share a folder, which a store is not; name a shared "
                f"folder as output, or set workers: 1 (got {self.resources.most})"
            )
        return self

    @field_validator("notify")
    @classmethod
    def _is_url(cls, notify: str) -> str:
        if notify != "none" and not re.fullmatch(r"https?://[^/\s]+\S*", notify):
            raise ValueError("must be a URL that takes a POST, such as https://HOST/PATH, or none")
        return notify

    @field_validator("objectives")
    @classmethod
    def _sensible(cls, objectives: dict[str, str]) -> dict[str, str]:
        for name, direction in objectives.items():
            right = ACCURACIES.get(name, "min")
            if direction != right:
                more = "more" if right == "max" else "less"
                raise ValueError(f"{name}: must be {right}: a model is better with {more} {name} (got {direction})")
        if not 1 <= len(objectives) <= 3:
            raise ValueError(f"must be 1 to 3; leave out what matters least (got {len(objectives)})")
        if not objectives.keys() & ACCURACIES:
            raise ValueError(f"has none that training measures; add one of {', '.join(ACCURACIES)}")
        return objectives

    @model_validator(mode="after")
    def _gpu_hours_need_gpus(self) -> "Spec":
        if self.search.budget.gpu_hours is not None and not self.resources.gpus:
            raise ValueError(
                "search.budget.gpu_hours: is never spent, as trials have no GPU; set resources.gpus, or give hours "
                f"instead (got {self.search.budget.gpu_hours:g})"
            )
        return self

    def tree(self) -> dict[str, Any]:
        """Return plain mappings, lists and scalars, with every default filled in; `parse` reads it back.

        ``latency: none`` is left out, so that ledgers of searches without it stay as they were.
        """
        tree = self.model_dump(mode="json", by_alias=True)
        return {key: value for key, value in tree.items() if key != "latency" or value != "none"}

    @cached_property
    def space(self) -> Space:
        """The search space over complete trials; the names of its ranges begin with data, model or train."""
        return Space(self.trial, ("trial",))

    @cached_property
    def prior(self) -> Prior | None:
        """The prior over the space; None without one. Raises SpaceError if it is not one of this space."""
        return Prior(self.space, self.search.prior, ("search", "prior")) if self.search.prior else None

    def start(self, place: int) -> Params:
        """Return the params of a config of ``search.start``. Raises SpaceError if it is not one of this space."""
        return complete(self.space, self.search.start[place], ("search", "start", place))

    @cached_property
    def data(self) -> DataConfig:
        """The data set that all trials share. Parts of it that are searched, such as augmentation, are at one value."""
        return self.trial_config(next(self.space.one_at_a_time())[1]).data

    @cached_property
    def classes(self) -> int:
        """The number of classes of the data set. Raises SpecError if it cannot be read from the files."""
        try:
            return self.data.num_classes()
        except ValueError as error:
            raise SpecError([f"{self._file}: trial.{error}"]) from None

    @property
    def file(self) -> Path:
        """The file that this spec was read from."""
        return self._file

    @property
    def chooses_store(self) -> bool:
        """Whether it is left open how the clip cache stores frames (``data.store: auto``)."""
        return self._chooses_store

    def stored(self, store: StoreConfig) -> "Spec":
        """Return the same spec with ``data.store`` given."""
        data = self.trial["data"] | {"store": store.tree()}
        spec = Spec.parse(self.tree() | {"trial": self.trial | {"data": data}, "notify": self.notify})
        spec._file = self._file  # pyright: ignore[reportAttributeAccessIssue]  # private, and so not frozen
        return spec

    def trial_config(self, tree: Tree) -> TrialConfig:
        """Return the config for a tree of `space`."""
        return recorded(TrialConfig.parse(tree))

    @cached_property
    def views(self) -> tuple[ViewsConfig, ...]:
        """The distinct views that trials can have in evaluation."""
        space = Space({"views": self.trial["data"].get("views", {})}, ("trial", "data"))
        return tuple(dict.fromkeys(ViewsConfig.parse(tree) for _, tree in space.part("views").enumerate()))

    @cached_property
    def costs(self) -> tuple[str, ...]:
        """The names of the costs in closed form that are recorded of each trial.

        gflops_video is one of them where an objective or a limit names it, or where it differs from gflops.
        """
        named = "gflops_video" in self.objectives or "gflops_video" in self.constraints
        differs = any(views.clips * views.crops > 1 or views.size != "auto" for views in self.views)
        return COSTS if named or differs else MODEL_COSTS

    def cost(self, config: TrialConfig) -> dict[str, float]:
        """Return the `costs` of a config by name, each in its unit (see `COSTS`)."""
        return self.cost_of(config.model, config.data.views)

    def subject(self, params: Params) -> tuple[ModelConfig, ViewsConfig]:
        """Return all of a config on which its cost depends: its model, and its views in evaluation.

        A sampler asks for the cost of thousands of configs, and most of the time of `trial_config` is for the rest.
        """
        model = ModelConfig.parse(self._model_space.replay(params))
        if len(self.views) == 1:
            return model, self.views[0]
        data = self.space.part("data").replay(params)
        return model, ViewsConfig.parse(data.get("views", {}))

    @cached_property
    def _model_space(self) -> Space:
        return self.space.part("model")

    def cost_of(self, model: ModelConfig, views: ViewsConfig) -> dict[str, float]:
        """Return the `costs` of a model with these views in evaluation."""
        counted = cost(model, self.classes)
        known: dict[str, float] = {name: getattr(counted, name) for name in MODEL_COSTS}
        return known | {name: gflops_video(model, views, self.classes) for name in self.costs if name not in known}

    def broken_limits(self, cost: Mapping[str, float]) -> list[str]:
        """Return a text for each limit that a model of this cost breaks, such as "gflops 1.25 is above 1".

        A limit on latency_ms counts where that is known.
        """
        broken = []
        for name, limit in self.constraints.items():
            if name == LATENCY and name not in cost:
                continue
            if limit.max is not None and cost[name] > limit.max:
                broken.append(f"{name} {cost[name]:.4g} is above {limit.max:g}")
            if limit.min is not None and cost[name] < limit.min:
                broken.append(f"{name} {cost[name]:.4g} is below {limit.min:g}")
        return broken

    def error(self, *problems: Problem) -> SpecError:
        """Return the error for some problems of the file that this spec was read from."""
        return SpecError.of(self._file, problems)

    @property
    def measured(self) -> list[str]:
        """The objectives that training measures, in order."""
        return [name for name in self.objectives if name in ACCURACIES]

    def output_dir(self) -> Path:
        """Return the folder for all files of the search; of an output in a store, where this machine works on it."""
        if is_url(self.output):
            return work_folder(self.output)
        return Path("runs") / self.name if self.output == "auto" else at_home(self.output)

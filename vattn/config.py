"""The recipe of one trial: its data, its model, its training. A space is one of these with ranges in it."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from vattn.backbones import BackboneConfig
from vattn.base import Config, Kinded, NoneOr
from vattn.data import DataConfig
from vattn.modules import Layer, ModuleConfig, Site
from vattn.sparse import SparseConfig


def any_of(family: type[Kinded]) -> Any:
    """Return the union of all configs of a family, discriminated by ``kind``."""
    union = reduce(or_, family.kinds.values())
    return Annotated[union, Field(discriminator="kind")] if len(family.kinds) > 1 else union


if TYPE_CHECKING:
    AnyBackbone = BackboneConfig
    AnyData = DataConfig
    AnyModule = ModuleConfig
else:
    AnyBackbone, AnyData, AnyModule = any_of(BackboneConfig), any_of(DataConfig), any_of(ModuleConfig)


class HeadConfig(Config):
    """Dropout, one linear layer per frame, and the average of the frames' scores (TSN's consensus)."""

    kind: Literal["average"] = "average"
    dropout: float = Field(0.5, ge=0, lt=1)


class ModelConfig(Config):
    """One video network: a backbone, mechanisms in the order in which data meets them, a head."""

    frames: int = Field(ge=1, description="T, frames of one clip")
    size: int = Field(ge=8, description="side of the square crop, pixels")
    backbone: AnyBackbone
    attention: tuple[AnyModule, ...] = ()
    head: HeadConfig = HeadConfig()
    sparse: NoneOr[SparseConfig] = "none"

    @field_validator("sparse")
    @classmethod
    def _without_new_clips_there_is_none(cls, sparse: NoneOr[SparseConfig]) -> NoneOr[SparseConfig]:
        return sparse if isinstance(sparse, SparseConfig) and sparse.resampled else "none"

    @model_validator(mode="after")
    def _classes_have_maps(self) -> Self:
        if self.sparse != "none" and not self.backbone.averages:
            raise ValueError(
                f"sparse: needs maps of classes, and the features of a {self.backbone.kind} are no averages of maps; "
                "write none, or take another backbone"
            )
        return self

    @model_validator(mode="after")
    def _backbone_takes_the_clips(self) -> Self:
        self.backbone.check(self.size, self.frames)
        return self

    @model_validator(mode="after")
    def _mechanisms_have_places(self) -> Self:
        stages, positions = self.backbone.stages(), self.backbone.positions()
        taken: set[Site] = set()
        for i, module in enumerate(self.attention):
            unknown = [stage for stage in module.stages if stage not in stages]
            if unknown:
                raise ValueError(
                    f"attention[{i}].stages: this {self.backbone.kind} has stages {_listed(stages)}; leave out "
                    f"{_listed(unknown)} (got {_listed(module.stages)})"
                )
            if module.position not in positions:
                fitting = _listed(position for position in positions if position in module.places)
                raise ValueError(
                    f"attention[{i}].position: a block of this {self.backbone.kind} offers {_listed(positions)}; "
                    f"{f'take {fitting}' if fitting else f'leave {module.kind} out'} (got {module.position})"
                )
            for site in module.at(self.backbone.sites(self.size)):
                if site in taken:
                    raise ValueError(
                        f"attention[{i}].stages: a layer can be replaced once, and {site.position} of stage "
                        f"{site.stage} is replaced already; leave the stage out (got {_listed(module.stages)})"
                    )
                if isinstance(site, Layer):
                    taken.add(site)
                try:
                    module.check(site, self.backbone.frames_at(site, self.frames))
                except ValueError as error:
                    raise ValueError(f"attention[{i}].{error}") from None
        return self


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


class TrainConfig(Config):
    """How one model is trained; with the model and data configs, all a run depends on."""

    epochs: int = Field(ge=1)
    batch: int = Field(ge=1, description="clips per step, summed over all workers")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0, description="peak rate for `batch`; not scaled behind your back")
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(1e-4, ge=0)
    amp: Literal["none", "bf16"] = "none"
    recompute: Literal["none", "blocks"] = Field(
        "none",
        description="blocks: what residual blocks compute on their way is computed twice, and not kept; "
        "activation_mb is that of none",
    )
    checkpoint_minutes: Annotated[
        Literal["none"] | Annotated[float, Field(gt=0)],
        Field(description="so often a checkpoint is written within an epoch, beside the one at its end"),
    ] = 10.0
    init: str = Field(
        "scratch",
        description="scratch; identity: mechanisms that can start as such; or the absolute path of a state dict, whose "
        "matching weights are taken, and the rest is as for identity",
    )
    seed: int = Field(0, ge=0)

    @field_validator("init")
    @classmethod
    def _known_or_a_file(cls, init: str) -> str:
        if init not in ("scratch", "identity") and not Path(init).is_absolute():
            raise ValueError(
                "must be scratch, identity, or the absolute path of a state dict; in a search, search.inherit chooses "
                "one for each trial"
            )
        return init

    @property
    def weights(self) -> Path | None:
        """The state dict that training starts with."""
        return None if self.init in ("scratch", "identity") else Path(self.init)


class TrialConfig(Config):
    """Everything that one trial depends on."""

    data: AnyData
    model: ModelConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _clips_are_what_the_backbone_takes(self) -> Self:
        drawn, taken = self.data.sampling.frames_per_segment, self.model.backbone.frames_per_segment
        if drawn not in ("auto", taken):
            raise ValueError(
                f"data.sampling.frames_per_segment: {self.model.backbone.kind} takes {taken}; write auto (got {drawn})"
            )
        return self

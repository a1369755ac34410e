"""The config of one trial: data, model and training. A search space is such a config with ranges in it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from vattn.backbones import BackboneConfig
from vattn.base import Config, NoneOr, any_of
from vattn.data import DataConfig
from vattn.modules import Layer, ModuleConfig, Site
from vattn.sparse import SparseConfig
from vattn.training.recipe.config import TrainConfig
from vattn.training.recipe.distill import DistillConfig

if TYPE_CHECKING:
    AnyBackbone = BackboneConfig
    AnyData = DataConfig
    AnyModule = ModuleConfig
else:
    AnyBackbone, AnyData, AnyModule = any_of(BackboneConfig), any_of(DataConfig), any_of(ModuleConfig)


class HeadConfig(Config):
    """Dropout, a linear layer for each frame, and the average of the frames' scores.

    This is the segmental consensus of Wang, Xiong, Wang, Qiao, Lin, Tang and Van Gool, "Temporal Segment Networks:
    Towards Good Practices for Deep Action Recognition", ECCV 2016.
    """

    kind: Literal["average"] = "average"
    dropout: float = Field(0.5, ge=0, lt=1, description="probability of dropout before the linear layer")


class ModelConfig(Config):
    """One video network: a backbone, mechanisms in it, a head, and optional branches around it."""

    frames: int = Field(ge=1, description="T, number of frames in a clip")
    size: int = Field(ge=8, description="side of the square crop that the network sees, pixels")
    backbone: AnyBackbone = Field(description="the network that the mechanisms are inserted into")
    attention: tuple[AnyModule, ...] = Field(
        (), description="list of mechanisms; those at the same site are applied in the order of the list"
    )
    head: HeadConfig = Field(HeadConfig(), description="the classifier on the backbone's features")
    sparse: NoneOr[SparseConfig] = Field(
        "none", description="sparse spatial attention: branches that see resampled clips; or none"
    )

    @field_validator("sparse")
    @classmethod
    def _original_branch_alone_is_none(cls, sparse: NoneOr[SparseConfig]) -> NoneOr[SparseConfig]:
        return sparse if isinstance(sparse, SparseConfig) and sparse.resampled else "none"

    @model_validator(mode="after")
    def _sparse_needs_class_maps(self) -> Self:
        if self.sparse != "none" and not self.backbone.averages:
            raise ValueError(
                f"sparse: needs maps of classes, and the features of a {self.backbone.kind} are no averages of maps; "
                "write none, or take another backbone"
            )
        return self

    @model_validator(mode="after")
    def _backbone_accepts_the_clips(self) -> Self:
        self.backbone.check(self.size, self.frames)
        return self

    @model_validator(mode="after")
    def _mechanisms_fit_the_backbone(self) -> Self:
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


class TeacherConfig(Config):
    """A trained network, and the data that it sees. In a file it is the name of its config file."""

    data: AnyData = Field(
        description="data of the teacher; of optical flow beside colours, they have the same videos as the student's"
    )
    model: ModelConfig = Field(description="the network of the teacher")


# The config of a training is imported above, and that of its teacher needs the configs of data and model.
for _config in (DistillConfig, TrainConfig):
    _config.model_rebuild(_types_namespace={"TeacherConfig": TeacherConfig})


class TrialConfig(Config):
    """Everything that the result of one trial depends on."""

    data: AnyData = Field(description="the data set, how its clips are stored, sampled and augmented")
    model: ModelConfig = Field(description="the network")
    train: TrainConfig = Field(description="the training")

    @model_validator(mode="after")
    def _frames_per_segment_fit_the_backbone(self) -> Self:
        sampled, needed = self.data.sampling.frames_per_segment, self.model.backbone.frames_per_segment
        if sampled not in ("auto", needed):
            raise ValueError(
                f"data.sampling.frames_per_segment: {self.model.backbone.kind} takes {needed}; write auto "
                f"(got {sampled})"
            )
        return self

    @model_validator(mode="after")
    def _frozen_stages_exist(self) -> Self:
        if self.train.freeze:
            backbone = self.model.backbone
            stages = [part.stage for part in backbone.parts(self.model.size, self.model.frames)]
            if unknown := [stage for stage in self.train.freeze if stage not in stages]:
                raise ValueError(
                    f"train.freeze: this {backbone.kind} has stages {_listed(stages)}; leave out {_listed(unknown)} "
                    f"(got {_listed(self.train.freeze)})"
                )
        return self

    @model_validator(mode="after")
    def _features_are_those_of_the_teacher(self) -> Self:
        distill = self.train.distill
        if distill != "none" and distill.loss == "mars":
            own, taught = self.model.backbone.channels(), distill.teacher.model.backbone.channels()
            if own != taught:
                raise ValueError(
                    f"train.distill.loss: mars compares features, of which the teacher has {taught} and this network "
                    f"{own}; take a network with as many, or kl (got mars)"
                )
        return self

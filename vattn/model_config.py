"""The config of one network."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, Tag, ValidationError, field_validator, model_validator

from vattn.backbones import BackboneConfig
from vattn.base import LATER, WORD_OR_CONFIG, Config, NoneOr, any_of
from vattn.detection.config import DetectorConfig
from vattn.modules import Layer, ModuleConfig, Site
from vattn.sparse import SparseConfig

if TYPE_CHECKING:
    AnyBackbone = BackboneConfig
    AnyModule = ModuleConfig
    AnyDetector = DetectorConfig
else:
    AnyBackbone, AnyModule, AnyDetector = map(any_of, (BackboneConfig, ModuleConfig, DetectorConfig))


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

    detector: Annotated[
        Annotated[Literal["none"], Tag("word")] | Annotated[AnyDetector, Tag("config")], WORD_OR_CONFIG
    ] = Field(
        "none",
        json_schema_extra=LATER,
        description="what finds segments of actions in untrimmed videos with this network (trial.task: detection); or "
        "none",
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
                    f"attention[{i}].stages: this {self.backbone.kind} has stages {listed(stages)}; leave out "
                    f"{listed(unknown)} (got {listed(module.stages)})"
                )
            if module.position not in positions:
                fitting = listed(position for position in positions if position in module.places)
                raise ValueError(
                    f"attention[{i}].position: a block of this {self.backbone.kind} offers {listed(positions)}; "
                    f"{f'take {fitting}' if fitting else f'leave {module.kind} out'} (got {module.position})"
                )
            if module.pathway != "both" and not any(site.pathway for site in self.backbone.sites(self.size)):
                raise ValueError(
                    f"attention[{i}].pathway: {self.backbone.kind} has one pathway, slowfast two; write both "
                    f"(got {module.pathway})"
                )
            for site in module.at(self.backbone.sites(self.size)):
                if site in taken:
                    raise ValueError(
                        f"attention[{i}].stages: a layer can be replaced once, and {site.position} of stage "
                        f"{site.stage} is replaced already; leave the stage out (got {listed(module.stages)})"
                    )
                if isinstance(site, Layer):
                    taken.add(site)
                try:
                    module.check(site, self.backbone.frames_at(site, self.frames))
                except ValueError as error:
                    raise ValueError(f"attention[{i}].{error}") from None
        return self

    @model_validator(mode="after")
    def _detector_fits(self) -> Self:
        if self.detector != "none":
            self.detector.check(self)
        return self

    def without_weights(self) -> Self:
        """Return the same network with a backbone that starts from random weights."""
        return self.model_copy(update={"backbone": self.backbone.model_copy(update={"weights": "none"})})

    def at(self, size: int) -> Self:
        """Return the same network for crops of another ``size``, for the evaluation of weights of this one.

        Raises:
            ValueError: it accepts no such crops, or its weights depend on the size.
        """
        if size == self.size:
            return self
        try:
            other = type(self).model_validate(dict(self) | {"size": size})
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        if other._weights() != self._weights():
            raise ValueError(f"the weights of this network depend on the size of its crops; write auto (got {size})")
        return other

    def _weights(self) -> list[int]:
        """Return the numbers of parameters of all parts."""
        sites = self.backbone.sites(self.size)
        return [part.params for part in self.backbone.parts(self.size, self.frames)] + [
            module.params(site, self.backbone.frames_at(site, self.frames))
            for module in self.attention
            for site in module.at(sites)
        ]


def listed(values: Iterable[object]) -> str:
    """Return values in words, for messages."""
    return ", ".join(map(str, values))

"""The config of one trial: data, model and training. A search space is such a config with ranges in it."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from vattn.backbones import BackboneConfig
from vattn.base import LATER, Config, Kinded, NoneOr
from vattn.data import DataConfig
from vattn.files import at_home
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


class TrainConfig(Config):
    """How one model is trained. Together with the configs of model and data it determines the result of a run."""

    epochs: int = Field(ge=1, le=1_000_000, description="number of passes over the training clips")
    batch: int = Field(ge=1, le=1_000_000, description="clips per step, summed over all workers")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd: SGD with momentum 0.9; adamw: AdamW")
    lr: float = Field(gt=0, description="peak learning rate for `batch`; it is never scaled automatically")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="learning rate over the training; cosine: half a cosine from lr to 0; constant: lr"
    )
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of the optimizer")
    accumulate: int = Field(
        1,
        ge=1,
        description="number of parts into which each worker divides its clips of a step, to keep the activations of "
        "one part at a time; it divides the batch; without batch norm, the step is that of the whole batch",
        json_schema_extra=LATER,
    )
    amp: Literal["none", "bf16", "fp16"] = Field(
        "none",
        description="automatic mixed precision; none: float32, on GPUs with TF32; bf16: autocast to bfloat16; fp16: "
        "autocast to float16, with a loss scale that adapts",
    )
    compile: Literal["none", "default", "reduce-overhead"] = Field(
        "none",
        description="torch.compile; default: fused kernels; reduce-overhead: CUDA graphs too, for small networks; both "
        "change rounding",
        json_schema_extra=LATER,
    )
    deterministic: bool = Field(
        False,
        description="on GPUs, use deterministic kernels where torch has them; slower; CPUs always do",
        json_schema_extra=LATER,
    )
    recompute: Literal["none", "blocks"] = Field(
        "none",
        description="activation checkpointing; blocks: each residual block keeps its input only and is computed again "
        "in the backward pass; activation_mb is the value without it",
    )
    checkpoint_minutes: Annotated[
        Literal["none"] | Annotated[float, Field(gt=0)],
        Field(
            description="minutes between checkpoints within an epoch; none: only at the ends of epochs, see "
            "checkpoint_seconds"
        ),
    ] = 10.0
    checkpoint_seconds: float = Field(
        30.0,
        ge=0,
        description="greatest number of seconds between two checkpoints at the ends of epochs; they follow each other "
        "after 20 times the time that the last one took to write, or after this time, but not before an epoch ends. A "
        "training that is killed repeats the epochs since its last checkpoint",
        json_schema_extra=LATER,
    )
    init: str = Field(
        "scratch",
        description="initial weights; scratch: as configured by backbone.weights and by each mechanism; identity: the "
        "same, but every mechanism that can starts as the identity; or the absolute path of a state dict: layers that "
        "match are loaded, the others start as for identity",
    )
    seed: int = Field(0, ge=0, description="seed of initial weights, order of clips, augmentation and dropout")

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: must divide batch, {self.batch} (got {self.accumulate})")
        return self

    @model_validator(mode="after")
    def _recomputed_blocks_are_not_compiled(self) -> Self:
        if self.compile != "none" and self.recompute != "none":
            raise ValueError(
                f"compile: the blocks of recompute: {self.recompute} cannot be compiled; write none for one of them "
                f"(got {self.compile})"
            )
        return self

    @field_validator("init")
    @classmethod
    def _word_or_absolute_path(cls, init: str) -> str:
        if init not in ("scratch", "identity") and not at_home(init).is_absolute():
            raise ValueError(
                "must be scratch, identity, or the absolute path of a state dict; in a search, search.inherit chooses "
                "one for each trial"
            )
        return init

    def uneven_parts(self, workers: int) -> str:
        """Return the rule that ``accumulate`` breaks with a number of workers; empty if it breaks none."""
        share = self.batch // workers
        return f"must divide a worker's share of train.batch, {share} clips" if share % self.accumulate else ""

    @property
    def weights(self) -> Path | None:
        """The state dict that training starts from, if any."""
        return None if self.init in ("scratch", "identity") else at_home(self.init)


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

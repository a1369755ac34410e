"""The config of one trial: data, model and training. A search space is such a config with ranges in it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from vattn.base import LATER, Config
from vattn.data import DataConfig
from vattn.model_config import HeadConfig, ModelConfig, listed
from vattn.training.recipe.config import TrainConfig
from vattn.training.recipe.distill import AnyData, DistillConfig

__all__ = ["AnyData", "DataConfig", "DistillConfig", "HeadConfig", "ModelConfig", "TrainConfig", "TrialConfig"]


def task_problem(task: str, data: DataConfig, model: ModelConfig, train: TrainConfig) -> str:
    """Return what of these a task cannot have, as "key: rule; way out (got value)"; empty if there is nothing."""
    if task == "classification":
        if model.detector != "none":
            return f"model.detector: finds segments, which is task detection; write that (got {model.detector.kind})"
        if data.is_untrimmed:
            return f"data.kind: has whole videos, which are for task detection; write that (got {data.kind})"
        return ""
    if model.detector == "none":
        return "model.detector: must be rc3d or scnn for task detection (got none)"
    if not data.is_untrimmed:
        return (
            "data: must be whole videos for task detection; take kind segments, motion_untrimmed, or thumos14 with "
            f"untrimmed: true (got {data.kind})"
        )
    augment, views = data.augment, data.views
    others: dict[str, tuple[object, object]] = {
        "data.store.frames": (data.store.frames, "all"), "data.views.clips": (views.clips, 1),
        "data.views.crops": (views.crops, 1), "data.augment.color": (augment.color, 0),
        "data.augment.randaugment": (augment.randaugment, 0), "data.augment.mixup": (augment.mixup, 0),
        "data.augment.cutmix": (augment.cutmix, 0), "train.label_smoothing": (train.label_smoothing, 0),
        "train.balance.sampling": (train.balance.sampling, 0), "train.balance.weights": (train.balance.weights, 0),
        "train.distill": ("none" if train.distill == "none" else "a teacher", "none"),
        "train.compile": (train.compile, "none"),
    }  # fmt: skip
    for path, (value, needed) in others.items():
        if value != needed:
            return f"{path}: task detection does not have it; write {needed} (got {value})"
    return ""


class TrialConfig(Config):
    """Everything that the result of one trial depends on."""

    data: AnyData = Field(description="the data set, how its clips are stored, sampled and augmented")
    model: ModelConfig = Field(description="the network")
    train: TrainConfig = Field(description="the training")
    task: Literal["classification", "detection"] = Field(
        "classification",
        json_schema_extra=LATER,
        description="classification: one label for each clip; detection: segments of actions in untrimmed videos, by "
        "model.detector",
    )

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
    def _parts_fit_the_task(self) -> Self:
        if problem := task_problem(self.task, self.data, self.model, self.train):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _views_fit_the_model(self) -> Self:
        views = self.data.views
        size = views.crop(self.model.size)
        if views.short != "auto" and views.short < size:
            raise ValueError(f"data.views.short: must be at least the side of the crops, {size} (got {views.short})")
        try:
            self.model.at(size)
        except ValueError as error:
            raise ValueError(f"data.views.size: {error}") from None
        return self

    @model_validator(mode="after")
    def _frozen_stages_exist(self) -> Self:
        if self.train.freeze:
            backbone = self.model.backbone
            stages = [part.stage for part in backbone.parts(self.model.size, self.model.frames)]
            if unknown := [stage for stage in self.train.freeze if stage not in stages]:
                raise ValueError(
                    f"train.freeze: this {backbone.kind} has stages {listed(stages)}; leave out {listed(unknown)} "
                    f"(got {listed(self.train.freeze)})"
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

    @model_validator(mode="after")
    def _channels_fit_the_backbone(self) -> Self:
        needed, normalize = self.model.backbone.input_channels, self.data.normalize
        if needed == 2 and self.data.modality != "flow":
            raise ValueError(
                f"model.backbone.inputs: 2 channels are those of optical flow, and data.modality is "
                f"{self.data.modality}; write 3, or modality: flow (got 2)"
            )
        given = 3 if isinstance(normalize, str) else len(normalize.mean)
        if normalize != "auto" and given != needed:
            raise ValueError(
                f"data.normalize: {self.model.backbone.kind} takes {needed} channels; write auto, or mean and std of "
                f"{needed} (got {given})"
            )
        return self

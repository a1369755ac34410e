"""The config of a distillation: a teacher, and the loss by which the student learns from it."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator

from vattn.base import Config, any_of
from vattn.data import DataConfig
from vattn.data.config import AugmentConfig, SamplingConfig, ViewsConfig
from vattn.files import at_home
from vattn.model_config import ModelConfig

if TYPE_CHECKING:
    AnyData = DataConfig
else:
    AnyData = any_of(DataConfig)

#: The weight that ``auto`` stands for, by loss.
WEIGHTS = {"mars": 50.0, "kl": 1.0}


class TeacherConfig(Config):
    """A trained network, and the data that it sees. In a file it is the name of its config file."""

    data: AnyData = Field(
        description="data of the teacher; of optical flow beside colours, they have the same videos as the student's"
    )
    model: ModelConfig = Field(description="the network of the teacher")


class DistillConfig(Config):
    """Distillation: a term of the loss that draws the student to a teacher, which is trained and stays as it is.

    * mars: the mean squared difference of the features before the classifiers, averaged over frames. N. Crasto,
      P. Weinzaepfel, K. Alahari, C. Schmid: "MARS: Motion-Augmented RGB Stream for Action Recognition", CVPR 2019,
      whose code has the weight 50.
    * kl: the squared temperature times the Kullback-Leibler divergence of the student's classes from the teacher's,
      both at that temperature. G. Hinton, O. Vinyals, J. Dean: "Distilling the Knowledge in a Neural Network", 2015,
      arXiv:1503.02531.
    """

    teacher: TeacherConfig = Field(
        description="config of the teacher; in a file also the name of its config file, of which data and model count"
    )
    checkpoint: str = Field(min_length=1, description="weights of the teacher: model.pt of its training")
    digest: str = Field(
        pattern="[0-9a-f]{32}",
        description="hash of the content of the checkpoint; filled in when a file is read. A training with other "
        "weights is another one",
    )
    loss: Literal["mars", "kl"] = Field("mars", description="mars: features; kl: classes, which must be the same")
    weight: Annotated[
        Literal["auto"] | Annotated[float, Field(ge=0)],
        Field(description="weight of the term; that of the labels has 1; auto: 50 for mars, 1 for kl"),
    ] = "auto"
    temperature: float = Field(4.0, gt=0, description="temperature of kl, by which scores are divided")

    @field_validator("checkpoint")
    @classmethod
    def _absolute(cls, checkpoint: str) -> str:
        if not at_home(checkpoint).is_absolute():
            raise ValueError("must be an absolute path, as trainings run in folders of their own")
        return checkpoint

    @property
    def factor(self) -> float:
        """The weight of the term."""
        return WEIGHTS[self.loss] if self.weight == "auto" else self.weight

    def canonical(self) -> Self:
        """Return an equal distillation without places of files, and without options that have no effect."""
        data = self.teacher.data.canonical()
        unused = {"sampling": SamplingConfig(), "views": ViewsConfig(), "augment": AugmentConfig()}
        teacher = self.teacher.model_copy(update={"data": data.model_copy(update=unused)})
        update: dict[str, object] = {"teacher": teacher, "checkpoint": "auto", "weight": self.factor}
        if self.loss == "mars":
            update["temperature"] = 4.0
        return self.model_copy(update=update)

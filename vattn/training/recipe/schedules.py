"""Learning rates over a training: a schedule after a warm-up."""

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from vattn.base import Config, Kinded


class WarmupConfig(Config):
    """A linear rise of the learning rate at the start of the training, to the schedule's rate at its end.

    Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017 (arXiv:1706.02677).
    """

    epochs: float = Field(0.0, ge=0, description="length, epochs; parts of an epoch count by steps; 0: no warm-up")
    start: float = Field(0.1, ge=0, le=1, description="first rate, as a share of that at the end of the warm-up")


class ScheduleConfig(Kinded):
    """The learning rate after the warm-up.

    In a file, the word of a kind stands for that kind with its defaults.
    """

    kind: str
    is_word = True

    def rate(self, lr: float, epoch: float, begin: float, epochs: int) -> float:
        """Return the learning rate.

        Args:
            lr: peak learning rate.
            epoch: number of epochs since the start of the training, with a fraction.
            begin: the same at the end of the warm-up.
            epochs: length of the training.
        """
        raise NotImplementedError

    def check(self, lr: float, begin: float, epochs: int) -> None:
        """Raise ValueError ("option: rule; way out (got value)") if the schedule does not fit the training."""

    def canonical(self, epochs: int) -> "ScheduleConfig":
        """Return an equal schedule of a training of ``epochs`` without options that have no effect."""
        return self


class CosineConfig(ScheduleConfig, kind="cosine"):
    """Half a cosine from the peak rate, at the end of the warm-up, to the floor, at the end of the training.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017 (arXiv:1608.03983),
    without restarts.
    """

    kind: Literal["cosine"] = "cosine"
    floor: float = Field(0.0, ge=0, description="learning rate at the end, in the unit of lr; at most lr")

    def rate(self, lr: float, epoch: float, begin: float, epochs: int) -> float:
        """Return the rate on the cosine."""
        share = (epoch - begin) / (epochs - begin)
        return self.floor + (lr - self.floor) * (1 + math.cos(math.pi * share)) / 2

    def check(self, lr: float, begin: float, epochs: int) -> None:
        """Refuse a floor above the peak."""
        if self.floor > lr:
            raise ValueError(f"floor: must be at most the peak rate; try {lr:g} (got {self.floor:g})")


class ConstantConfig(ScheduleConfig, kind="constant"):
    """The peak rate throughout."""

    kind: Literal["constant"] = "constant"

    def rate(self, lr: float, epoch: float, begin: float, epochs: int) -> float:
        """Return the peak rate."""
        return lr


class StepsConfig(ScheduleConfig, kind="steps"):
    """The peak rate, multiplied by the same factor after each of some epochs. A warm-up does not move them."""

    kind: Literal["steps"] = "steps"
    at: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1,
        description="epochs after which the rate is multiplied by factor, ascending; those at the end or later have no "
        "effect",
    )
    factor: float = Field(0.1, gt=0, lt=1, description="factor of the rate at each of these")

    @field_validator("at")
    @classmethod
    def _ascending(cls, at: tuple[int, ...]) -> tuple[int, ...]:
        if list(at) != sorted(set(at)):
            raise ValueError(f"must ascend; write {', '.join(map(str, sorted(set(at))))}")
        return at

    def rate(self, lr: float, epoch: float, begin: float, epochs: int) -> float:
        """Return the peak rate times the factor for each step so far."""
        return lr * self.factor ** sum(epoch >= at for at in self.at)

    def canonical(self, epochs: int) -> ScheduleConfig:
        """Leave out the steps that the training does not reach."""
        reached = tuple(at for at in self.at if at < epochs)
        return self.model_copy(update={"at": reached}) if reached else ConstantConfig()


class WSDConfig(ScheduleConfig, kind="wsd"):
    """Warm-up, stable, decay: the peak rate, and in the last share of the training a straight line to 0.

    Source: Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies",
    2024 (arXiv:2404.06395); the straight line is that of Hägele et al., "Scaling Laws and Compute-Optimal Training
    Beyond Fixed Training Durations", NeurIPS 2024 (arXiv:2405.18392).
    """

    kind: Literal["wsd"] = "wsd"
    decay: float = Field(0.2, gt=0, le=1, description="share of the epochs in which the rate falls to 0, the last ones")

    def rate(self, lr: float, epoch: float, begin: float, epochs: int) -> float:
        """Return the peak rate, or the rate on the line to 0."""
        return lr * min(1.0, (epochs - epoch) / (self.decay * epochs))

    def check(self, lr: float, begin: float, epochs: int) -> None:
        """Refuse a decay that begins before the end of the warm-up."""
        if begin + self.decay * epochs > epochs * (1 + 1e-9):
            most = 1 - begin / epochs
            raise ValueError(f"decay: begins before the end of warmup; try {most:g} or less (got {self.decay:g})")


def scheduled(schedule: ScheduleConfig, warmup: WarmupConfig, lr: float, epoch: float, epochs: int) -> float:
    """Return the learning rate at ``epoch``, from 0 and with a fraction, of ``epochs``; ``lr`` is the peak rate."""
    begin = warmup.epochs
    if epoch >= begin:
        return schedule.rate(lr, epoch, begin, epochs)
    reached = schedule.rate(lr, begin, begin, epochs)
    return reached * (warmup.start + (1 - warmup.start) * epoch / begin)

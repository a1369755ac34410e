"""ResNeXt: a ResNet whose 3x3 convolutions are grouped.

Source: Xie, Girshick, Dollár, Tu and He, "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017
(arXiv:1611.05431).
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from vattn.backbones.resnet import ResNetConfig


class ResNeXtConfig(ResNetConfig, kind="resnext"):
    """A 2D ResNeXt; the defaults are ResNeXt-50 32x4d. Stages and positions are those of a ResNet with bottlenecks."""

    kind: Literal["resnext"] = "resnext"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[50, 101] = Field(50, description="number of layers")
    cardinality: int = Field(32, ge=1, le=256, description="number of groups of a 3x3 convolution")
    width_per_group: int = Field(
        4, ge=1, le=256, description="channels of one group in stage 2; each later stage has twice as many"
    )

    @property
    def groups(self) -> int:
        """Number of groups of a bottleneck's 3x3 convolution."""
        return self.cardinality

    def planes(self, stage: int) -> int:
        """Return the channels of a stage's 3x3 convolutions; ``width`` scales the channels of a group."""
        return self.cardinality * max(1, round(self.width_per_group * self.width * 2 ** (stage - 2)))

    @property
    def published(self) -> str:
        """Torchvision's name of the model whose weights it publishes."""
        return f"resnext{self.depth}_{self.cardinality}x{self.width_per_group}d"

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        known = ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
        if self.weights == "default" and (self.published not in known or self.width != 1):
            raise ValueError(
                f"weights: default has {', '.join(known)} at width 1; write none, or the path of your own file "
                f"(got {self.published}, width {self.width:g})"
            )
        return self

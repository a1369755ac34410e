"""R3D, MC3 and R(2+1)D, with torchvision's layers; stage 2 is torchvision's layer1.

Source: Tran, Wang, Torresani, Ray, LeCun and Paluri, "A Closer Look at Spatiotemporal Convolutions for Action
Recognition", CVPR 2018 (arXiv:1711.11248).
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from vattn.backbones._base import load_weights
from vattn.backbones._residual import BlockShape
from vattn.backbones.resnet3d import ResNet3D, ResNet3DConfig
from vattn.base import LATER
from vattn.normalization import KINETICS


class R3DConfig(ResNet3DConfig, kind="r3d"):
    """R3D: a 3D ResNet whose stem has a temporal kernel of 3 frames and no pool after it."""

    kind: Literal["r3d"] = "r3d"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[10, 18, 34] = Field(18, description="number of layers; 10 has one block per stage")
    shortcut: Literal["B"] = Field(
        "B", description="shortcut of a block that changes the size or the number of channels: a 1x1x1 convolution"
    )

    first_projection: bool = Field(
        False,
        json_schema_extra=LATER,
        description="a 1x1x1 convolution as the shortcut of the first block of res2 too, as in C3D-v1.1",
    )

    has_published_weights = True
    default_statistics = KINETICS
    stem_frames = 3
    pool = "none"
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^stem\.0\.", "conv1."), (r"^stem\.1\.", "bn1."),
        (r"\.conv(\d)\.0\.", r".conv\1."), (r"\.conv(\d)\.1\.", r".bn\1."),
    )  # fmt: skip

    def projects(self, s: BlockShape) -> bool:
        """Return whether the shortcut of a block is a 1x1x1 convolution."""
        return super().projects(s) or (self.first_projection and (s.stage, s.block) == (2, 0))

    @model_validator(mode="after")
    def _projection_is_not_published(self) -> Self:
        if self.weights == "default" and self.first_projection:
            raise ValueError(
                "first_projection: torchvision publishes no weights of it; write false, or weights: none (got true)"
            )
        return self

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        if self.weights == "default" and (self.depth != 18 or self.width != 1):
            raise ValueError(
                "weights: default has depth 18 at width 1; write none, or the path of your own file "
                f"(got depth {self.depth}, width {self.width:g})"
            )
        return self

    def build(self) -> ResNet3D:
        """Return the network with its initial weights."""
        net = ResNet3D(self)
        load_weights(net, self, f"{self.kind}_18")
        return net


class MC3Config(R3DConfig, kind="mc3"):
    """MC3: R3D whose stages 3 to 5 have 2D convolutions, frame by frame; no stage reduces the number of frames."""

    kind: Literal["mc3"] = "mc3"  # pyright: ignore[reportIncompatibleVariableOverride]

    def cube_frames(self, stage: int) -> int:
        """Return the temporal kernel size of a stage's convolutions: 3 frames in res2, and 1 after it."""
        return 3 if stage == 2 else 1


class R2Plus1DConfig(R3DConfig, kind="r2plus1d"):
    """R(2+1)D: R3D with a spatial convolution, norm, ReLU and temporal convolution in place of each 3D convolution."""

    kind: Literal["r2plus1d"] = "r2plus1d"  # pyright: ignore[reportIncompatibleVariableOverride]

    factorized = True
    authors_network = (
        (r"^stem\.([01])\.", r"conv1.\1."), (r"^stem\.3\.", "conv1.3."), (r"^stem\.4\.", "bn1."),
        (r"\.conv(\d)\.1\.", r".bn\1."), (r"\.conv(\d)\.0\.(\d)\.", r".conv\1.\2."),
    )  # fmt: skip

"""R(2+1)D in the form of Hara's code: a 3D ResNet, each of whose convolutions is a spatial and a temporal one.

Source: Kataoka, Wakamiya, Hara and Satoh, "Would Mega-scale Datasets Further Enhance Spatiotemporal 3D CNNs?", 2020
(arXiv:2004.04968). The network is that of Tran et al., see `vattn.backbones.r3d`.
"""

from typing import ClassVar, Literal

from pydantic import Field

from vattn.backbones._residual import BlockShape
from vattn.backbones.resnet3d import ResNet3DConfig, middle_channels


class ResNet2Plus1DConfig(ResNet3DConfig, kind="resnet2plus1d"):
    """A 3D ResNet whose 3x3x3 convolutions, and the one of the stem, are a spatial and a temporal convolution.

    It differs from ``r2plus1d``, torchvision's, in the stem (7 frames, and a pool that halves the number of frames) and
    in the channels between the convolutions of a block, which are here chosen for each 3x3x3 convolution on its own.
    """

    kind: Literal["resnet2plus1d"] = "resnet2plus1d"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[10, 14, 18, 34, 50, 101, 152] = Field(
        18,
        description="number of layers: 10, 18 and 34 have basic blocks, the others bottlenecks; 10 and 14 have one "
        "block per stage",
    )

    factorized = True
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"(^|\.)conv(\d)_s\.", r"\1conv\2.0."), (r"(^|\.)bn(\d)_s\.", r"\1conv\2.1."),
        (r"(^|\.)conv(\d)_t\.", r"\1conv\2.3."), (r"(^|\.)bn(\d)_t\.", r"\1bn\2."),
    )  # fmt: skip

    def middle(self, s: BlockShape, inputs: int, outputs: int) -> int:
        """Return the channels between both convolutions, which have as many weights as one of 3x3x3."""
        return middle_channels(inputs, outputs)

    def stem_middle(self) -> int:
        """Return the channels between the convolutions of the stem, by the same rule for 7 x 7 x 7 and 3 colours."""
        base, frames = self.base(2), self.stem_frames
        return 3 * base * frames * 49 // (3 * 49 + frames * base)

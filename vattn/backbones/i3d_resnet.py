"""I3D: a 2D ResNet inflated to 3D.

Source: Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017
(arXiv:1705.07750).
"""

from typing import Literal, Self

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from vattn.backbones._base import load_weights
from vattn.backbones._residual import check_resnet_weights
from vattn.backbones.resnet3d import ResNet3D, ResNet3DConfig
from vattn.base import LATER
from vattn.errors import UserError
from vattn.weights.families import Recognised


class I3DResNetConfig(ResNet3DConfig, kind="i3d_resnet"):
    """A 2D ResNet whose square kernels are inflated to 3 frames. Only stages 3 to 5 halve the number of frames.

    ``weights`` are those of the 2D network: default (torchvision's) or a file. Each 2D kernel is repeated 3 times over
    time and divided by 3. With ``padding: repeat``, the output for a still video is therefore the output of the 2D
    network for its frame, at the ends of the clip too.
    """

    kind: Literal["i3d_resnet"] = "i3d_resnet"  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Literal[10, 14, 18, 34, 50, 101] = Field(
        18,
        description="number of layers: 10, 18 and 34 have basic blocks, the others bottlenecks; 10 and 14 have one "
        "block per stage",
    )
    shortcut: Literal["B"] = Field(
        "B", description="shortcut of a block that changes the size or the number of channels: a 1x1x1 convolution"
    )
    padding: Literal["repeat", "zeros"] = Field(
        "repeat",
        json_schema_extra=LATER,
        description="frames before the first and after the last one in convolutions; repeat: copies of these; zeros: "
        "as in published I3D, whose weights need it",
    )

    has_published_weights = True
    stem_frames = 3
    pool = "frame"

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        check_resnet_weights(self.weights, self.depth, self.width)
        return self

    @property
    def repeats_frames(self) -> bool:
        """Convolutions pad in time by repeating the first and the last frame, not with zeros."""
        return self.padding == "repeat"

    def check_published(self, recognised: Recognised) -> None:
        """Refuse 3D kernels of others where frames are repeated: other I3D pad with zeros."""
        inflated = any(v.ndim == 5 and v.shape[2] > 1 for v in recognised.checkpoint.state.values())
        if inflated and self.repeats_frames and not recognised.family.own:
            raise UserError(
                f"{recognised.checkpoint.file} holds an inflated network, and published ones pad with frames of zeros",
                way_out="write padding: zeros in model.backbone",
                found="padding: repeat",
            )

    def build(self) -> ResNet3D:
        """Return the network with its initial weights."""
        net = ResNet3D(self)
        own = net.state_dict()

        def inflate(state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: _inflated(value, own[name].shape[2]) if name in own and value.ndim == 4 else value
                for name, value in state.items()
            }

        load_weights(net, self, f"resnet{self.depth}", adapt=inflate)
        return net


def _inflated(kernel: Float[Tensor, "o i h w"], frames: int) -> Float[Tensor, "o i t h w"]:
    """Return a kernel over ``frames`` frames whose output for a still video is that of ``kernel`` for its frame."""
    return (kernel / frames).unsqueeze(2).repeat(1, 1, frames, 1, 1)

"""C3D: eight 3x3x3 convolutions and two fully connected layers.

Source: Tran, Bourdev, Fergus, Torresani and Paluri, "Learning Spatiotemporal Features with 3D Convolutional Networks",
ICCV 2015 (arXiv:1412.0767).
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import ClassVar, Literal, NamedTuple

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vattn.backbones._base import Backbone, BackboneConfig, Part, init_3d_convolutions, load_weights, slots
from vattn.modules._base import Position, Site

#: The convolutions of each stage, by the authors' names.
_NAMES = {1: ("conv1",), 2: ("conv2",), 3: ("conv3a", "conv3b"), 4: ("conv4a", "conv4b"), 5: ("conv5a", "conv5b")}
#: Input side of the first fully connected layer, in pixels: 16 frames of 112 pixels are reduced to 1 frame of 4 pixels.
_FC_SIDE = 4


class C3DConfig(BackboneConfig, kind="c3d"):
    """C3D. Stage n is the authors' conv n; each stage has one block.

    The input of the fully connected layers is one frame of 4 x 4 pixels, to which the pools reduce 16 frames of 112
    pixels. For other clips an adaptive average pool gives this size.
    """

    kind: Literal["c3d"] = "c3d"
    width: float = Field(
        1.0, gt=0, le=8, description="factor on the channels of every layer, rounded to multiples of 8"
    )
    dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="probability of dropout after the first fully connected layer; the head has its own",
    )

    folds: ClassVar[bool] = False
    has_published_weights: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    keeps_features: ClassVar[bool] = True
    detects: ClassVar[bool] = True
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = ((r"^fc8\.", "fc."),)

    def stages(self) -> tuple[int, ...]:
        """Return stages 1 to 5, which are conv1 to conv5."""
        return (1, 2, 3, 4, 5)

    def positions(self) -> tuple[Position, ...]:
        """Return three positions: before a stage (a), after its first ReLU (b), after its last ReLU (d)."""
        return ("a", "b", "d")

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return three sites per stage; where a stage has one convolution, b and d are the same place."""
        return _sites(self, size)

    def check(self, size: int, frames: int) -> None:
        """Refuse clips that are too small for the pools."""
        for name, value in ("frames", frames), ("size", size):
            if value < 16:
                raise ValueError(f"{name}: c3d halves a clip four times; take at least 16 (got {value})")

    def frames_at(self, site: Site, frames: int) -> int:
        """Return the number of frames at a site: each stage after the second halves it, rounded down."""
        return frames // 2 ** max(0, site.stage - 2)

    def planes(self, stage: int) -> int:
        """Return the number of channels of a stage's convolutions."""
        return 8 * max(1, round(min(512, 32 * 2**stage) * self.width / 8))

    def channels(self) -> int:
        """Return the length of the feature vector."""
        return 8 * max(1, round(4096 * self.width / 8))

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of conv1 to conv5; the fully connected layers belong to the last."""
        parts = []
        for stage in self.stages():
            macs = params = 0
            # The clip.
            kept = 3 * frames * size**2 if stage == 1 else 0
            for s in (s for s in _shapes(self, size) if s.stage == stage):
                places = frames // 2 ** max(0, stage - 2) * s.side**2
                macs += 27 * s.inputs * s.outputs * places
                params += (27 * s.inputs + 1) * s.outputs
                kept += s.outputs * places
            # The pool's output and its indices.
            kept += 2 * self.planes(stage) * _pooled(stage, frames, size)
            if stage == 5:
                wide, inputs = self.channels(), self.planes(5) * _FC_SIDE**2
                macs += wide * (inputs + wide)
                params += wide * (inputs + 1 + wide + 1)
                # Input and output of each layer, and the dropout mask.
                kept += inputs + wide * (4 if self.dropout else 2)
            parts.append(Part(stage, macs, params, kept))
        return tuple(parts)

    def shared_stages(self) -> tuple[int, ...]:
        """Return all stages: regions share the maps before the last pool."""
        return self.stages()

    def shared_part(self, size: int, frames: int) -> tuple[Part, int, int, int]:
        """Return the cost without last pool and fully connected layers, and the shape of the maps of conv5."""
        *parts, last = self.parts(size, frames)
        wide, inputs = self.channels(), self.planes(5) * _FC_SIDE**2
        macs, params = wide * (inputs + wide), wide * (inputs + 1 + wide + 1)
        kept = 2 * self.planes(5) * _pooled(5, frames, size) + inputs + wide * (4 if self.dropout else 2)
        last = Part(5, last.macs - macs, last.params - params, last.activations - kept)
        return Part.sum_of([*parts, last]), self.planes(5), frames // 8, size // 16

    def region_part(self, cells: tuple[int, int, int], twice: bool) -> Part:
        """Return the cost of the first fully connected layer, or of both."""
        wide, inputs = self.channels(), self.planes(5) * cells[0] * cells[1] * cells[2]
        layers = [inputs, wide][: 1 + twice]
        return Part(0, wide * sum(layers), wide * (sum(layers) + len(layers)), sum(layers) + wide)

    def build(self) -> "C3D":
        """Return the network with its initial weights."""
        net = C3D(self)
        load_weights(net, self)
        return net


class _Shape(NamedTuple):
    """The shape of one convolution: input and output channels, side in pixels."""

    stage: int
    name: str
    inputs: int
    outputs: int
    side: int


def _shapes(config: C3DConfig, size: int) -> Iterator[_Shape]:
    inputs = 3
    for stage, names in _NAMES.items():
        for name in names:
            yield _Shape(stage, name, inputs, config.planes(stage), size // 2 ** (stage - 1))
            inputs = config.planes(stage)


def _pooled(stage: int, frames: int, size: int) -> int:
    """Return the number of places (frames x pixels) at the output of a stage's pool."""
    if stage < 5:
        return frames // 2 ** (stage - 1) * (size // 2**stage) ** 2
    # The last pool pads by one pixel.
    return frames // 16 * (size // 16 // 2 + 1) ** 2


@cache
def _sites(config: C3DConfig, size: int) -> tuple[Site, ...]:
    first = {s.stage: s for s in reversed(list(_shapes(config, size)))}
    return tuple(
        Site(stage, 0, position, s.inputs if position == "a" else s.outputs, s.side, s.side)
        for stage, s in sorted(first.items()) for position in config.positions()
    )  # fmt: skip


class C3D(Backbone):
    """Five stages of convolutions with bias and ReLU, each followed by a pool, and two fully connected layers.

    Shape: (N, 3, T, H, W) -> (N, channels).
    """

    def __init__(self, config: C3DConfig) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        for s in _shapes(config, size=112):
            self.add_module(s.name, nn.Conv3d(s.inputs, s.outputs, 3, padding=1))
        self.pool1 = nn.MaxPool3d((1, 2, 2))
        self.pool2, self.pool3, self.pool4 = nn.MaxPool3d(2), nn.MaxPool3d(2), nn.MaxPool3d(2)
        self.pool5 = nn.MaxPool3d(2, padding=(0, 1, 1))
        self.mean = nn.AdaptiveAvgPool2d(_FC_SIDE)
        self.channels = config.channels()
        self.fc6 = nn.Linear(config.planes(5) * _FC_SIDE**2, self.channels)
        self.dropout = nn.Dropout(config.dropout)
        self.fc7 = nn.Linear(self.channels, self.channels)
        init_3d_convolutions(self)
        self.at = slots(f"{stage}{position}" for stage in config.stages() for position in config.positions())

    def forward(self, images: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n c"]:
        x = self.pool5(self.shared(images))
        # Each frame is pooled, then their mean is taken: ONNX has no such pool over three dimensions.
        x = self.mean(x.flatten(1, 2)).unflatten(1, x.shape[1:3]).mean(2)
        x = self.dropout(self.relu(self.fc6(x.flatten(1))))
        return self.relu(self.fc7(x))

    def shared(self, clips: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n c s i j"]:
        x = clips
        for stage in _NAMES:
            x = self.run_stage(x, stage)
        return x

    def run_stage(self, x: Tensor, stage: int) -> Tensor:
        """Return the maps after a stage, and after its pool if it is not the last."""
        x = self.at[f"{stage}a"](x)
        for i, name in enumerate(_NAMES[stage]):
            x = self.relu(self.get_submodule(name)(x))
            if i == 0:
                x = self.at[f"{stage}b"](x)
        x = self.at[f"{stage}d"](x)
        return x if stage == 5 else self.get_submodule(f"pool{stage}")(x)

    def of_regions(self, cells: Float[Tensor, "n c s i j"], twice: bool) -> Float[Tensor, "n d"]:
        x = self.relu(self.fc6(cells.flatten(1)))
        return self.relu(self.fc7(x)) if twice else x

    def stage_of(self, name: str) -> int:
        """Return the stage of a module or parameter; the fully connected layers belong to the last."""
        stage = re.match(r"(?:conv|at\.)(\d)", name)
        return int(stage[1]) if stage else 5

    def insert(self, site: Site, module: nn.Module) -> None:
        """Put ``module`` at ``site``, after the modules that are already there."""
        sequence = self.at[f"{site.stage}{site.position}"]
        assert isinstance(sequence, nn.Sequential)
        sequence.append(module)

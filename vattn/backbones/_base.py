"""The interface of a backbone: the sites that it offers to mechanisms, its weights, and its cost."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vattn.base import Kinded
from vattn.errors import UserError
from vattn.files import at_home
from vattn.modules._base import Layer, Position, Site
from vattn.normalization import FLOW, IMAGENET, Statistics
from vattn.weights.families import Recognised, recognise
from vattn.weights.files import Checkpoint, read_checkpoint
from vattn.weights.fitting import to_backbone
from vattn.weights.state import Fit

#: The positions that are not layers.
POSITIONS: tuple[Position, ...] = ("block", "a", "b", "c", "d")


class Part(NamedTuple):
    """The cost of one stage, without mechanisms: numbers of multiply-accumulates, parameters and activation values.

    Stage 1 is the stem.
    """

    stage: int
    macs: int
    params: int
    activations: int

    @classmethod
    def sum_of(cls, parts: "Iterable[Part]") -> Self:
        """Return the cost of several stages, as that of the last one."""
        stages, *costs = zip(*parts, strict=True)
        return cls(stages[-1], *map(sum, costs))

    def of_images(self, count: int) -> Self:
        """Return the cost for ``count`` images, where this is the cost for one."""
        return self._replace(macs=self.macs * count, activations=self.activations * count)


class Backbone(nn.Module):
    """A network without a classifier, with slots for mechanisms.

    Shape: a network of 2D convolutions maps images (N*T, 3, H, W) to features (N*T, ``channels``). A network of 3D
    convolutions (``BackboneConfig.folds`` is False) maps clips (N, 3, T, H, W) to features (N, ``channels``). Networks
    of optical flow have 2 channels in the place of 3 (``BackboneConfig.input_channels``).
    """

    channels: int
    #: The global average pool that gives the features of `maps`, where `BackboneConfig.averages`.
    avgpool: nn.Module

    def __init__(self) -> None:
        super().__init__()
        #: the mechanisms that `vattn.insert.insert` has inserted
        self.mechanisms: list[nn.Module] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.features_of(self.maps(images))

    def maps(self, images: Tensor) -> Tensor:
        """Return the feature maps whose averages are the features, where `BackboneConfig.averages`."""
        raise NotImplementedError

    def features_of(self, maps: Tensor) -> Tensor:
        """Return the features: the averages of ``maps``."""
        return self.avgpool(maps).flatten(1)

    def shared(self, clips: Tensor) -> Tensor:
        """Return the maps that the regions of a detector share, where `BackboneConfig.detects`."""
        raise NotImplementedError

    def of_regions(self, cells: Tensor, twice: bool) -> Tensor:
        """Return the features (R, features) of regions whose maps are pooled to ``cells``, (R, C, 4, 2, 2) or alike.

        ``twice``: by two fully connected layers, where the backbone has them, otherwise by one.
        """
        raise NotImplementedError

    def layer(self, site: Layer) -> nn.Module:
        """Return the convolution that is at ``site``."""
        raise NotImplementedError

    def block(self, site: Site) -> nn.Module:
        """Return the block that contains ``site``. The block's attribute ``at`` holds its `slots`."""
        return self.get_submodule(f"layer{site.stage - 1}.{site.block}")

    def insert(self, site: Site, module: nn.Module) -> None:
        """Put ``module`` at ``site``: after the modules that are already there, or in place of the layer there."""
        sequence = self.block(site).get_submodule(f"at.{site.position}")
        assert isinstance(sequence, nn.Sequential)
        sequence.append(module)

    def stage_of(self, name: str) -> int:
        """Return the stage of the module or parameter ``name``; 1 is the stem. Unless overridden, layer1 is stage 2."""
        layer = re.match(r"layer(\d)(\.|$)", name)
        return int(layer[1]) + 1 if layer else 1

    def first_convolutions(self) -> list[nn.Module]:
        """Return the convolutions whose input is the pixels."""
        return [next(m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))]


def slots(positions: Iterable[str] = POSITIONS) -> nn.ModuleDict:
    """Return one slot for mechanisms per position.

    An empty slot returns its input and has no entry in the state dict.
    """
    return nn.ModuleDict({position: nn.Sequential() for position in positions})


class BackboneConfig(Kinded):
    """The config of one backbone: its architecture and its initial weights."""

    kind: str
    weights: Literal["none", "default"] | str = Field(
        "none",
        description="initial weights: none (random), default (those that torchvision publishes), or the path of a file "
        "of a training here, or published with the names of torchvision, its authors, MMAction2 or PySlowFast",
    )

    #: Torchvision publishes weights for at least some sizes of it.
    has_published_weights: ClassVar[bool] = True
    #: It runs on single images, with the frames folded into the batch.
    folds: ClassVar[bool] = True
    #: Its features are the average of feature maps, so that each class has a response map too.
    averages: ClassVar[bool] = True
    #: Autograd keeps its features in any case: they are the output of an activation function or of dropout.
    keeps_features: ClassVar[bool] = False
    #: Number of successive frames that it reads for each of a clip's T segments. It gives one feature per segment.
    frames_per_segment: ClassVar[int] = 1
    #: It can be the base of a detector of regions: `Backbone.shared` and `Backbone.of_regions` exist.
    detects: ClassVar[bool] = False
    #: As for mechanisms: regular expressions from the names in the authors' network to the names in this package.
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: What ``weights: default`` expect of pixels.
    default_statistics: ClassVar[Statistics] = IMAGENET

    @model_validator(mode="after")
    def _any_weights_exist(self) -> Self:
        if self.weights == "default" and not self.has_published_weights:
            raise ValueError(
                f"weights: torchvision publishes none of {self.kind}; write none, or the path of a state dict "
                "(got default)"
            )
        return self

    @property
    def weights_file(self) -> Path | None:
        """The file of its initial weights, if they are in one."""
        return None if self.weights in ("none", "default") else at_home(self.weights)

    @property
    def input_channels(self) -> int:
        """Number of channels of a frame: 3 colours, or 2 directions of optical flow."""
        return 3

    def statistics(self) -> Statistics:
        """Return how pixels are normalised, unless the weights in a file say otherwise."""
        if self.input_channels == 2:
            return FLOW
        return self.default_statistics if self.weights == "default" else IMAGENET

    def check_published(self, recognised: Recognised) -> None:
        """Raise UserError if published weights have the names of this network, but it would compute another result."""

    def stages(self) -> Sequence[int]:
        """Return the numbers of the stages. Unless overridden, they are those of a ResNet.

        A mechanism in a stage without blocks has no site there.
        """
        return (2, 3, 4, 5)

    def positions(self) -> Sequence[Position]:
        """Return the positions that each block offers. Unless overridden, they are all that are not layers."""
        return POSITIONS

    def sites(self, size: int) -> tuple[Site, ...]:
        """Return all sites for images of ``size`` x ``size`` pixels, in the order of the forward pass."""
        raise NotImplementedError

    def check(self, size: int, frames: int) -> None:
        """Check that the backbone accepts clips of ``frames`` frames of ``size`` x ``size`` pixels.

        Raises:
            ValueError: it does not; the message is "option: rule; way out (got value)".
        """

    def frames_at(self, site: Site, frames: int) -> int:
        """Return the number of frames at a site for clips of ``frames``; temporal strides reduce it."""
        return frames

    def channels(self) -> int:
        """Return the length of the feature vector."""
        raise NotImplementedError

    def shared_stages(self) -> Sequence[int]:
        """Return the stages of `Backbone.shared`; those after it see single regions of a detector."""
        raise NotImplementedError

    def shared_part(self, size: int, frames: int) -> tuple[Part, int, int, int]:
        """Return what `Backbone.shared` has at its end: (all of its cost, channels, frames, side in pixels)."""
        raise NotImplementedError

    def region_part(self, cells: tuple[int, int, int], twice: bool) -> Part:
        """Return the cost of `Backbone.of_regions` for one region of ``cells`` (frames, height, width)."""
        raise NotImplementedError

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Return the cost of one clip by stage, without mechanisms and classifier.

        ``activations`` is the number of values that autograd keeps in training, each counted once: inputs of
        convolutions, norms and pools, and outputs of ReLUs. It excludes what does not grow with the batch (weights,
        statistics).
        """
        raise NotImplementedError

    def build(self) -> Backbone:
        """Return the network with its initial weights.

        Raises:
            UserError: the weights cannot be read or fetched, or do not fit.
        """
        raise NotImplementedError


class Conv(NamedTuple):
    """A 2D convolution followed by a batch norm, on square features."""

    inputs: int  # input channels of one output channel: those of its group
    outputs: int  # output channels
    taps: int  # height x width of the kernel
    side: int  # of the output, pixels


def part_of(stage: int, convs: Iterable[Conv], kept: int = 0) -> Part:
    """Return the cost for one image of a stage of convolutions without bias, each followed by a batch norm.

    Autograd keeps the input of each norm. It also keeps the output of the norm or of the activation function after it,
    because that function or the next convolution needs it. ``kept`` is the number of further values that are kept.
    """
    convs = tuple(convs)
    return Part(
        stage,
        macs=sum(c.inputs * c.outputs * c.taps * c.side**2 for c in convs),
        params=sum(c.inputs * c.outputs * c.taps + 2 * c.outputs for c in convs),
        activations=kept + sum(2 * c.outputs * c.side**2 for c in convs),
    )


class Conv3(NamedTuple):
    """A 3D convolution followed by a batch norm."""

    inputs: int  # input channels of one output channel: those of its group
    outputs: int  # output channels
    taps: int  # frames x height x width of the kernel
    places: int  # frames x height x width of the output


def part_of_clip(stage: int, convs: Iterable[Conv3], shortcuts: Iterable[Conv3] = (), kept: int = 0) -> Part:
    """Return the cost for one clip of a stage of 3D convolutions without bias, each followed by a batch norm.

    Autograd keeps the same values as in `part_of`, but a shortcut's norm has no activation function after it. ``kept``
    is the number of further values that are kept.
    """
    convs, shortcuts = tuple(convs), tuple(shortcuts)
    return Part(
        stage,
        macs=sum(c.inputs * c.outputs * c.taps * c.places for c in convs + shortcuts),
        params=sum(c.inputs * c.outputs * c.taps + 2 * c.outputs for c in convs + shortcuts),
        activations=kept + sum(2 * c.outputs * c.places for c in convs) + sum(c.outputs * c.places for c in shortcuts),
    )


def init_3d_convolutions(net: nn.Module) -> None:
    """Initialise the weights of all 3D convolutions by He initialisation, with the fan of the outputs.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
    Classification", ICCV 2015 (arXiv:1502.01852).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def conv_out(size: int, kernel: int, stride: int) -> int:
    """Return the output side, in pixels, of a convolution or pool that pads by ``kernel // 2``."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def load_weights(
    net: nn.Module,
    config: BackboneConfig,
    published: str = "",
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Load the initial weights ``config.weights`` into ``net``: all of its entries, under whatever names.

    Args:
        net: the backbone to load into.
        config: its config; ``weights`` is none (load nothing), default (torchvision's of ``published``), or a file.
        published: torchvision's name of the model.
        adapt: maps entries with the names of ``net`` to its shapes.

    Raises:
        UserError: the weights cannot be read or fetched, or do not fit.
    """
    if config.weights == "none":
        return
    checkpoint = _published(published) if config.weights == "default" else _read(config.weights)
    try:
        recognised = recognise(checkpoint)
        config.check_published(recognised)
        state = adapt(to_backbone(recognised, config.authors_network, net.state_dict()))
    except UserError as error:
        raise UserError(str(error), path="weights") from error
    if not (fit := Fit.of(state, net.state_dict())):
        raise UserError(
            f"{config.weights} does not fit this backbone: {fit}",
            path="weights",
            way_out=f"its names are those of {recognised.family.name}",
        )
    net.load_state_dict(state, strict=False)


def _read(file: str) -> Checkpoint:
    try:
        return read_checkpoint(at_home(file))
    except UserError as error:
        raise UserError(
            str(error), path="weights", way_out="write none, default, or the path of a state dict"
        ) from error


def _published(published: str) -> Checkpoint:
    from torchvision.models import get_model_weights  # takes a second to import, and only default weights need it

    default = get_model_weights(published)["DEFAULT"]
    file = Path(torch.hub.get_dir()) / "checkpoints" / default.url.rpartition("/")[2]
    if file.is_file():
        return _read(str(file))
    try:
        with redirect_stdout(sys.stderr):  # torch prints the address that it downloads from
            return Checkpoint(file, dict(default.get_state_dict(progress=False, check_hash=True, weights_only=True)))
    except (OSError, RuntimeError) as error:  # no network, or the hash of the downloaded file is wrong
        raise UserError(
            f"default needs {default.url}, which cannot be fetched ({error})",
            path="weights",
            way_out=f"fetch it on another machine and put it at {file}, or write none",
        ) from error

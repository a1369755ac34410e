"""What every backbone is: the sites it declares, its weights, and what it costs."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from vattn.base import Kinded
from vattn.modules._base import Layer, Position, Site
from vattn.weights import Fit, read_state

#: Those that are not layers.
POSITIONS: tuple[Position, ...] = ("block", "a", "b", "c", "d")


class Part(NamedTuple):
    """What one stage costs; stage 1 is the stem."""

    stage: int
    macs: int
    params: int
    activations: int

    def of_images(self, count: int) -> Self:
        """Return what it costs for ``count`` images, where this is the cost of one."""
        return self._replace(macs=self.macs * count, activations=self.activations * count)


class Backbone(nn.Module):
    """A network from images (N*T, 3, H, W) to features (N*T, ``channels``), with places for mechanisms.

    One of 3D convolutions (``BackboneConfig.folds`` is False) takes clips (N, 3, T, H, W) and gives (N, ``channels``).
    """

    channels: int
    #: The average whose result is the features, where `BackboneConfig.averages`: what it takes are maps of them.
    avgpool: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def layer(self, site: Layer) -> nn.Module:
        """Return the convolution that holds the place at ``site``."""
        raise NotImplementedError

    def block(self, site: Site) -> nn.Module:
        """Return the block that ``site`` is in; its `slots` are its ``at``."""
        return self.get_submodule(f"layer{site.stage - 1}.{site.block}")

    def insert(self, site: Site, module: nn.Module) -> None:
        """Put ``module`` at ``site``, behind what already stands there, or in the place of the layer there."""
        sequence = self.block(site).get_submodule(f"at.{site.position}")
        assert isinstance(sequence, nn.Sequential)
        sequence.append(module)


def slots(positions: Iterable[str] = POSITIONS) -> nn.ModuleDict:
    """Return a slot for mechanisms for each position.

    Empty ones pass their input through and have no entry in the state dict.
    """
    return nn.ModuleDict({position: nn.Sequential() for position in positions})


class BackboneConfig(Kinded):
    """One backbone. ``weights``: none, default (torchvision's), or a file with torchvision's state-dict names."""

    kind: str
    weights: Literal["none", "default"] | str = "none"

    #: Torchvision publishes weights of it, of some sizes at least.
    has_published_weights: ClassVar[bool] = True
    #: It runs on single images, with the frames folded into the batch.
    folds: ClassVar[bool] = True
    #: Its features are averages of maps, so that a class has a map of responses too.
    averages: ClassVar[bool] = True
    #: Autograd keeps its features in any case: they come right out of an activation or dropout.
    keeps_features: ClassVar[bool] = False
    #: Successive frames that it takes for each one of a clip's T; what it gives is for the T.
    frames_per_segment: ClassVar[int] = 1
    #: As of mechanisms: regular expressions from the names in the authors' network to ours.
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = ()

    @model_validator(mode="after")
    def _any_weights_exist(self) -> Self:
        if self.weights == "default" and not self.has_published_weights:
            raise ValueError(
                f"weights: torchvision publishes none of {self.kind}; write none, or the path of a state dict "
                "(got default)"
            )
        return self

    def stages(self) -> Sequence[int]:
        """Numbers of the stages: those of a ResNet, unless it says otherwise.

        A stage that has no block leaves its mechanisms without a site.
        """
        return (2, 3, 4, 5)

    def positions(self) -> Sequence[Position]:
        """Positions that each block offers: all that are not layers, unless it says otherwise."""
        return POSITIONS

    def sites(self, size: int) -> tuple[Site, ...]:
        """All sites for images of ``size`` x ``size`` pixels, in the order in which data meets them."""
        raise NotImplementedError

    def check(self, size: int, frames: int) -> None:
        """Raise ValueError ("option: rule; way out (got value)") where it cannot take such clips."""

    def frames_at(self, site: Site, frames: int) -> int:
        """Length of the features at a site for clips of ``frames``; a network with temporal strides shortens them."""
        return frames

    def channels(self) -> int:
        """Length of the feature vector."""
        raise NotImplementedError

    def parts(self, size: int, frames: int) -> tuple[Part, ...]:
        """Cost of one clip, stage by stage, without mechanisms and classifier.

        ``activations`` are the values that autograd keeps in training, once each: inputs of convolutions, norms and
        pools, and outputs of ReLUs. What does not grow with the batch (weights, statistics) is not among them.
        """
        raise NotImplementedError

    def build(self) -> Backbone:
        """Return the network with its weights; raises ValueError where they cannot be had."""
        raise NotImplementedError


class Conv(NamedTuple):
    """A convolution with a norm behind it, on square features."""

    inputs: int  # those that one output sees: of its group
    outputs: int
    taps: int  # height x width of the kernel
    side: int  # of what it gives, pixels


def part_of(stage: int, convs: Iterable[Conv], kept: int = 0) -> Part:
    """Return the cost for one image of a stage of convolutions without bias, each with its norm.

    Each norm keeps its input; what the norm or the activation function behind it gives is kept too, by that function
    or by the next convolution. ``kept`` is what else the stage keeps.
    """
    convs = tuple(convs)
    return Part(
        stage,
        macs=sum(c.inputs * c.outputs * c.taps * c.side**2 for c in convs),
        params=sum(c.inputs * c.outputs * c.taps + 2 * c.outputs for c in convs),
        activations=kept + sum(2 * c.outputs * c.side**2 for c in convs),
    )


class Conv3(NamedTuple):
    """A 3D convolution with a norm behind it."""

    inputs: int  # those that one output sees: of its group
    outputs: int
    taps: int  # of the kernel: frames x height x width
    places: int  # of what it gives: frames x height x width


def part_of_clip(stage: int, convs: Iterable[Conv3], shortcuts: Iterable[Conv3] = (), kept: int = 0) -> Part:
    """Return the cost for one clip of a stage of 3D convolutions without bias, each with its norm.

    What is kept is as in `part_of`; behind a shortcut's norm there is no activation function. ``kept`` is what else the
    stage keeps.
    """
    convs, shortcuts = tuple(convs), tuple(shortcuts)
    return Part(
        stage,
        macs=sum(c.inputs * c.outputs * c.taps * c.places for c in convs + shortcuts),
        params=sum(c.inputs * c.outputs * c.taps + 2 * c.outputs for c in convs + shortcuts),
        activations=kept + sum(2 * c.outputs * c.places for c in convs) + sum(c.outputs * c.places for c in shortcuts),
    )


def start_from_scratch(net: nn.Module) -> None:
    """Draw the weights of all 3D convolutions as He et al. do (ICCV 2015, arXiv:1502.01852), by their outputs."""
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def conv_out(size: int, kernel: int, stride: int) -> int:
    """Return the side of what a convolution or pool gives that pads by ``kernel // 2``, in pixels."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def load_weights(
    net: nn.Module,
    weights: str,
    published: str,
    classifier: str | tuple[str, ...],
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Load ``weights`` into ``net``: none, default (torchvision's for its model ``published``), or a file.

    Entries whose names start with ``classifier`` are left out; ``adapt`` makes the others the network's own. Raises
    ValueError where the weights cannot be had or do not fit.
    """
    if weights == "none":
        return
    state = _published_state(published) if weights == "default" else _state_in(weights)
    state = adapt({name: value for name, value in state.items() if not name.startswith(classifier)})
    fit = Fit.of(state, net.state_dict())
    if not fit:
        raise ValueError(f"weights: {weights} does not fit this backbone: {fit}")
    net.load_state_dict(state, strict=False)


def _state_in(file: str) -> dict[str, Tensor]:
    try:
        return read_state(Path(file))
    except ValueError as error:
        raise ValueError(f"weights: {error}; write none, default, or the path of a state dict") from error


def _published_state(published: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights  # takes a second to import, and only default weights need it

    default = get_model_weights(published)["DEFAULT"]
    file = Path(torch.hub.get_dir()) / "checkpoints" / default.url.rpartition("/")[2]
    if file.is_file():
        return _state_in(str(file))
    try:
        with redirect_stdout(sys.stderr):  # where torch says what it fetches
            return dict(default.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:  # no network; or what came is not the file, says its hash
        raise ValueError(
            f"weights: default needs {default.url}, which cannot be fetched here ({error}); fetch it elsewhere and put "
            f"it at {file}, or write none"
        ) from error

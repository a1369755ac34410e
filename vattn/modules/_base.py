"""Base class of all mechanisms: where a mechanism is placed, how it is built and what it costs."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator
from torch import nn

from vattn.base import LATER, Kinded

#: In the order in which data flows. At conv1 and conv2 a mechanism replaces a layer; elsewhere it is inserted.
Position = Literal["block", "a", "conv1", "b", "conv2", "c", "d"]

Pathway = Literal["both", "slow", "fast"]

#: Types of the fields that all mechanisms have; a mechanism that changes a default keeps the description.
Stages = Annotated[
    tuple[int, ...], Field(description="residual stages that get the mechanism; 2 is res2, 5 is res5; each once")
]
Place = Annotated[
    Position,
    Field(
        description="place in a residual block: block: before the whole block, shortcut included; a: before the first "
        "convolution, on the residual branch; b: after the first convolution, norm and ReLU; c: after the second; d: "
        "after the last norm, before the sum; conv1, conv2: replaces this convolution"
    ),
]
Every = Annotated[
    int,
    Field(ge=1, description="step between the blocks of a stage that get the mechanism; 1: all; 2: first, third, ..."),
]


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a backbone for a mechanism; its features are (N, channels, T, height, width)."""

    stage: int
    block: int
    position: Position
    channels: int
    height: int
    width: int
    pathway: str = field(default="", kw_only=True)
    """slow or fast in SlowFast; empty in a backbone of one pathway"""


@dataclass(frozen=True, slots=True)
class Layer(Site):
    """A convolution that a mechanism can replace: conv1 alone, or conv2 with its norm and ReLU.

    The layer and its replacement map (N, channels, T, height, width) to (N, outputs, T, height / stride, width /
    stride), rounded up. ``macs`` (multiply-accumulates), ``params`` and ``activations`` (values) are the cost of the
    layer for one frame. A mechanism that replaces the layer saves this cost.
    """

    outputs: int
    stride: int
    macs: int
    params: int
    activations: int


def choose(
    sites: Iterable[Site], stages: tuple[int, ...], position: Position, every: int, pathway: Pathway = "both",
    offset: int = 0,
) -> tuple[Site, ...]:  # fmt: skip
    """Return the sites at ``position`` in the blocks ``offset`` + 0, ``every``, 2 * ``every``, ... of ``stages``.

    In a backbone of two pathways these are the blocks of one of them, or of both.
    """
    at = (s for s in sites if s.position == position and s.stage in stages and pathway in ("both", s.pathway))
    return tuple(s for s in at if selects(s.block, every, offset))


def selects(block: int, every: int, offset: int = 0) -> bool:
    """Return whether a block number is ``offset`` + 0, ``every``, 2 * ``every``, ..."""
    return block >= offset and (block - offset) % every == 0


def check_divisors(site: Site, **divisors: int) -> None:
    """Raise ValueError if an option divides the channels at ``site`` and the quotient, rounded down, is 0."""
    for option, divisor in divisors.items():
        if site.channels < divisor:
            raise ValueError(
                f"{option}: must not exceed the channels, of which stage {site.stage} has {site.channels} at position "
                f"{site.position}; take {site.channels} or less, or leave the stage out (got {divisor})"
            )


class ModuleConfig(Kinded):
    """Options of a mechanism and its places in the backbone.

    Positions a to d are the TA-block styles of Figure 3 of TAM (Liu, Wang, Wu, Qian and Lu, "TAM: Temporal Adaptive
    Module for Video Recognition", ICCV 2021, arXiv:2005.06803).

    The cost of a mechanism may depend on the features at a site and on whether the block is the first of its stage, but
    on no other property of the site: `vattn.cost` computes equal sites once.
    """

    kind: str
    stages: Stages = (2, 3, 4, 5)
    position: Place = "b"
    every: Every = 1
    pathway: Pathway = Field(
        "both",
        json_schema_extra=LATER,
        description="of slowfast: the pathway whose blocks get the mechanism; other backbones have one pathway, both",
    )
    init: Literal["default", "identity"] = Field(
        "default",
        description="initial state: default: as in the authors' code; identity: the network starts with the outputs "
        "that it has without the mechanism",
    )

    #: Positions at which the mechanism can be placed.
    places: ClassVar[tuple[Position, ...]] = ("block", "a", "b", "c", "d")
    #: Why ``init: identity`` is not available; empty if `build` implements it.
    no_identity: ClassVar[str] = ""
    #: Regular expressions that rename the authors' parameters to those of this library, applied in order
    #: (vattn/convert.py): within the mechanism, and in the authors' whole network.
    authors_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: Regular expressions of parameters that some authors' networks do not have, where they would be 0.
    authors_zeros: ClassVar[tuple[str, ...]] = ()

    @field_validator("stages")
    @classmethod
    def _sorted_set(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(stages)) < len(stages):
            raise ValueError("names a stage twice; name each once")
        return tuple(sorted(stages))

    @field_validator("position")
    @classmethod
    def _position_is_available(cls, position: Position) -> Position:
        if position not in cls.places:
            raise ValueError(f"such a mechanism can be put at {', '.join(cls.places)}; take one of these")
        return position

    @field_validator("init")
    @classmethod
    def _identity_is_available(cls, init: str) -> str:
        if init == "identity" and cls.no_identity:
            raise ValueError(f"{cls.no_identity}; use default")
        return init

    @property
    def reversal_equivariant(self) -> bool:
        """Whether f(reversed x) == reversed f(x) for all weights.

        A network with only such mechanisms gives a clip and its reverse the same average over frames.
        """
        return False

    @property
    def offset(self) -> int:
        """Number of the first block of a stage that gets it."""
        return 0

    def at(self, sites: Iterable[Site]) -> tuple[Site, ...]:
        """Return the sites of a backbone that get this mechanism."""
        return choose(sites, self.stages, self.position, self.every, self.pathway, self.offset)

    def canonical(self) -> Self:
        """Return an equal mechanism in which each option without effect has its default."""
        return self

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError ("option: rule; way out (got value)") if the mechanism cannot be placed at ``site``."""

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the mechanism for the features (N, C, T, H, W) at ``site``, T = ``frames``.

        The output has the shape of the input. If ``site`` is a `Layer`, it has the shape of the layer's output.
        """
        raise NotImplementedError

    def inherit_weights(self, built: nn.Module, layer: nn.Module) -> None:
        """Initialise ``built`` with the weights of ``layer``, which it replaces, if the mechanism supports this."""

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip, by the formula of the mechanism.

        They do not depend on how the module computes the formula.
        """
        raise NotImplementedError

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        raise NotImplementedError

    def published_alternative(self, site: Site, frames: int) -> tuple[str, int, int] | None:
        """Return name, multiply-accumulates of a clip and parameters of the mechanism that the paper compares with."""
        return None

    def activations(self, site: Site, frames: int) -> int:
        """Return the number of values of one clip that autograd keeps because of the mechanism.

        Each value counts once: the values that the module of `build` keeps, and its output, which the next convolution
        keeps. The input counts only if the mechanism copies it, because the layer before keeps it in any case.
        """
        raise NotImplementedError

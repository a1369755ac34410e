"""What every mechanism is: where it goes, how it is built, and what it costs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator
from torch import nn

from vattn.base import Kinded

#: In the order in which data meets them. At conv1 and conv2 stand layers, whose place a mechanism can take; elsewhere
#: nothing.
Position = Literal["block", "a", "conv1", "b", "conv2", "c", "d"]


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a backbone where a mechanism can stand: features of (N, channels, T, height, width)."""

    stage: int
    block: int
    position: Position
    channels: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Layer(Site):
    """A place that a convolution holds until a mechanism takes it: conv2 together with its norm and ReLU, conv1 alone.

    What stands there maps (N, channels, T, height, width) to (N, outputs, T, height / stride, width / stride), rounded
    up. ``macs``, ``params`` and ``activations`` are those of the layer for one frame; they go when it goes.
    """

    outputs: int
    stride: int
    macs: int
    params: int
    activations: int


def choose(sites: Iterable[Site], stages: tuple[int, ...], position: Position, every: int) -> tuple[Site, ...]:
    """Return the sites at ``position`` in each ``every``-th block of ``stages``, the first block included."""
    return tuple(s for s in sites if s.position == position and s.stage in stages and s.block % every == 0)


def check_divisors(site: Site, **divisors: int) -> None:
    """Raise ValueError for an option that divides the channels at ``site``, rounded down, and leaves none of them."""
    for option, divisor in divisors.items():
        if site.channels < divisor:
            raise ValueError(
                f"{option}: must not exceed the channels, of which stage {site.stage} has {site.channels} at position "
                f"{site.position}; take {site.channels} or less, or leave the stage out (got {divisor})"
            )


class ModuleConfig(Kinded):
    """One mechanism and the sites it is put at.

    ``position`` is a TA-block style of TAM's Figure 3: before conv1 on the residual path (a), after the first
    conv-bn-relu (b), after the second (c), after the last norm (d); or before the whole block, shortcut included
    (block). A mechanism whose ``places`` are layers is put in their stead.

    What a mechanism costs depends on a site only by its features, and by whether it is in the first block of its stage.
    """

    kind: str
    stages: Annotated[tuple[int, ...], Field(description="residual stages, res2 ... res5")] = (2, 3, 4, 5)
    position: Position = "b"
    every: int = Field(1, ge=1, description="each n-th block of a stage, the first included")
    init: Literal["default", "identity"] = Field(
        "default", description="identity: a fresh mechanism leaves what the network computes unchanged"
    )

    #: Positions that it can be put at.
    places: ClassVar[tuple[Position, ...]] = ("block", "a", "b", "c", "d")
    #: Why ``init: identity`` cannot be had. Empty where `build` honours it.
    no_identity: ClassVar[str] = ""
    #: Regular expressions from the names in the authors' code to ours, applied in turn (vattn/convert.py): of the
    #: mechanism alone, and of the authors' whole network around it.
    authors_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    authors_network: ClassVar[tuple[tuple[str, str], ...]] = ()

    @field_validator("stages")
    @classmethod
    def _sorted_set(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(stages)) < len(stages):
            raise ValueError("names a stage twice; name each once")
        return tuple(sorted(stages))

    @field_validator("position")
    @classmethod
    def _can_stand_there(cls, position: Position) -> Position:
        if position not in cls.places:
            raise ValueError(f"such a mechanism can be put at {', '.join(cls.places)}; take one of these")
        return position

    @field_validator("init")
    @classmethod
    def _identity_can_be_had(cls, init: str) -> str:
        if init == "identity" and cls.no_identity:
            raise ValueError(f"{cls.no_identity}; use default")
        return init

    @property
    def reversal_equivariant(self) -> bool:
        """f(reversed x) == reversed f(x) by form: alone, it cannot tell a clip from its reverse after averaging."""
        return False

    def at(self, sites: Iterable[Site]) -> tuple[Site, ...]:
        """Return those of a backbone's sites that this mechanism is put at."""
        return choose(sites, self.stages, self.position, self.every)

    def canonical(self) -> Self:
        """Return the same mechanism with every option that has no effect at its default."""
        return self

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError ("option: rule; way out (got value)") where the mechanism cannot stand at ``site``."""

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return a module that maps (N, C, T, H, W) at ``site``, T = ``frames``, to the same shape, or as a `Layer`."""
        raise NotImplementedError

    def adopt(self, built: nn.Module, layer: nn.Module) -> None:
        """Let ``built`` start from the convolution whose place it takes, if it is one that can."""

    def macs(self, site: Site, frames: int) -> int:
        """Multiply-accumulates of one clip by the formula, whatever the implementation."""
        raise NotImplementedError

    def params(self, site: Site, frames: int) -> int:
        """Learnable parameters."""
        raise NotImplementedError

    def rival(self, site: Site, frames: int) -> tuple[str, int, int] | None:
        """Return name, multiply-accumulates and parameters of another one in its place, if its paper counts one."""
        return None

    def activations(self, site: Site, frames: int) -> int:
        """Values of one clip that autograd keeps because the mechanism is there.

        Counted once each: what `build`'s module keeps, and its output, which the next convolution keeps. Its input is
        kept by the layer before, whether or not the mechanism is there, so only a copy of it counts.
        """
        raise NotImplementedError

"""What a part of M2A is: a small mechanism on C // R channels, with its cost."""

from typing import ClassVar

from torch import nn

from vattn.modules._base import Site


class Part:
    """A part of M2A. This base class is the part ``none``: the identity, without cost.

    Each method takes the site with the reduced channels, C // R.
    """

    #: Options of M2A that affect the part.
    options: ClassVar[frozenset[str]] = frozenset()
    #: Regular expressions that rename the authors' parameters to those of this library.
    authors_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: Whether f(reversed x) == reversed f(x) for all weights.
    reversal_equivariant: ClassVar[bool] = True

    def check(self, site: Site, frames: int) -> None:
        """Raise ValueError if the part cannot process the features at ``site``."""

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the module of the part."""
        return nn.Identity()

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        return 0

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        return 0

    def activations(self, site: Site, frames: int) -> int:
        """Return the number of values of one clip that autograd keeps because of the part."""
        return 0


def num_values(site: Site, frames: int) -> int:
    """Return the number of values of the features of one clip."""
    return site.channels * frames * site.height * site.width

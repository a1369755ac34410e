"""Import path of `cluster.training` and `cluster.placement` for code that was written before they were two files."""

from cluster.placement import Resources, release
from cluster.training import epochs, train, trainer

__all__ = ["Resources", "epochs", "release", "train", "trainer"]

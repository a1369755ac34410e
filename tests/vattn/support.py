"""Helpers for tests of networks."""

from typing import Any

from torch import Tensor, nn

from vattn.config import ModelConfig
from vattn.modules import Layer, ModuleConfig, Position, Site


class Always(nn.Module):
    """A layer that returns ``value``, so that a test of the layers after it does not depend on its weights."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return self.value


def site(
    channels: int = 16,
    size: int = 6,
    width: int = 0,
    stage: int = 3,
    block: int = 0,
    position: Position = "b",
    **layer: int,
) -> Site:
    """Return a site of ``size`` x ``size`` pixels, or ``size`` x ``width``; at conv1 or conv2, a layer without cost."""
    features = (stage, block, position, channels, size, width or size)
    if position not in ("conv1", "conv2"):
        return Site(*features)
    options: dict[str, Any] = {"outputs": channels, "stride": 1, "macs": 0, "params": 0, "activations": 0, **layer}
    return Layer(*features, **options)


def place_of(module: ModuleConfig) -> Position:
    """Return a position that is possible for ``module``: b if it is."""
    return "b" if "b" in module.places else module.places[0]


def model(*attention: dict[str, Any], depth: int = 10, width: float = 0.25, **changes: Any) -> ModelConfig:
    """Return a small network with these mechanisms."""
    backbone = {"kind": "resnet", "depth": depth, "width": width}
    return ModelConfig.parse({"frames": 4, "size": 32, "backbone": backbone, "attention": list(attention)} | changes)

"""Builders for the recordings of 3D ResNeXt: the authors' block and their whole network."""

from typing import Any

from torch import nn

from tests.vattn.golden import Case
from tests.vattn.support import model
from vattn.backbones._residual import BlockShape
from vattn.backbones.resnet3d import Block3D, ResNeXt3DConfig
from vattn.convert import convert_model
from vattn.model import build_model


def _block(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    config = ResNeXt3DConfig(depth=14, cardinality=c["cardinality"])
    side = meta["input_shape"][-1]
    shape = BlockShape(
        2, 0, c["inplanes"], c["mid_planes"], c["expansion"] * c["planes"], c["stride"], side, side // c["stride"]
    )  # fmt: skip
    return Case(Block3D(config, shape), dict)


def _network(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    backbone = {"kind": "resnext3d", "depth": 101, "cardinality": c["cardinality"], "shortcut": c["shortcut_type"]}
    network = model(backbone=backbone, frames=c["sample_duration"], size=c["sample_size"])
    net: nn.Module = build_model(network, c["num_classes"])
    assert sum(p.numel() for p in net.parameters()) == meta["n_params"]
    return Case(net, lambda state: convert_model(state, network), taps="backbone.")


GOLDEN = {
    "3D ResNeXt bottleneck": _block,
    "3D ResNeXt-101 (cardinality 32) full network, MARS/Hara layout": _network,
}

"""Activation checkpointing gives the same results with less memory."""

import copy
from typing import Any

import pytest
import torch

from tests.vattn.counting import kept_per_clip
from tests.vattn.support import model
from vattn.model import build_model
from vattn.training.recompute import recompute_blocks

TREES: list[dict[str, Any]] = [
    {"kind": "resnet", "depth": 10, "width": 0.25},
    {"kind": "mobilenet_v2", "width": 0.25},
    {"kind": "resnet3d", "depth": 10, "width": 0.25},
    {"kind": "p3d", "depth": 17, "width": 0.25},
    {"kind": "c3d", "width": 0.125},
    {"kind": "tcnn", "widths": [8, 8, 16, 16, 24, 24, 32]},
]
every_tree = pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree["kind"])


@every_tree
def test_values_gradients_and_statistics_do_not_change(tree: dict[str, Any]) -> None:
    config = model({"kind": "tam", "beta": 2, "stages": [3, 4]}, backbone=tree, frames=16, size=32)
    torch.manual_seed(0)
    net, x = build_model(config, 3).double().train(), torch.randn(2, 3, 16, 32, 32, dtype=torch.double)
    checkpointed = copy.deepcopy(net)
    recompute_blocks(checkpointed)
    results = []
    for network in (net, checkpointed):
        torch.manual_seed(1)
        y = network(x)
        y.square().sum().backward()
        results.append([y, *(p.grad for p in network.parameters()), *network.buffers()])

    for actual, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(checkpointed.eval()(x), net.eval()(x))
    assert checkpointed.state_dict().keys() == net.state_dict().keys()


@pytest.mark.medium
@every_tree
def test_fewer_values_are_kept(tree: dict[str, Any]) -> None:
    config = model(backbone=tree, frames=16, size=32)
    x = torch.empty(1, 3, 16, 32, 32, device="meta")
    with torch.device("meta"):
        net, checkpointed = build_model(config, 3), build_model(config, 3)
    recompute_blocks(checkpointed)

    assert kept_per_clip(checkpointed, x) < 0.9 * kept_per_clip(net, x)

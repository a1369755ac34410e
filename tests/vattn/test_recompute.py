"""Blocks that are computed again give the same numbers from less memory."""

import copy
from typing import Any

import pytest
import torch

from tests.vattn.counting import kept_per_clip
from tests.vattn.support import model
from vattn.model import build_model
from vattn.recompute import recompute_blocks

TREES: list[dict[str, Any]] = [
    {"kind": "resnet", "depth": 10, "width": 0.25},
    {"kind": "mobilenet_v2", "width": 0.25},
    {"kind": "resnet3d", "depth": 10, "width": 0.25},
    {"kind": "p3d", "depth": 17, "width": 0.25},
    {"kind": "tcnn", "widths": [8, 8, 16, 16, 24, 24, 32]},
]
every_tree = pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree["kind"])


@every_tree
def test_values_gradients_and_statistics_are_the_same(tree: dict[str, Any]) -> None:
    network = model({"kind": "tam", "beta": 2, "stages": [3, 4]}, backbone=tree, frames=16, size=32)
    torch.manual_seed(0)
    net, x = build_model(network, 3).double().train(), torch.randn(2, 3, 16, 32, 32, dtype=torch.double)
    again = copy.deepcopy(net)
    recompute_blocks(again)
    results = []
    for one in (net, again):
        torch.manual_seed(1)
        y = one(x)
        y.square().sum().backward()
        results.append([y, *(p.grad for p in one.parameters()), *one.buffers()])

    for found, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(again.eval()(x), net.eval()(x))
    assert again.state_dict().keys() == net.state_dict().keys()


@every_tree
def test_less_is_kept(tree: dict[str, Any]) -> None:
    network = model(backbone=tree, frames=16, size=32)
    x = torch.empty(1, 3, 16, 32, 32, device="meta")
    with torch.device("meta"):
        net, again = build_model(network, 3), build_model(network, 3)
    recompute_blocks(again)

    assert kept_per_clip(again, x) < 0.9 * kept_per_clip(net, x)

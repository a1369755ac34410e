"""I3D: what inflation keeps of the 2D network, and the published cost."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from tests.vattn.backbones.support import counted, with_random_norms
from tests.vattn.support import model
from vattn.model import build_model


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_logits_of_a_still_video_equal_those_of_the_2d_network(depth: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    flat = with_random_norms(getattr(torchvision.models, f"resnet{depth}")(num_classes=5))
    torch.save(flat.state_dict(), tmp_path / "2d.pth")
    tree = {"kind": "i3d_resnet", "depth": depth, "weights": str(tmp_path / "2d.pth")}
    net = build_model(model(backbone=tree, frames=7), 5).eval()
    net.fc.load_state_dict(flat.get_submodule("fc").state_dict())
    image = torch.randn(2, 3, 40, 40)

    with torch.no_grad():
        logits, expected = net(image.unsqueeze(2).expand(-1, -1, 7, -1, -1)), flat(image)

    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


M2A = {"kind": "m2a"}


@pytest.mark.parametrize(
    ("attention", "printed", "gmacs", "params_m"),
    [
        ([], 22.525, 22.473, 33.256),
        ([M2A | {"attention": "none"}], 22.650, 22.591, 33.367),
        ([M2A | {"motion": "none"}], 22.650, None, 33.367),
        ([M2A], 22.664, 22.602, 33.367),
    ],
)
def test_i3d_resnet18_and_m2a_cost_what_the_m2a_paper_prints(
    attention: list[Any], printed: float, gmacs: float | None, params_m: float
) -> None:
    network, total, elements = counted(*attention, backbone={"kind": "i3d_resnet"}, frames=8, size=224, classes=174)

    # The paper counts 4 operations per value of the layer norm, which only the full M2A has.
    has_norm = attention == [M2A]
    norm_values = sum(
        network.backbone.frames_at(site, 8) * (site.channels // 8) * site.height * site.width
        for module in network.attention for site in module.at(network.backbone.sites(network.size))
    )  # fmt: skip
    assert (elements.m2a_paper() + 4 * has_norm * norm_values) / 1e9 == pytest.approx(printed, rel=0.0006)
    assert gmacs is None or total.gflops == pytest.approx(gmacs, abs=0.0006)
    assert total.params_m == pytest.approx(params_m, abs=0.0005)

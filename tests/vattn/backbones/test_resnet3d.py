"""3D ResNet and ResNeXt: shortcut A, groups, and the published cost."""

from typing import Any

import pytest
import torch

from tests.vattn.backbones.support import counted
from tests.vattn.support import model
from vattn.backbones.resnet3d import ResNeXt3DConfig, ZeroChannels
from vattn.cost import cost

STA = {"kind": "sta"}


def test_shortcut_a_takes_every_second_place_and_adds_channels_of_zeros() -> None:
    x = torch.arange(8.0 * 27).view(1, 8, 3, 3, 3)

    y = ZeroChannels(12, stride=2)(x)

    assert y.shape == (1, 12, 2, 2, 2)
    assert y[:, :8].equal(x[:, :, ::2, ::2, ::2])
    assert not y[:, 8:].any()


@pytest.mark.parametrize(
    ("cardinality", "planes"), [(32, [128, 256, 512, 1024]), (8, [32, 64, 128, 256]), (12, [48, 96, 192, 384])]
)
def test_channels_are_cardinality_times_planes_over_32(cardinality: int, planes: list[int]) -> None:
    # In the authors' code, planes are 128, 256, 512 and 1024.
    config = ResNeXt3DConfig(depth=14, cardinality=cardinality)

    assert [config.planes(stage) for stage in (2, 3, 4, 5)] == planes
    with torch.device("meta"):
        net = config.build()
    assert net.get_parameter("layer2.0.conv2.weight").shape == (planes[1], planes[1] // cardinality, 3, 3, 3)
    assert net.get_parameter("layer2.0.conv3.weight").shape == (512, planes[1], 1, 1, 1)


@pytest.mark.parametrize(("attention", "printed", "params_m"), [([], 38.5014, 47.521), ([STA], 38.5019, 47.644)])
def test_resnext101_and_sta_cost_what_the_sta_paper_prints(
    attention: list[Any], printed: float, params_m: float
) -> None:
    network, total, elements = counted(*attention, backbone={"kind": "resnext3d"}, frames=64, size=112, classes=51)

    # The paper counts 1 per value of a norm and of a ReLU, 27 per output of the stem's pool, and 1 per input of the
    # average pool.
    convention = elements.macs + elements.norm + elements.relu + 27 * elements.max_pool_out + elements.avg_pool_in
    # Table IV: c * l for the product, in the three blocks of conv5, where l is 4 frames.
    product = sum(
        4 * site.channels for module in network.attention for site in module.at(network.backbone.sites(network.size))
    )
    assert (convention + product) / 1e9 == pytest.approx(printed, abs=0.00005)
    assert total.params_m - 2049 * 51 / 1e6 == pytest.approx(params_m, abs=0.0005)


def test_plain_cost_of_resnext101() -> None:
    assert cost(model(backbone={"kind": "resnext3d"}, frames=64, size=112), 51).gflops == pytest.approx(
        38.2677, abs=5e-5
    )

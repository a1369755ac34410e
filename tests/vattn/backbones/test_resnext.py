"""ResNeXt is a ResNet whose 3x3 convolutions are grouped."""

import pytest

from vattn.backbones.resnet import ResNet
from vattn.backbones.resnext import ResNeXtConfig
from vattn.modules import Site


def test_blocks_of_50_32x4d_are_those_of_the_paper() -> None:
    # Table 1: conv3 maps 256 channels to 512, with 256 channels in 32 groups between.
    sites = [s for s in ResNeXtConfig().sites(224) if (s.stage, s.block) == (3, 0) and type(s) is Site]

    assert sites == [
        Site(3, 0, "block", 256, 56, 56), Site(3, 0, "a", 256, 56, 56), Site(3, 0, "b", 256, 56, 56),
        Site(3, 0, "c", 256, 28, 28), Site(3, 0, "d", 512, 28, 28),
    ]  # fmt: skip


def test_parameters_and_cost_of_50_32x4d_are_those_of_the_paper() -> None:
    # Table 1: 25.0e6 parameters, with the 1000-way classifier, and 4.2e9 multiply-adds.
    parts = ResNeXtConfig().parts(224, 1)

    assert sum(p.params for p in parts) + 2049 * 1000 == pytest.approx(25.0e6, rel=0.002)
    assert sum(p.macs for p in parts) == pytest.approx(4.2e9, rel=0.02)


def test_width_scales_the_channels_of_a_group_and_not_the_number_of_groups() -> None:
    net = ResNeXtConfig(width=0.5, cardinality=16).build()

    # 0.5 x 4 channels in each of 16 groups; the output of the block has 0.5 x 256 channels.
    assert isinstance(net, ResNet)
    assert net.get_parameter("layer1.0.conv2.weight").shape == (32, 2, 3, 3)
    assert net.get_parameter("layer1.0.conv3.weight").shape == (128, 32, 1, 1)
    assert net.conv1.out_channels == 32


@pytest.mark.parametrize("changes", [{"cardinality": 16}, {"depth": 101}, {"width": 0.5}])
def test_default_weights_are_refused_where_torchvision_publishes_none(changes: dict) -> None:
    with pytest.raises(ValueError, match="default has resnext50_32x4d, resnext101_32x8d, resnext101_64x4d at width 1"):
        ResNeXtConfig.parse(changes | {"weights": "default"})


@pytest.mark.parametrize("depth", [18, 26])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="50 or 101"):
        ResNeXtConfig.parse({"depth": depth})

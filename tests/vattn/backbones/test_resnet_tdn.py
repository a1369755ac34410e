"""TDN's network: two paths, one of 5 frames' differences, mixed behind the stem and behind res2."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.vattn.counting import model_activations, model_macs, on_meta
from tests.vattn.support import Always, model
from vattn.backbones.resnet import ResNetConfig
from vattn.backbones.resnet_tdn import TDNResNet, TDNResNetConfig
from vattn.config import TrialConfig
from vattn.cost import cost
from vattn.model import build_model

SMALL = {"kind": "resnet_tdn", "depth": 10, "width": 0.25}
TRIAL = {"data": {"kind": "motion"}, "train": {"epochs": 1, "batch": 2, "lr": 0.1}}


def small(**changes: float) -> TDNResNet:
    net = TDNResNetConfig.parse(SMALL | changes).build()
    assert isinstance(net, TDNResNet)
    return net.eval()


def test_one_score_comes_of_each_5_frames() -> None:
    net = build_model(model({"kind": "tdn"}, backbone=SMALL, size=64), classes=7).eval()

    assert net(torch.randn(2, 3, 4 * 5, 64, 64)).shape == (2, 7)


def test_both_paths_are_mixed_behind_the_stem_and_behind_res2() -> None:
    # Stems give 4 and 8, and layers pass on: 3/4 4 + 1/4 8 = 5 behind the stem, 3/4 5 + 1/4 8 = 5.75 behind res2.
    net = small(keep=0.75)
    net.add_module("maxpool", Always(torch.full((1, 16, 4, 4), 4.0)))
    net.add_module("short_stem", Always(torch.full((1, 16, 2, 2), 8.0)))
    net.layer1, net.short_layer1 = nn.Sequential(), nn.Sequential()

    torch.testing.assert_close(net.res2(torch.randn(5, 3, 16, 16)), torch.full((1, 16, 4, 4), 5.75))


def test_differences_are_of_successive_frames_at_half_the_size() -> None:
    seen = []
    net = small()
    net.short_stem.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    # Frame i is i squared everywhere, so differences are 1, 3, 5, 7, three colours of each.
    net(torch.arange(5.0).square().view(5, 1, 1, 1).expand(5, 3, 32, 32))

    expected = torch.tensor([1.0, 3.0, 5.0, 7.0]).repeat_interleave(3).view(1, 12, 1, 1).expand(1, 12, 16, 16)
    torch.testing.assert_close(seen[0], expected)


def test_a_still_clip_shows_the_stem_of_differences_nothing() -> None:
    net = small()

    torch.testing.assert_close(net.short_stem[0](torch.zeros(1, 12, 8, 8)), torch.zeros(1, 16, 4, 4))
    still, frame = torch.randn(1, 3, 32, 32).expand(5, 3, 32, 32), net.short_pool
    assert not (frame(still)[1:] - frame(still)[:-1]).any()


def test_only_middle_frames_reach_the_stem_of_single_frames() -> None:
    net, images = small(), torch.randn(10, 3, 32, 32)
    net.add_module("short_stem", Always(torch.zeros(2, 16, 4, 4)))
    others = images.clone()
    others[[0, 1, 3, 4, 5, 6, 8, 9]] += 1

    torch.testing.assert_close(net(others), net(images))
    others[7] += 1
    assert not torch.equal(net(others)[1], net(images)[1])


@pytest.mark.parametrize("backbone", [SMALL, SMALL | {"depth": 50}])
def test_cost_is_what_is_counted(backbone: dict) -> None:
    recipe = model({"kind": "tdn", "stages": [3]}, backbone=backbone, size=64)

    total = cost(recipe, 7)

    assert total.params == sum(p.numel() for p in on_meta(recipe, 7).parameters())
    assert total.macs == model_macs(recipe, 7)
    assert total.activations == model_activations(recipe, 7)


def test_cost_is_right_where_a_layer_with_a_bias_is_replaced() -> None:
    recipe = model({"kind": "i3d"}, backbone=SMALL | {"depth": 50}, size=64)

    assert cost(recipe, 7).params == sum(p.numel() for p in on_meta(recipe, 7).parameters())


def test_weights_of_a_resnet_start_both_paths(tmp_path: Path) -> None:
    plain = ResNetConfig(depth=10, width=0.25).build()
    torch.save(plain.state_dict(), tmp_path / "plain.pth")

    net = TDNResNetConfig.parse(SMALL | {"weights": str(tmp_path / "plain.pth")}).build()

    assert isinstance(net, TDNResNet)
    weight = plain.state_dict()["layer1.0.conv1.weight"]
    torch.testing.assert_close(net.state_dict()["layer1.0.conv1.weight"], weight)
    torch.testing.assert_close(net.state_dict()["short_layer1.0.conv1.weight"], weight)
    # Each of the 12 colours of differences gets the mean of the 3 colours' weights.
    stem = plain.state_dict()["conv1.weight"]
    torch.testing.assert_close(net.state_dict()["short_stem.0.weight"][:, 11], stem.sum(1) / 3)
    assert not net.get_parameter("conv1.bias").any()


def test_data_that_draw_no_neighbours_are_refused() -> None:
    trial = TRIAL | {"model": {"frames": 4, "size": 32, "backbone": SMALL}}

    assert TrialConfig.parse(trial).model.backbone.frames_per_segment == 5
    with pytest.raises(ValueError, match=r"frames_per_segment: resnet_tdn takes 5; write auto \(got 1\)"):
        TrialConfig.parse(trial | {"data": {"kind": "motion", "sampling": {"frames_per_segment": 1}}})

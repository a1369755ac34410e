"""TDN's network: a path of single frames and a path of differences, mixed after the stem and after res2."""

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


def test_5_frames_per_segment_give_one_score() -> None:
    net = build_model(model({"kind": "tdn"}, backbone=SMALL, size=64), classes=7).eval()

    assert net(torch.randn(2, 3, 4 * 5, 64, 64)).shape == (2, 7)


def test_both_paths_are_mixed_after_the_stem_and_after_res2() -> None:
    # The stems give 4 and 8, and res2 is the identity: 3/4 * 4 + 1/4 * 8 = 5 after the stem, 3/4 * 5 + 1/4 * 8 = 5.75
    # after res2.
    net = small(keep=0.75)
    net.add_module("maxpool", Always(torch.full((1, 16, 4, 4), 4.0)))
    net.add_module("short_stem", Always(torch.full((1, 16, 2, 2), 8.0)))
    net.layer1, net.short_layer1 = nn.Sequential(), nn.Sequential()

    torch.testing.assert_close(net.res2(torch.randn(5, 3, 16, 16)), torch.full((1, 16, 4, 4), 5.75))


def test_differences_are_between_successive_frames_at_half_the_size() -> None:
    inputs = []
    net = small()
    net.short_stem.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    # Frame i is i squared everywhere, so the differences are 1, 3, 5, 7, each for three colours.
    net(torch.arange(5.0).square().view(5, 1, 1, 1).expand(5, 3, 32, 32))

    expected = torch.tensor([1.0, 3.0, 5.0, 7.0]).repeat_interleave(3).view(1, 12, 1, 1).expand(1, 12, 16, 16)
    torch.testing.assert_close(inputs[0], expected)


def test_the_input_of_the_stem_of_differences_is_zero_for_a_still_clip() -> None:
    net = small()

    torch.testing.assert_close(net.short_stem[0](torch.zeros(1, 12, 8, 8)), torch.zeros(1, 16, 4, 4))
    still, pool = torch.randn(1, 3, 32, 32).expand(5, 3, 32, 32), net.short_pool
    assert not (pool(still)[1:] - pool(still)[:-1]).any()


def test_the_path_of_single_frames_depends_on_middle_frames_only() -> None:
    net, images = small(), torch.randn(10, 3, 32, 32)
    net.add_module("short_stem", Always(torch.zeros(2, 16, 4, 4)))
    changed = images.clone()
    changed[[0, 1, 3, 4, 5, 6, 8, 9]] += 1

    torch.testing.assert_close(net(changed), net(images))
    changed[7] += 1
    assert not torch.equal(net(changed)[1], net(images)[1])


@pytest.mark.parametrize("backbone", [SMALL, SMALL | {"depth": 50}])
def test_closed_form_cost_equals_the_counted_cost(backbone: dict) -> None:
    network = model({"kind": "tdn", "stages": [3]}, backbone=backbone, size=64)

    total = cost(network, 7)

    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())
    assert total.macs == model_macs(network, 7)
    assert total.activations == model_activations(network, 7)


def test_the_cost_of_a_replaced_layer_includes_its_bias() -> None:
    network = model({"kind": "i3d"}, backbone=SMALL | {"depth": 50}, size=64)

    assert cost(network, 7).params == sum(p.numel() for p in on_meta(network, 7).parameters())


def test_both_paths_start_from_the_weights_of_a_resnet(tmp_path: Path) -> None:
    plain = ResNetConfig(depth=10, width=0.25).build()
    torch.save(plain.state_dict(), tmp_path / "plain.pth")

    net = TDNResNetConfig.parse(SMALL | {"weights": str(tmp_path / "plain.pth")}).build()

    assert isinstance(net, TDNResNet)
    weight = plain.state_dict()["layer1.0.conv1.weight"]
    torch.testing.assert_close(net.state_dict()["layer1.0.conv1.weight"], weight)
    torch.testing.assert_close(net.state_dict()["short_layer1.0.conv1.weight"], weight)
    # Each of the 12 channels of differences gets the mean of the weights of the 3 colours.
    stem = plain.state_dict()["conv1.weight"]
    torch.testing.assert_close(net.state_dict()["short_stem.0.weight"][:, 11], stem.sum(1) / 3)
    assert not net.get_parameter("conv1.bias").any()


def test_data_without_neighbouring_frames_are_refused() -> None:
    trial = TRIAL | {"model": {"frames": 4, "size": 32, "backbone": SMALL}}

    assert TrialConfig.parse(trial).model.backbone.frames_per_segment == 5
    with pytest.raises(ValueError, match=r"frames_per_segment: resnet_tdn takes 5; write auto \(got 1\)"):
        TrialConfig.parse(trial | {"data": {"kind": "motion", "sampling": {"frames_per_segment": 1}}})


def test_weights_in_the_home_folder_keep_their_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    trained = {
        name: torch.randn_like(value) for name, value in small().state_dict().items() if value.is_floating_point()
    }
    torch.save({name: value.abs() for name, value in trained.items()}, tmp_path / "tdn.pt")

    started = TDNResNetConfig.parse(SMALL | {"weights": "~/tdn.pt"}).build().state_dict()

    for name, value in trained.items():
        torch.testing.assert_close(started[name], value.abs(), rtol=0, atol=0)

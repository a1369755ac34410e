"""What holds for every backbone of 3D convolutions, and what the papers print of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.vattn.counting import clips, count_elements, model_activations, model_macs, on_meta, use_reference_forms
from tests.vattn.support import model
from vattn.backbones import BackboneConfig
from vattn.backbones.resnet3d import ResNeXt3DConfig, ZeroChannels
from vattn.backbones.tcnn import TCNNConfig
from vattn.config import ModelConfig
from vattn.convert import load_published
from vattn.cost import cost
from vattn.model import build_model
from vattn.modules import Site

#: Recipes that are cheap to build, and the fewest frames and pixels that they take.
SMALL: dict[str, tuple[dict[str, Any], int, int]] = {
    "resnet3d": ({"kind": "resnet3d", "depth": 10, "width": 0.25}, 2, 8),
    "resnet3d-a": ({"kind": "resnet3d", "depth": 14, "width": 0.25, "shortcut": "A"}, 2, 8),
    "resnext3d": ({"kind": "resnext3d", "depth": 14, "width": 0.25, "cardinality": 8}, 2, 8),
    "i3d_resnet": ({"kind": "i3d_resnet", "depth": 10, "width": 0.25}, 2, 8),
    "i3d_resnet50": ({"kind": "i3d_resnet", "depth": 50, "width": 0.125}, 2, 8),
    "r3d": ({"kind": "r3d", "depth": 10, "width": 0.25}, 2, 8),
    "r2plus1d": ({"kind": "r2plus1d", "depth": 10, "width": 0.25}, 2, 8),
    "c3d": ({"kind": "c3d", "width": 0.125}, 16, 16),
    "p3d": ({"kind": "p3d", "depth": 17, "width": 0.25}, 16, 8),
    "tcnn": ({"kind": "tcnn", "widths": [8, 8, 16, 16, 24, 24, 32]}, 2, 8),
    "slowfast": ({"kind": "slowfast", "depth": 14, "width": 0.25, "alpha": 2}, 2, 8),
}
every_family = pytest.mark.parametrize("family", SMALL)
#: Published sizes, which are only built on the meta device.
PUBLISHED: list[dict[str, Any]] = [
    {"kind": "resnet3d", "depth": 18},
    {"kind": "resnet3d", "depth": 50},
    {"kind": "resnet3d", "depth": 152},
    {"kind": "resnext3d"},
    {"kind": "i3d_resnet", "depth": 50},
    {"kind": "r3d"},
    {"kind": "r2plus1d"},
    {"kind": "c3d"},
    {"kind": "p3d", "depth": 63},
    {"kind": "p3d", "depth": 199},
    {"kind": "tcnn"},
    {"kind": "slowfast"},
]


def small(family: str, *attention: dict[str, Any], more: int = 0, **changes: Any) -> ModelConfig:
    tree, frames, size = SMALL[family]
    changes = {"backbone": tree, "frames": frames + more, "size": size + more} | changes
    if family == "slowfast":
        changes["frames"] += changes["frames"] % 2  # every second one is its slow pathway's
    return model(*attention, **changes)


class Look(nn.Module):
    """Passes its input through and remembers the shape."""

    def forward(self, x: Tensor) -> Tensor:
        self.shape = tuple(x.shape[1:])
        return x


def plain_sites(network: ModelConfig) -> list[Site]:
    return list(network.backbone.sites(network.size))


@every_family
@given(more=st.integers(0, 24), wider=st.integers(0, 40))
@settings(max_examples=4)
def test_sites_have_the_shapes_that_data_has_there(family: str, more: int, wider: int) -> None:
    _, frames, size = SMALL[family]
    network = small(family, frames=frames + more, size=size + wider)
    config = network.backbone
    with torch.device("meta"):
        net = config.build()
        looks = {site: Look() for site in plain_sites(network)}
        for site, look in looks.items():
            net.insert(site, look)
        assert net.eval()(clips(network)).shape == (1, config.channels())

    found = {site: look.shape for site, look in looks.items()}
    assert found == {s: (s.channels, config.frames_at(s, network.frames), s.height, s.width) for s in looks}


@every_family
def test_data_meets_the_sites_in_their_order(family: str) -> None:
    network, met = small(family), []
    with torch.device("meta"):
        net = network.backbone.build()
        for site in plain_sites(network):
            net.insert(site, look := Look())
            look.register_forward_pre_hook(lambda *_, site=site: met.append(site))
        net.eval()(clips(network))

    assert met == plain_sites(network)


@every_family
@given(more=st.integers(0, 20), wider=st.integers(0, 40))
@settings(max_examples=3)
def test_cost_is_what_is_counted(family: str, more: int, wider: int) -> None:
    _, frames, size = SMALL[family]
    network = small(family, frames=frames + more, size=size + wider)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())
    assert total.activations == model_activations(network, 7)


@pytest.mark.parametrize("tree", PUBLISHED, ids=lambda tree: "-".join(map(str, tree.values())))
def test_cost_of_each_published_size_is_what_is_counted(tree: dict[str, Any]) -> None:
    network = model(backbone=tree, size=32, frames=16)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())


@every_family
@pytest.mark.parametrize("attention", [{"kind": "tam", "beta": 2}, {"kind": "sta"}, {"kind": "se", "reduction": 2}])
def test_mechanisms_stand_in_every_family_and_cost_what_is_counted(family: str, attention: dict[str, Any]) -> None:
    network = small(family, attention | {"position": "d", "stages": [2, 3, 4, 5]}, more=20)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())
    assert total.activations >= model_activations(network, 7)


@every_family
def test_each_site_is_learned_through(family: str) -> None:
    positions = small(family).backbone.positions()
    stages = [2, 3, 4, 5]
    attention = [{"kind": "tam", "position": p, "beta": 2, "stages": stages} for p in positions]
    network = small(family, *attention, more=8, head={"dropout": 0.0})
    torch.manual_seed(0)
    net = build_model(network, 3).train()

    net(torch.randn(2, 3, network.frames, network.size, network.size)).square().sum().backward()

    gates = [p for n, p in net.named_parameters() if n.endswith("gate.3.weight")]
    assert len(gates) == sum(site.stage in stages for site in plain_sites(network))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@every_family
def test_memory_layout_changes_no_value(family: str) -> None:
    network = small(family, more=4)
    torch.manual_seed(0)
    net = network.backbone.build().double().eval()
    x = torch.randn(2, 3, network.frames, network.size, network.size, dtype=torch.double)

    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last_3d)), expected)
    assert expected.std() > 0


@every_family
def test_autocast_computes_in_half_precision(family: str) -> None:
    network = small(family, {"kind": "sta"}, more=4)
    net = build_model(network, 3)

    with torch.autocast("cpu", torch.bfloat16):
        scores = net(torch.randn(4, 3, network.frames, network.size, network.size))

    assert scores.dtype == torch.bfloat16
    assert scores.isfinite().all()


@every_family
def test_a_recipe_is_what_its_tree_says(family: str) -> None:
    network = small(family, {"kind": "sta"})

    assert ModelConfig.parse(network.tree()) == network


@pytest.mark.parametrize(("family", "name"), [("c3d", "frames"), ("c3d", "size"), ("p3d", "frames")])
def test_clips_that_pools_leave_nothing_of_are_refused(family: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: {family} halves .* four times; take at least 16 \(got 15\)"):
        small(family, **{name: 15})


@pytest.mark.parametrize("kind", ["resnet3d", "resnext3d", "c3d", "p3d", "tcnn", "slowfast"])
def test_weights_that_torchvision_has_not_are_refused(kind: str) -> None:
    tree = next(tree for tree in PUBLISHED if tree["kind"] == kind)
    with pytest.raises(ValueError, match=f"weights: torchvision publishes none of {kind}; write none"):
        model(backbone=tree | {"weights": "default"}, frames=16)


def test_default_weights_are_of_published_sizes() -> None:
    for tree, depths in (
        ({"kind": "i3d_resnet", "depth": 10}, "18, 34, 50 and 101"),
        ({"kind": "r3d", "depth": 34}, "18"),
    ):
        with pytest.raises(ValueError, match=rf"default has depths? {depths} at width 1.*\(got depth {tree['depth']}"):
            model(backbone=tree | {"weights": "default"})


def shaken(net: nn.Module) -> nn.Module:
    """The same network with norms that are not the identity."""
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return net.eval()


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_an_inflated_network_gives_the_2d_network_s_logits_on_a_still_video(depth: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    flat = shaken(getattr(torchvision.models, f"resnet{depth}")(num_classes=5))
    torch.save(flat.state_dict(), tmp_path / "2d.pth")
    tree = {"kind": "i3d_resnet", "depth": depth, "weights": str(tmp_path / "2d.pth")}
    net = build_model(model(backbone=tree, frames=7), 5).eval()
    net.fc.load_state_dict(flat.get_submodule("fc").state_dict())
    image = torch.randn(2, 3, 40, 40)

    with torch.no_grad():
        logits, expected = net(image.unsqueeze(2).expand(-1, -1, 7, -1, -1)), flat(image)

    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["r3d", "r2plus1d"])
def test_torchvision_s_weights_give_torchvision_s_features(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = shaken(getattr(torchvision.models.video, f"{kind}_18")())
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    net = model(backbone={"kind": kind, "weights": str(tmp_path / "weights.pth")}).backbone.build().eval()
    theirs.fc = nn.Identity()
    x = torch.randn(1, 3, 5, 24, 24)

    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x))


def test_shortcut_a_takes_every_second_place_and_adds_zeros() -> None:
    x = torch.arange(8.0 * 27).view(1, 8, 3, 3, 3)

    y = ZeroChannels(12, stride=2)(x)

    assert y.shape == (1, 12, 2, 2, 2)
    assert y[:, :8].equal(x[:, :, ::2, ::2, ::2])
    assert not y[:, 8:].any()


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cardinality: must divide .* 32, 64, 128, 256 at width 0.25.*\(got 12\)"):
        ResNeXt3DConfig(width=0.25, cardinality=12)


def theirs_of_p3d(network: ModelConfig) -> dict[str, Tensor]:
    """What the authors' checkpoint of this network is called: the stem, and the 3x3 convolutions of res5."""
    with torch.device("meta"):
        own = build_model(network, 4).state_dict()
    state = {}
    for name, value in own.items():
        name = name.removeprefix("backbone.")
        if name.startswith("conv1."):
            name = "conv1_custom." + name.removeprefix("conv1.")
        if name.startswith("layer4."):
            name = name.replace(".conv2.", ".conv_normal.").replace(".bn2.", ".bn_normal.")
        state["module." + name] = torch.rand(value.shape)
    return state


@pytest.mark.parametrize(
    "tree", [{"kind": "p3d", "depth": 63}, {"kind": "resnet3d", "depth": 50}, {"kind": "resnext3d"}]
)
def test_published_checkpoints_load(tree: dict[str, Any], tmp_path: Path) -> None:
    network = model(backbone=tree | ({"width": 0.25} if tree["kind"] != "resnext3d" else {"depth": 14}), frames=16)
    net = build_model(network, 4)
    if tree["kind"] == "p3d":
        state = theirs_of_p3d(network)
        assert state["module.layer4.0.conv_normal.weight"].ndim == 4
    else:
        state = {"module." + n.removeprefix("backbone."): torch.rand(v.shape) for n, v in net.state_dict().items()}
    torch.save({"state_dict": state, "arch": "x", "epoch": 3}, tmp_path / "checkpoint.pth")

    assert load_published(net, network, tmp_path / "checkpoint.pth")

    torch.testing.assert_close(net.backbone.get_parameter("bn1.weight").data, state["module.bn1.weight"])


# What the papers print


STA = {"kind": "sta"}


def counted(*attention: dict[str, Any], classes: int, **changes: Any):
    network = model(*attention, **changes)
    net = on_meta(network, classes)
    use_reference_forms(net)
    return network, cost(network, classes), count_elements(net, clips(network))


@pytest.mark.parametrize(("attention", "printed", "params_m"), [([], 38.5014, 47.521), ([STA], 38.5019, 47.644)])
def test_resnext101_and_sta_cost_what_paper_001_prints(attention: list[Any], printed: float, params_m: float) -> None:
    network, total, found = counted(*attention, backbone={"kind": "resnext3d"}, frames=64, size=112, classes=51)

    # One for each value of a norm and of a ReLU, 27 for each that the stem's pool gives, one for each that is averaged.
    convention = found.macs + found.norm + found.relu + 27 * found.max_pool_out + found.avg_pool_in
    # Table IV's c l for the product, at the three blocks of conv5: 4 frames there.
    product = sum(4 * site.channels for module in network.attention for site in module.at(plain_sites(network)))
    assert (convention + product) / 1e9 == pytest.approx(printed, abs=0.00005)
    assert total.params_m - 2049 * 51 / 1e6 == pytest.approx(params_m, abs=0.0005)


def test_plain_cost_of_resnext101() -> None:
    assert cost(model(backbone={"kind": "resnext3d"}, frames=64, size=112), 51).gflops == pytest.approx(
        38.2677, abs=5e-5
    )


@pytest.mark.parametrize(
    ("tree", "size", "printed"),
    [({"kind": "c3d"}, 112, 38.57), ({"kind": "p3d", "depth": 199}, 160, 18.51), ({"kind": "tcnn"}, 224, 15.78)],
)
def test_c3d_p3d_and_tcnn_cost_what_paper_004_prints(tree: dict[str, Any], size: int, printed: float) -> None:
    _, _, found = counted(backbone=tree, frames=16, size=size, classes=101)

    assert found.stated() / 1e9 == pytest.approx(printed, rel=0.005)
    exact = {"c3d": 38.571, "p3d": 18.508, "tcnn": 15.732}[tree["kind"]]
    assert found.stated() / 1e9 == pytest.approx(exact, abs=0.0006)


def test_plain_cost_of_tcnn() -> None:
    total = cost(model(backbone={"kind": "tcnn"}, frames=16, size=224), 101)

    assert total.gflops == pytest.approx(15.663, abs=0.0005)
    assert total.params_m == pytest.approx(12.96, abs=0.005)


@pytest.mark.parametrize(("alpha", "printed"), [(8, 36.1), (4, 65.7)])
def test_slowfast_50_costs_what_its_paper_prints(alpha: int, printed: float) -> None:
    # 4x16 and 8x8 of its Table 2, at 256 pixels. It says nothing of how it counts; plain products are 0.6 % from it.
    total = cost(model(backbone={"kind": "slowfast", "alpha": alpha}, frames=32, size=256), 400)

    assert total.gflops == pytest.approx(printed, rel=0.007)
    assert total.params_m == pytest.approx(34.4, abs=0.1)


def test_tam_in_the_place_of_slowfast_s_temporal_convolutions_is_lighter() -> None:
    tam = {"kind": "tam"}
    tree = {"kind": "slowfast", "temporal": "none"}
    ours = cost(model(tam, backbone=tree, frames=32, size=224), 400)
    theirs = cost(model(backbone={"kind": "slowfast"}, frames=32, size=224), 400)

    # In all 16 blocks of both pathways.
    network = model(tam, backbone=tree, frames=32, size=224)
    assert len(network.attention[0].at(network.backbone.sites(224))) == 32
    assert ours.macs < theirs.macs


def test_the_slow_pathway_takes_whole_shares_of_the_frames() -> None:
    with pytest.raises(ValueError, match=r"frames: must be a multiple of alpha, 8, of slowfast \(got 12\)"):
        model(backbone={"kind": "slowfast"}, frames=12)


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
def test_i3d_resnet18_and_m2a_cost_what_paper_002_prints(
    attention: list[Any], printed: float, gmacs: float | None, params_m: float
) -> None:
    network, total, found = counted(*attention, backbone={"kind": "i3d_resnet"}, frames=8, size=224, classes=174)

    # Four for each value of the full M2A's layer norm.
    full = attention == [M2A]
    inside = sum(
        network.backbone.frames_at(site, 8) * (site.channels // 8) * site.height * site.width
        for module in network.attention for site in module.at(plain_sites(network))
    )  # fmt: skip
    assert (found.m2a_paper() + 4 * full * inside) / 1e9 == pytest.approx(printed, rel=0.0006)
    assert gmacs is None or total.gflops == pytest.approx(gmacs, abs=0.0006)
    assert total.params_m == pytest.approx(params_m, abs=0.0005)


# T-CNN


def test_the_paper_s_tcnn_is_36_convolutions_with_9_dilated() -> None:
    with torch.device("meta"):
        net = TCNNConfig().build()
    main = [m for n, m in net.named_modules() if isinstance(m, nn.Conv3d) and "downsample" not in n]

    assert len(main) == 36
    dilated = [conv.dilation[0] for conv in main if conv.dilation[0] > 1]
    # Table 1, read down.
    assert dilated == [4, 4, 4, 4, 2, 4, 2, 2, 2]
    assert [len(pairs) * 2 for pairs in TCNNConfig().dilations] == [2, 2, 2, 12, 6, 8, 4]


def test_a_pair_reaches_its_dilation_and_no_frame_between() -> None:
    tree = {"kind": "tcnn", "widths": [4] * 7, "dilations": [[4], [1], [1], [1], [1], [1], [1]]}
    torch.manual_seed(0)
    pair = model(backbone=tree).backbone.build().eval().get_submodule("layers.0.0")
    x = torch.randn(1, 3, 12, 8, 8)
    other = x.clone()
    other[:, :, 5] += 1

    changed = (pair(x) != pair(other)).any(dim=0).any(dim=0).flatten(1).any(1)

    assert changed.nonzero().flatten().tolist() == [1, 5, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": [8] * 6}, r"widths: must have one entry for each of the 7 stages \(got 6\)"),
        ({"dilations": [[1]] * 8}, r"dilations: must have one entry for each of the 7 stages \(got 8\)"),
        ({"dilations": [[1]] * 6 + [[]]}, r"dilations: each stage has at least one pair; give stage 7 one"),
    ],
)
def test_layouts_without_seven_stages_of_pairs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(backbone={"kind": "tcnn"} | change)


def test_all_kinds_of_3d_are_tested_here() -> None:
    kinds = {n for n, c in BackboneConfig.kinds.items() if issubclass(c, BackboneConfig) and not c.folds}

    assert {tree["kind"] for tree, _, _ in SMALL.values()} == kinds

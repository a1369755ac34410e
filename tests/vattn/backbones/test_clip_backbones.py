"""Every backbone for clips (3D convolutions): sites, cost, gradients, published checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.vattn.backbones.support import ShapeRecorder, counted
from tests.vattn.counting import clips, model_activations, model_macs, on_meta
from tests.vattn.support import model
from vattn.backbones import BackboneConfig
from vattn.config import ModelConfig
from vattn.convert import load_published
from vattn.cost import cost
from vattn.model import build_model
from vattn.modules import Site

#: Configs that are fast to build, with the smallest number of frames and side in pixels that each accepts.
SMALL: dict[str, tuple[dict[str, Any], int, int]] = {
    "resnet3d": ({"kind": "resnet3d", "depth": 10, "width": 0.25}, 2, 8),
    "resnet3d-a": ({"kind": "resnet3d", "depth": 14, "width": 0.25, "shortcut": "A"}, 2, 8),
    "resnext3d": ({"kind": "resnext3d", "depth": 14, "width": 0.25, "cardinality": 8}, 2, 8),
    "i3d_resnet": ({"kind": "i3d_resnet", "depth": 10, "width": 0.25}, 2, 8),
    "i3d_resnet50": ({"kind": "i3d_resnet", "depth": 50, "width": 0.125}, 2, 8),
    "r3d": ({"kind": "r3d", "depth": 10, "width": 0.25}, 2, 8),
    "r2plus1d": ({"kind": "r2plus1d", "depth": 10, "width": 0.25}, 2, 8),
    "mc3": ({"kind": "mc3", "depth": 10, "width": 0.25}, 2, 8),
    "resnet2plus1d": ({"kind": "resnet2plus1d", "depth": 10, "width": 0.25}, 2, 8),
    "resnet2plus1d-bottleneck": ({"kind": "resnet2plus1d", "depth": 14, "width": 0.25}, 2, 8),
    "inflated": ({"kind": "inflated", "depth": 14, "width": 0.25}, 5, 8),
    "c3d": ({"kind": "c3d", "width": 0.125}, 16, 16),
    "p3d": ({"kind": "p3d", "depth": 17, "width": 0.25}, 16, 8),
    "tcnn": ({"kind": "tcnn", "widths": [8, 8, 16, 16, 24, 24, 32]}, 2, 8),
    "slowfast": ({"kind": "slowfast", "depth": 14, "width": 0.25, "alpha": 2}, 2, 8),
}
every_family = pytest.mark.parametrize("family", SMALL)
#: Published sizes, which tests build on the meta device only.
PUBLISHED: list[dict[str, Any]] = [
    {"kind": "resnet3d", "depth": 18},
    {"kind": "resnet3d", "depth": 50},
    {"kind": "resnet3d", "depth": 152},
    {"kind": "resnext3d"},
    {"kind": "i3d_resnet", "depth": 50},
    {"kind": "r3d"},
    {"kind": "r2plus1d"},
    {"kind": "mc3"},
    {"kind": "resnet2plus1d"},
    {"kind": "resnet2plus1d", "depth": 50},
    {"kind": "inflated"},
    {
        "kind": "inflated",
        "temporal": "slow",
        "stem_frames": 1,
        "stem_stride": 1,
        "pool_stride": 1,
        "pool_frames": False,
    },
    {"kind": "i3d_resnet", "padding": "zeros"},
    {"kind": "slowfast", "lateral_frames": 7, "slow_frames": "spread"},
    {"kind": "resnext3d", "cardinality": 8, "inputs": 2},
    {"kind": "p3d", "depth": 63, "inputs": 2},
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
        changes["frames"] += changes["frames"] % 2  # every second frame is the slow pathway's
    return model(*attention, **changes)


def sites_of(network: ModelConfig) -> list[Site]:
    return list(network.backbone.sites(network.size))


@pytest.mark.medium
@every_family
@given(more=st.integers(0, 24), wider=st.integers(0, 40))
@settings(max_examples=4)
def test_sites_declare_the_shapes_of_their_features(family: str, more: int, wider: int) -> None:
    _, frames, size = SMALL[family]
    network = small(family, frames=frames + more, size=size + wider)
    config = network.backbone
    with torch.device("meta"):
        net = config.build()
        recorders = {site: ShapeRecorder() for site in sites_of(network)}
        for site, recorder in recorders.items():
            net.insert(site, recorder)
        assert net.eval()(clips(network)).shape == (1, config.channels())

    shapes = {site: recorder.shape for site, recorder in recorders.items()}
    assert shapes == {s: (s.channels, config.frames_at(s, network.frames), s.height, s.width) for s in recorders}


@every_family
def test_sites_are_in_the_order_of_the_forward_pass(family: str) -> None:
    network, visited = small(family), []
    with torch.device("meta"):
        net = network.backbone.build()
        for site in sites_of(network):
            net.insert(site, recorder := ShapeRecorder())
            recorder.register_forward_pre_hook(lambda *_, site=site: visited.append(site))
        net.eval()(clips(network))

    assert visited == sites_of(network)


@pytest.mark.medium
@every_family
@given(more=st.integers(0, 20), wider=st.integers(0, 40))
@settings(max_examples=3)
def test_closed_form_cost_equals_the_counted_cost(family: str, more: int, wider: int) -> None:
    _, frames, size = SMALL[family]
    network = small(family, frames=frames + more, size=size + wider)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())
    assert total.activations == model_activations(network, 7)


@pytest.mark.medium
@pytest.mark.parametrize("tree", PUBLISHED, ids=lambda tree: "-".join(map(str, tree.values())))
def test_closed_form_cost_of_published_sizes_equals_the_counted_cost(tree: dict[str, Any]) -> None:
    network = model(backbone=tree, size=32, frames=16)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())


@pytest.mark.medium
@every_family
@pytest.mark.parametrize("attention", [{"kind": "tam", "beta": 2}, {"kind": "sta"}, {"kind": "se", "reduction": 2}])
def test_closed_form_cost_with_mechanisms_equals_the_counted_cost(family: str, attention: dict[str, Any]) -> None:
    network = small(family, attention | {"position": "d", "stages": [2, 3, 4, 5]}, more=20)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())
    assert total.activations >= model_activations(network, 7)


@pytest.mark.medium
@every_family
def test_mechanisms_at_every_site_get_gradients(family: str) -> None:
    positions = small(family).backbone.positions()
    stages = [2, 3, 4, 5]
    attention = [{"kind": "tam", "position": p, "beta": 2, "stages": stages} for p in positions]
    network = small(family, *attention, more=8, head={"dropout": 0.0})
    torch.manual_seed(0)
    net = build_model(network, 3).train()

    net(torch.randn(2, 3, network.frames, network.size, network.size)).square().sum().backward()

    gates = [p for n, p in net.named_parameters() if n.endswith("gate.3.weight")]
    assert len(gates) == sum(site.stage in stages for site in sites_of(network))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@every_family
def test_memory_format_does_not_change_the_features(family: str) -> None:
    network = small(family, more=4)
    torch.manual_seed(0)
    net = network.backbone.build().double().eval()
    x = torch.randn(2, 3, network.frames, network.size, network.size, dtype=torch.double)

    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last_3d)), expected)
    assert expected.std() > 0


@every_family
def test_autocast_gives_half_precision_scores(family: str) -> None:
    network = small(family, {"kind": "sta"}, more=4)
    net = build_model(network, 3)

    with torch.autocast("cpu", torch.bfloat16):
        scores = net(torch.randn(4, 3, network.frames, network.size, network.size))

    assert scores.dtype == torch.bfloat16
    assert scores.isfinite().all()


@every_family
def test_a_config_is_parsed_from_its_tree(family: str) -> None:
    network = small(family, {"kind": "sta"})

    assert ModelConfig.parse(network.tree()) == network


@pytest.mark.parametrize(("family", "name"), [("c3d", "frames"), ("c3d", "size"), ("p3d", "frames")])
def test_clips_too_small_for_the_pools_are_refused(family: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: {family} halves .* four times; take at least 16 \(got 15\)"):
        small(family, **{name: 15})


@pytest.mark.parametrize("kind", ["resnet3d", "resnext3d", "c3d", "p3d", "tcnn", "slowfast"])
def test_default_weights_are_refused_where_torchvision_publishes_none(kind: str) -> None:
    tree = next(tree for tree in PUBLISHED if tree["kind"] == kind)
    with pytest.raises(ValueError, match=f"weights: torchvision publishes none of {kind}; write none"):
        model(backbone=tree | {"weights": "default"}, frames=16)


def test_default_weights_are_refused_for_other_sizes() -> None:
    for tree, depths in (
        ({"kind": "i3d_resnet", "depth": 10}, "18, 34, 50 and 101"),
        ({"kind": "r3d", "depth": 34}, "18"),
    ):
        with pytest.raises(ValueError, match=rf"default has depths? {depths} at width 1.*\(got depth {tree['depth']}"):
            model(backbone=tree | {"weights": "default"})


def authors_p3d_state(network: ModelConfig) -> dict[str, Tensor]:
    """Return random weights with the authors' names, which differ in the stem and in the 3x3 convolutions of res5."""
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
        state = authors_p3d_state(network)
        assert state["module.layer4.0.conv_normal.weight"].ndim == 4
    else:
        state = {"module." + n.removeprefix("backbone."): torch.rand(v.shape) for n, v in net.state_dict().items()}
    torch.save({"state_dict": state, "arch": "x", "epoch": 3}, tmp_path / "checkpoint.pth")

    assert load_published(net, network, tmp_path / "checkpoint.pth")

    torch.testing.assert_close(net.backbone.get_parameter("bn1.weight").data, state["module.bn1.weight"])


@pytest.mark.parametrize(
    ("tree", "size", "printed"),
    [({"kind": "c3d"}, 112, 38.57), ({"kind": "p3d", "depth": 199}, 160, 18.51), ({"kind": "tcnn"}, 224, 15.78)],
)
def test_c3d_p3d_and_tcnn_cost_what_the_tcnn_paper_prints(tree: dict[str, Any], size: int, printed: float) -> None:
    _, _, elements = counted(backbone=tree, frames=16, size=size, classes=101)

    assert elements.stated() / 1e9 == pytest.approx(printed, rel=0.005)
    exact = {"c3d": 38.571, "p3d": 18.508, "tcnn": 15.732}[tree["kind"]]
    assert elements.stated() / 1e9 == pytest.approx(exact, abs=0.0006)


def test_every_kind_of_clip_backbone_is_tested() -> None:
    kinds = {n for n, c in BackboneConfig.kinds.items() if issubclass(c, BackboneConfig) and not c.folds}

    assert {tree["kind"] for tree, _, _ in SMALL.values()} == kinds

"""Every backbone for images has the layers of torchvision's network, and sites for mechanisms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.vattn.backbones.support import ShapeRecorder, with_random_norms
from tests.vattn.counting import model_activations, model_macs, on_meta
from tests.vattn.support import model
from vattn.backbones import BackboneConfig
from vattn.config import ModelConfig
from vattn.cost import cost
from vattn.model import build_model
from vattn.modules import Site

#: A config and torchvision's network of the same architecture: small and published sizes of each family.
TORCHVISION: dict[str, tuple[dict[str, Any], Callable[..., nn.Module]]] = {
    "resnet18": ({"kind": "resnet", "depth": 18}, torchvision.models.resnet18),
    "resnext50": ({"kind": "resnext"}, torchvision.models.resnext50_32x4d),
    "resnext101": ({"kind": "resnext", "depth": 101, "width_per_group": 8}, torchvision.models.resnext101_32x8d),
    "mobilenet": ({"kind": "mobilenet_v2"}, torchvision.models.mobilenet_v2),
    "mobilenet0.1": (
        {"kind": "mobilenet_v2", "width": 0.1},
        lambda: torchvision.models.mobilenet_v2(width_mult=0.1),
    ),
    "mobilenet1.4": (
        {"kind": "mobilenet_v2", "width": 1.4},
        lambda: torchvision.models.mobilenet_v2(width_mult=1.4),
    ),
    "shufflenet0.5": ({"kind": "shufflenet_v2", "width": 0.5}, torchvision.models.shufflenet_v2_x0_5),
    "shufflenet1.0": ({"kind": "shufflenet_v2"}, torchvision.models.shufflenet_v2_x1_0),
    "shufflenet1.5": ({"kind": "shufflenet_v2", "width": 1.5}, torchvision.models.shufflenet_v2_x1_5),
    "shufflenet2.0": ({"kind": "shufflenet_v2", "width": 2}, torchvision.models.shufflenet_v2_x2_0),
    "inception": (
        {"kind": "inception_v3"},
        lambda: torchvision.models.inception_v3(weights=None, init_weights=False),
    ),
}
every_network = pytest.mark.parametrize("name", TORCHVISION)
#: Configs that are fast to build, and the side of the smallest image that each accepts, pixels.
SMALL = {
    "resnext": ({"kind": "resnext", "width": 0.25, "cardinality": 8}, 8),
    "mobilenet": ({"kind": "mobilenet_v2", "width": 0.25}, 8),
    "shufflenet": ({"kind": "shufflenet_v2", "width": 0.5}, 8),
    "inception": ({"kind": "inception_v3"}, 75),
}
every_family = pytest.mark.parametrize("family", SMALL)


def backbone_config(tree: dict[str, Any]) -> BackboneConfig:
    return model(backbone=tree, size=75).backbone


def features_only(net: nn.Module) -> nn.Module:
    """Remove the classifier of a torchvision network."""
    for name in ("fc", "classifier"):
        if hasattr(net, name):
            setattr(net, name, nn.Identity())
    return net.eval()


@every_network
def test_state_dict_names_and_shapes_equal_torchvisions(name: str) -> None:
    tree, build = TORCHVISION[name]
    with torch.device("meta"):
        state = build().state_dict()
        own = backbone_config(tree).build().state_dict()

    expected = {n: v.shape for n, v in state.items() if not n.startswith(("fc.", "classifier.", "AuxLogits."))}
    assert {n: v.shape for n, v in own.items()} == expected


@pytest.mark.medium
@pytest.mark.parametrize("name", [name for name in TORCHVISION if name not in ("resnext101", "shufflenet2.0")])
def test_torchvision_weights_give_torchvision_features(name: str, tmp_path: Path) -> None:
    tree, build = TORCHVISION[name]
    torch.manual_seed(0)
    reference = with_random_norms(build())
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    net = backbone_config(tree | {"weights": str(tmp_path / "weights.pth")}).build().eval()
    images = torch.randn(2, 3, 80, 91)

    with torch.no_grad():
        features, expected = net(images), features_only(reference)(images)

    assert expected.std() > 0.01
    torch.testing.assert_close(features, expected)


@pytest.mark.medium
@every_family
@given(data=st.data())
@settings(max_examples=4)
def test_sites_declare_the_shapes_of_their_features(family: str, data: st.DataObject) -> None:
    tree, smallest = SMALL[family]
    config, size = backbone_config(tree), data.draw(st.integers(smallest, smallest + 60))
    with torch.device("meta"):
        net = config.build()
        recorders = {site: ShapeRecorder() for site in config.sites(size) if type(site) is Site}
        for site, recorder in recorders.items():
            net.insert(site, recorder)
        assert net.eval()(torch.empty(1, 3, size, size)).shape == (1, config.channels())

    expected = {s: (s.channels, s.height, s.width) for s in recorders}
    assert {site: recorder.shape for site, recorder in recorders.items()} == expected


@every_family
def test_sites_are_in_the_order_of_the_forward_pass(family: str) -> None:
    tree, smallest = SMALL[family]
    config, visited = backbone_config(tree), []
    sites = [site for site in config.sites(smallest) if type(site) is Site]
    with torch.device("meta"):
        net = config.build()
        for site in sites:
            net.insert(site, recorder := ShapeRecorder())
            recorder.register_forward_pre_hook(lambda *_, site=site: visited.append(site))
        net.eval()(torch.empty(1, 3, smallest, smallest))

    assert visited == sites


@pytest.mark.medium
@every_family
@given(data=st.data())
@settings(max_examples=3)
def test_closed_form_cost_equals_the_counted_cost(family: str, data: st.DataObject) -> None:
    tree, smallest = SMALL[family]
    size, frames = data.draw(st.integers(smallest, smallest + 60)), data.draw(st.integers(1, 5))
    network = model(backbone=tree, size=size, frames=frames)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())
    assert total.activations == model_activations(network, 7)


@pytest.mark.medium
@pytest.mark.parametrize("name", TORCHVISION)
def test_closed_form_cost_of_published_sizes_equals_the_counted_cost(name: str) -> None:
    network = model(backbone=TORCHVISION[name][0], size=96, frames=1)

    total = cost(network, 7)

    assert (total.macs, total.activations) == (model_macs(network, 7), model_activations(network, 7))
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())


@pytest.mark.medium
@every_family
def test_closed_form_cost_with_mechanisms_equals_the_counted_cost(family: str) -> None:
    tree, smallest = SMALL[family]
    network = model({"kind": "tam", "beta": 2}, backbone=tree, size=max(64, smallest))

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters())
    assert total.activations == model_activations(network, 7)


@pytest.mark.medium
@every_family
def test_mechanisms_at_every_site_get_gradients(family: str) -> None:
    tree, smallest = SMALL[family]
    attention = [{"kind": "tam", "position": p, "beta": 2} for p in ("block", "a", "b", "c", "d")]
    network = model(*attention, backbone=tree, size=max(32, smallest), head={"dropout": 0.0})
    torch.manual_seed(0)
    net = build_model(network, 3).train()

    net(torch.randn(2, 3, network.frames, network.size, network.size)).square().sum().backward()

    gates = [p for n, p in net.named_parameters() if n.endswith("gate.3.weight")]
    assert len(gates) == sum(type(site) is Site for site in network.backbone.sites(network.size))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@every_family
def test_memory_format_does_not_change_the_features(family: str) -> None:
    tree, smallest = SMALL[family]
    torch.manual_seed(0)
    net, images = (
        backbone_config(tree).build().double().eval(),
        torch.randn(2, 3, smallest, smallest, dtype=torch.double),
    )

    with torch.no_grad():
        expected = net(images)
        features = net.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(features, expected)


@every_family
def test_autocast_gives_half_precision_features(family: str) -> None:
    tree, smallest = SMALL[family]
    net = backbone_config(tree).build()

    with torch.autocast("cpu", torch.bfloat16):
        features = net(torch.randn(4, 3, smallest, smallest))

    assert features.dtype == torch.bfloat16
    assert features.isfinite().all()


@pytest.mark.parametrize(
    ("tree", "file"),
    [
        ({"kind": "resnext"}, r"resnext50_32x4d-\w+\.pth"),
        ({"kind": "resnext", "depth": 101, "cardinality": 64}, r"resnext101_64x4d-\w+\.pth"),
        ({"kind": "mobilenet_v2"}, r"mobilenet_v2-\w+\.pth"),
        ({"kind": "shufflenet_v2", "width": 0.5}, r"shufflenetv2_x0.5-\w+\.pth"),
        ({"kind": "shufflenet_v2", "width": 2.0}, r"shufflenetv2_x2_0-\w+\.pth"),
        ({"kind": "inception_v3"}, r"inception_v3_google-\w+\.pth"),
    ],
)
def test_missing_default_weights_name_the_file_and_where_to_put_it(
    tree: dict[str, Any], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)

    with torch.device("meta"), pytest.raises(ValueError, match=f"{file}.*put it at .*checkpoints/{file}"):
        backbone_config(tree | {"weights": "default"}).build()


@pytest.mark.slow
@every_family
def test_compiled_and_exported_networks_give_the_same_scores(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the compiler cannot read its assertions
    torch.compiler.reset()
    tree, smallest = SMALL[family]
    network = model({"kind": "tam", "beta": 2}, backbone=tree, size=max(32, smallest))
    net, clips = build_model(network, 3).eval(), torch.randn(1, 3, network.frames, network.size, network.size)

    with torch.no_grad():
        # Without code generation, which would take minutes per network.
        traced = torch.compile(net, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(traced(clips), net(clips), rtol=1e-4, atol=1e-5)
        # The exported TAM sums its taps in another order, and Inception's untrained layers grow the values to 1500.
        exported = torch.export.export(net, (clips,)).module()
        torch.testing.assert_close(exported(clips), net(clips), rtol=1e-4, atol=1e-5)


@every_family
def test_the_same_list_of_mechanisms_is_valid_in_every_family(family: str) -> None:
    tree, smallest = SMALL[family]
    attention = [{"kind": "tsm"}, {"kind": "tam", "beta": 2, "stages": [2, 3, 4, 5]}]

    network = model(*attention, backbone=tree, size=smallest)

    assert ModelConfig.parse(network.tree()) == network
    assert network.backbone.positions()[0] == "block"

"""ResNet has the layers of torchvision's ResNet, and sites for mechanisms."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.backbones.support import ShapeRecorder
from tests.vattn.support import model
from vattn.backbones.resnet import ResNet, ResNetConfig
from vattn.model import build_model
from vattn.modules import Site


@pytest.mark.parametrize("depth", [14, 18, 34, 50, 101])
def test_state_dict_names_and_shapes_equal_torchvisions(depth: int) -> None:
    with torch.device("meta"):
        # Torchvision has no named model with one bottleneck per stage.
        small = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
        reference = (small if depth == 14 else getattr(torchvision.models, f"resnet{depth}")()).state_dict()
        state = ResNet(ResNetConfig.parse({"depth": depth})).state_dict()

    expected = {name: value.shape for name, value in reference.items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in state.items()} == expected


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_weights_give_torchvision_features(depth: int, tmp_path: Path) -> None:
    reference = getattr(torchvision.models, f"resnet{depth}")().eval()
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    reference.fc = nn.Identity()
    net = ResNetConfig.parse({"depth": depth, "weights": str(tmp_path / "weights.pth")}).build().eval()
    images = torch.randn(2, 3, 40, 56)

    torch.testing.assert_close(net(images), reference(images))


@pytest.mark.medium
@given(
    depth=st.sampled_from([10, 18, 50]), width=st.sampled_from([0.1, 0.3, 1.0]), size=st.integers(8, 90)
)  # fmt: skip
def test_sites_declare_the_shapes_of_their_features(depth: int, width: float, size: int) -> None:
    config = ResNetConfig.parse({"depth": depth, "width": width})
    with torch.device("meta"):
        net = ResNet(config)
        recorders = {site: ShapeRecorder() for site in config.sites(size) if type(site) is Site}
        for site, recorder in recorders.items():
            net.insert(site, recorder)
        net.eval()(torch.empty(1, 3, size, size))

    expected = {s: (s.channels, s.height, s.width) for s in recorders}
    assert {site: recorder.shape for site, recorder in recorders.items()} == expected


def test_blocks_positions_and_strides_of_depth_50() -> None:
    sites = ResNetConfig(depth=50).sites(224)

    assert len(sites) == (3 + 4 + 6 + 3) * 7
    # The input of the first block of stage 3 is 256 channels of 56 x 56; its 3x3 convolution halves the side.
    assert [s for s in sites if (s.stage, s.block) == (3, 0) and type(s) is Site] == [
        Site(3, 0, "block", 256, 56, 56), Site(3, 0, "a", 256, 56, 56), Site(3, 0, "b", 128, 56, 56),
        Site(3, 0, "c", 128, 28, 28), Site(3, 0, "d", 512, 28, 28),
    ]  # fmt: skip


def test_width_scales_every_layer_to_multiples_of_8_channels() -> None:
    net = ResNetConfig(depth=10, width=0.3).build()

    # 0.3 x 64, 128, 256, 512 = 19.2, 38.4, 76.8, 153.6.
    assert isinstance(net, ResNet)
    assert [net.get_parameter(f"layer{i}.0.conv1.weight").shape[0] for i in (1, 2, 3, 4)] == [16, 40, 80, 152]
    assert net.conv1.out_channels == 16
    assert net.channels == 152


@pytest.mark.parametrize("changes", [{"depth": 10}, {"depth": 14}, {"depth": 18, "width": 0.5}])
def test_default_weights_are_refused_where_torchvision_publishes_none(changes: dict) -> None:
    with pytest.raises(ValueError, match="default has depths 18, 34, 50 and 101 at width 1"):
        ResNetConfig.parse(changes | {"weights": "default"})


def test_without_a_network_default_weights_are_read_from_the_place_that_the_error_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    network = model(backbone={"kind": "resnet", "depth": 18, "weights": "default"})
    reference = torchvision.models.resnet18()

    line = r"^weights: default needs https:.*/(resnet18-\w+\.pth), .*\1, or write none$"
    with pytest.raises(ValueError, match=line) as error:
        build_model(network, 5)
    assert not capsys.readouterr().out
    place = Path(str(error.value).rpartition("put it at ")[2].removesuffix(", or write none"))
    assert place.is_relative_to(tmp_path)
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(reference.state_dict(), place)
    torch.testing.assert_close(build_model(network, 5).backbone.get_parameter("conv1.weight"), reference.conv1.weight)
    torch.save(reference, place)
    with pytest.raises(ValueError, match=r"^weights: .*resnet18-\w+\.pth is not read: .*could run any code"):
        build_model(network, 5)


def test_entries_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = ResNetConfig(depth=10).build().state_dict()
    state["layer9.weight"] = state.pop("layer1.0.conv2.weight")
    state["conv1.weight"] = torch.zeros(1)
    torch.save(state, file := tmp_path / "other.pth")

    with pytest.raises(ValueError, match=r"other.pth does not fit.*layer1.0.conv2.weight.*layer9.weight.*conv1.weight"):
        ResNetConfig(depth=10, weights=str(file)).build()


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")

    with pytest.raises(ValueError, match="no file"):
        ResNetConfig(depth=10, weights=str(tmp_path / "none.pth")).build()
    with pytest.raises(ValueError, match="not a state dict"):
        ResNetConfig(depth=10, weights=str(tmp_path / "text.pth")).build()

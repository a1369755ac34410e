"""ResNet is torchvision's, with places for mechanisms."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.support import model
from vattn.backbones.resnet import ResNet, ResNetConfig
from vattn.model import build_model
from vattn.modules import Site


class Look(nn.Module):
    """Passes its input through and remembers the shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shape = tuple(x.shape[1:])
        return x


@pytest.mark.parametrize("depth", [14, 18, 34, 50, 101])
def test_names_shapes_and_start_are_those_of_torchvision(depth: int) -> None:
    with torch.device("meta"):
        # Theirs has no name for one bottleneck a stage.
        small = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
        theirs = (small if depth == 14 else getattr(torchvision.models, f"resnet{depth}")()).state_dict()
        ours = ResNet(ResNetConfig.parse({"depth": depth})).state_dict()

    expected = {name: value.shape for name, value in theirs.items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in ours.items()} == expected


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_s_weights_give_torchvision_s_features(depth: int, tmp_path: Path) -> None:
    theirs = getattr(torchvision.models, f"resnet{depth}")().eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    theirs.fc = nn.Identity()
    ours = ResNetConfig.parse({"depth": depth, "weights": str(tmp_path / "weights.pth")}).build().eval()
    images = torch.randn(2, 3, 40, 56)

    torch.testing.assert_close(ours(images), theirs(images))


@given(
    depth=st.sampled_from([10, 18, 50]), width=st.sampled_from([0.1, 0.3, 1.0]), size=st.integers(8, 90)
)  # fmt: skip
def test_sites_have_the_shapes_that_data_has_there(depth: int, width: float, size: int) -> None:
    config = ResNetConfig.parse({"depth": depth, "width": width})
    with torch.device("meta"):
        net = ResNet(config)
        looks = {site: Look() for site in config.sites(size) if type(site) is Site}
        for site, look in looks.items():
            net.insert(site, look)
        net.eval()(torch.empty(1, 3, size, size))

    assert {site: look.shape for site, look in looks.items()} == {s: (s.channels, s.height, s.width) for s in looks}


def test_blocks_positions_and_strides_of_depth_50() -> None:
    sites = ResNetConfig(depth=50).sites(224)

    assert len(sites) == (3 + 4 + 6 + 3) * 7
    # The first block of stage 3 takes 256 channels of 56 x 56 and halves them in its 3x3 convolution.
    assert [s for s in sites if (s.stage, s.block) == (3, 0) and type(s) is Site] == [
        Site(3, 0, "block", 256, 56, 56), Site(3, 0, "a", 256, 56, 56), Site(3, 0, "b", 128, 56, 56),
        Site(3, 0, "c", 128, 28, 28), Site(3, 0, "d", 512, 28, 28),
    ]  # fmt: skip


def test_width_scales_every_layer_in_steps_of_8_channels() -> None:
    net = ResNetConfig(depth=10, width=0.3).build()

    # 0.3 x 64, 128, 256, 512 = 19.2, 38.4, 76.8, 153.6.
    assert isinstance(net, ResNet)
    assert [net.get_parameter(f"layer{i}.0.conv1.weight").shape[0] for i in (1, 2, 3, 4)] == [16, 40, 80, 152]
    assert net.conv1.out_channels == 16
    assert net.channels == 152


@pytest.mark.parametrize("changes", [{"depth": 10}, {"depth": 14}, {"depth": 18, "width": 0.5}])
def test_default_weights_of_what_torchvision_has_not_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="default has depths 18, 34, 50 and 101 at width 1"):
        ResNetConfig.parse(changes | {"weights": "default"})


def test_default_weights_are_taken_from_the_place_that_is_named_where_there_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    network = model(backbone={"kind": "resnet", "depth": 18, "weights": "default"})
    theirs = torchvision.models.resnet18()

    line = r"^weights: default needs https:.*/(resnet18-\w+\.pth), .*\1, or write none$"
    with pytest.raises(ValueError, match=line) as error:
        build_model(network, 5)
    assert not capsys.readouterr().out
    place = Path(str(error.value).rpartition("put it at ")[2].removesuffix(", or write none"))
    assert place.is_relative_to(tmp_path)
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(theirs.state_dict(), place)
    torch.testing.assert_close(build_model(network, 5).backbone.get_parameter("conv1.weight"), theirs.conv1.weight)
    torch.save(theirs, place)
    with pytest.raises(ValueError, match=r"^weights: .*resnet18-\w+\.pth is not read: .*could run any code"):
        build_model(network, 5)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = ResNetConfig(depth=10).build().state_dict()
    state["layer9.weight"] = state.pop("layer1.0.conv2.weight")
    state["conv1.weight"] = torch.zeros(1)
    torch.save(state, file := tmp_path / "other.pth")

    with pytest.raises(ValueError, match=r"other.pth does not fit.*layer1.0.conv2.weight.*layer9.weight.*conv1.weight"):
        ResNetConfig(depth=10, weights=str(file)).build()


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")

    with pytest.raises(ValueError, match="no file"):
        ResNetConfig(depth=10, weights=str(tmp_path / "none.pth")).build()
    with pytest.raises(ValueError, match="not a state dict"):
        ResNetConfig(depth=10, weights=str(tmp_path / "text.pth")).build()

"""TAM's baselines of fixed kernels: average, convolution, and the inflated first convolution."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.support import model, site
from vattn.cost import cost
from vattn.model import build_model
from vattn.modules._temporal import LearnableShift, TemporalConv
from vattn.modules.c2d_pool import C2DPoolConfig
from vattn.modules.c2d_tconv import C2DTConvConfig
from vattn.modules.i3d import I3DConfig


@given(kernel_size=st.sampled_from([1, 3, 5]), groups=st.sampled_from([1, 2, 4]), last=st.booleans())
def test_a_temporal_convolution_is_the_3d_convolution_of_one_pixel(kernel_size: int, groups: int, last: bool) -> None:
    conv = TemporalConv(4, 8, kernel_size, groups, bias=True)
    x = torch.randn(2, 4, 6, 3, 5).to(memory_format=torch.channels_last_3d if last else torch.contiguous_format)

    y = conv(x)

    weight, padding = conv.weight[..., None, None], (kernel_size // 2, 0, 0)
    torch.testing.assert_close(y, nn.functional.conv3d(x, weight, conv.bias, padding=padding, groups=groups))


def test_a_fresh_learnable_shift_is_a_shift_and_may_stand_still() -> None:
    shift, x = LearnableShift(5, div=4), torch.arange(1.0, 4.0).view(1, 1, 3, 1, 1).expand(1, 5, 3, 2, 2)

    assert shift(x)[0, :, :, 0, 0].tolist() == [[2, 3, 0], [0, 1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    shift.init_identity()
    torch.testing.assert_close(shift(x), x)


def test_the_average_is_of_the_frames_that_there_are() -> None:
    # 2, 4, 9, 1: (2 + 4) / 2, (2 + 4 + 9) / 3, (4 + 9 + 1) / 3, (9 + 1) / 2.
    pool = C2DPoolConfig().build(site(1), 4)

    y = pool(torch.tensor([2.0, 4.0, 9.0, 1.0]).view(1, 1, 4, 1, 1))

    torch.testing.assert_close(y.flatten(), torch.tensor([3.0, 5.0, 14 / 3, 5.0]))


@pytest.mark.parametrize(
    "config", [C2DPoolConfig(kernel_size=5), C2DTConvConfig(kernel_size=5), I3DConfig(kernel_size=5)]
)
def test_a_frame_reaches_half_the_kernel_either_way(config: Any) -> None:
    module = config.build(site(4, position="conv1" if config.kind == "i3d" else "b"), 8)
    x = torch.randn(1, 4, 8, 3, 3)
    other = x.clone()
    other[:, :, 3] += 1

    changed = (module(x) != module(other)).any(dim=(0, 1, 3, 4))

    assert changed.tolist() == [abs(t - 3) <= 2 for t in range(8)]


@pytest.mark.parametrize("config", [C2DPoolConfig, C2DTConvConfig, I3DConfig])
def test_even_kernels_are_refused(config: Any) -> None:
    with pytest.raises(ValueError, match=r"kernel_size\n.*must be odd, so that T frames in give T frames out; try 5"):
        config(kernel_size=4)


def test_inflation_starts_from_the_weights_it_replaces() -> None:
    backbone = {"kind": "resnet", "depth": 50, "width": 0.25}
    recipe = {"kind": "i3d", "stages": [3], "every": 2}
    torch.manual_seed(0)
    flat = build_model(model(backbone=backbone), 5).state_dict()
    torch.manual_seed(0)
    deep = build_model(model(recipe, backbone=backbone), 5).state_dict()

    before, after = "backbone.layer2.2.conv1.weight", "backbone.layer2.2.conv1.module.weight"
    torch.testing.assert_close(deep[after].sum(-1), flat[before].flatten(1))
    torch.testing.assert_close(deep[after][..., 0], deep[after][..., 2])
    assert "backbone.layer2.1.conv1.weight" in deep


def test_inflation_as_identity_computes_what_the_network_did() -> None:
    backbone, x = {"kind": "resnet", "depth": 50, "width": 0.25}, torch.randn(2, 3, 4, 32, 32)
    torch.manual_seed(0)
    flat = build_model(model(backbone=backbone), 5).eval()
    torch.manual_seed(0)
    deep = build_model(model({"kind": "i3d", "init": "identity"}, backbone=backbone), 5).eval()
    deep.fc.load_state_dict(flat.fc.state_dict())

    torch.testing.assert_close(deep(x), flat(x))


def test_parameters_of_whole_networks_are_those_of_resnet_50_and_the_taps() -> None:
    # TAM's setting: ResNet-50, 400 classes, 24.328 M. A convolution of 3 taps of each stage's width squared in 3, 4, 6
    # and 3 blocks; two taps more in each first convolution, whose input is 64 or what blocks give out.
    tconv = 3 * (3 * 64**2 + 4 * 128**2 + 6 * 256**2 + 3 * 512**2)
    first = 64 * 64 + 256 * 128 + 512 * 256 + 1024 * 512
    rest = 2 * 256 * 64 + 3 * 512 * 128 + 5 * 1024 * 256 + 2 * 2048 * 512
    network = {"depth": 50, "width": 1.0, "frames": 8, "size": 256}
    plain = cost(model(**network), 400).params

    assert plain == pytest.approx(24.328e6, abs=500)
    assert cost(model({"kind": "c2d_pool"}, **network), 400).params == plain
    assert cost(model({"kind": "c2d_tconv"}, **network), 400).params == plain + tconv
    assert cost(model({"kind": "i3d"}, **network), 400).params == plain + 2 * (first + rest)

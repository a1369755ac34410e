"""Temporal convolutions, and the baselines of TAM that have fixed kernels: C2D-Pool, C2D-TConv and I3D."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.support import model, site
from vattn.cost import cost
from vattn.modules._temporal import LearnableShift, TemporalConv
from vattn.modules.c2d_pool import C2DPoolConfig
from vattn.modules.c2d_tconv import C2DTConvConfig
from vattn.modules.i3d import I3DConfig


@given(kernel_size=st.sampled_from([1, 3, 5]), groups=st.sampled_from([1, 2, 4]), last=st.booleans())
def test_temporal_convolution_equals_a_3d_convolution_with_a_kernel_of_one_pixel(
    kernel_size: int, groups: int, last: bool
) -> None:
    conv = TemporalConv(4, 8, kernel_size, groups, bias=True)
    x = torch.randn(2, 4, 6, 3, 5).to(memory_format=torch.channels_last_3d if last else torch.contiguous_format)

    y = conv(x)

    weight, padding = conv.weight[..., None, None], (kernel_size // 2, 0, 0)
    torch.testing.assert_close(y, nn.functional.conv3d(x, weight, conv.bias, padding=padding, groups=groups))


def test_learnable_shift_starts_as_a_shift_or_as_the_identity() -> None:
    shift, x = LearnableShift(5, div=4), torch.arange(1.0, 4.0).view(1, 1, 3, 1, 1).expand(1, 5, 3, 2, 2)

    assert shift(x)[0, :, :, 0, 0].tolist() == [[2, 3, 0], [0, 1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    shift.init_identity()
    torch.testing.assert_close(shift(x), x)


@pytest.mark.parametrize(
    "config", [C2DPoolConfig(kernel_size=5), C2DTConvConfig(kernel_size=5), I3DConfig(kernel_size=5)]
)
def test_frame_affects_frames_within_half_the_kernel(config: Any) -> None:
    module = config.build(site(4, position="conv1" if config.kind == "i3d" else "b"), 8)
    x = torch.randn(1, 4, 8, 3, 3)
    changed_x = x.clone()
    changed_x[:, :, 3] += 1

    changed = (module(x) != module(changed_x)).any(dim=(0, 1, 3, 4))

    assert changed.tolist() == [abs(t - 3) <= 2 for t in range(8)]


@pytest.mark.parametrize("config", [C2DPoolConfig, C2DTConvConfig, I3DConfig])
def test_even_kernels_are_refused(config: Any) -> None:
    with pytest.raises(ValueError, match=r"kernel_size\n.*must be odd, so that T frames in give T frames out; try 5"):
        config(kernel_size=4)


def test_networks_have_the_parameters_of_resnet_50_and_of_the_added_taps() -> None:
    # ResNet-50 with 400 classes, as in the paper of TAM: 24.328 M. C2D-TConv adds 3 taps of width squared in 3, 4, 6
    # and 3 blocks. I3D adds two taps to the first convolution of each block, whose input has 64 channels or a block's
    # output.
    tconv = 3 * (3 * 64**2 + 4 * 128**2 + 6 * 256**2 + 3 * 512**2)
    first = 64 * 64 + 256 * 128 + 512 * 256 + 1024 * 512
    rest = 2 * 256 * 64 + 3 * 512 * 128 + 5 * 1024 * 256 + 2 * 2048 * 512
    network = {"depth": 50, "width": 1.0, "frames": 8, "size": 256}
    plain = cost(model(**network), 400).params

    assert plain == pytest.approx(24.328e6, abs=500)
    assert cost(model({"kind": "c2d_pool"}, **network), 400).params == plain
    assert cost(model({"kind": "c2d_tconv"}, **network), 400).params == plain + tconv
    assert cost(model({"kind": "i3d"}, **network), 400).params == plain + 2 * (first + rest)

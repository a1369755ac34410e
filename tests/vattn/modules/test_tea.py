"""TEA's motion excitation: values that are computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.support import model, site
from vattn.modules.tea import MotionExcitation, TEAConfig, window_means


def without_norms(module: MotionExcitation) -> MotionExcitation:
    module.bn1 = module.bn3 = nn.Identity()  # type: ignore[assignment]
    return module


def test_frame_is_gated_by_its_difference_to_the_next_frame() -> None:
    # Frames of 2 x 2 equal pixels: 1, 2, 4. A 3x3 kernel of ones sums all four pixels, so the differences are 4 * 2 - 1
    # = 7, 4 * 4 - 2 = 14, and 0 for the last frame. Times ln 3 / 7 they are ln 3, ln 9 and 0: sigmoids 3/4, 9/10 and
    # 1/2, factors 5/4, 7/5 and 1.
    module = without_norms(TEAConfig(reduction=1).build(site(channels=1, size=2), frames=3))
    for conv, value in (module.conv1, 1.0), (module.conv2, 1.0), (module.conv3, math.log(3) / 7):
        nn.init.constant_(conv.weight, value)
    x = torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2)

    y = module(x)

    torch.testing.assert_close(y, torch.tensor([1.25, 2.8, 4.0]).view(1, 1, 3, 1, 1).expand_as(x))


@given(height=st.integers(1, 5), width=st.integers(1, 5))
def test_window_means_give_the_mean_of_a_convolution(height: int, width: int) -> None:
    x, kernel = torch.randn(4, 3, height, width, dtype=torch.double), torch.randn(3, 1, 3, 3, dtype=torch.double)

    means = (window_means(x) * kernel.flatten(1)).sum(-1)

    torch.testing.assert_close(means, F.conv2d(x, kernel, padding=1, groups=3).mean((-2, -1)))


def test_logits_are_those_of_the_mean_of_motion_over_pixels() -> None:
    module = without_norms(TEAConfig(reduction=2).build(site(channels=8), frames=4))
    x = torch.randn(2, 8, 4, 6, 5)

    torch.testing.assert_close(module.expand(module.motion(x).mean((-2, -1), keepdim=True)), module.logits(x))


def test_frame_affects_itself_and_the_previous_frame() -> None:
    module = TEAConfig(reduction=2).build(site(channels=8), frames=6).eval().double()
    x = torch.randn(1, 8, 6, 6, 6, dtype=torch.double)
    changed = x.clone()
    changed[:, :, 3] += torch.randn(8, 6, 6)

    differs = (module(changed) != module(x)).amax((0, 1, 3, 4))

    assert differs.nonzero().flatten().tolist() == [2, 3]


def test_parameters_at_64_channels() -> None:
    # 1x1 from 64 to 4 channels with norm, depthwise 3x3, 1x1 back with norm.
    module = TEAConfig().build(site(channels=64), frames=8)

    assert sum(p.numel() for p in module.parameters()) == 256 + 8 + 36 + 256 + 128


def test_init_identity_trains_every_parameter_within_two_steps() -> None:
    module = TEAConfig(reduction=2, init="identity").build(site(channels=8), frames=4)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    x = torch.randn(2, 8, 4, 6, 6)

    for _ in range(2):
        optimizer.zero_grad()
        module(x).pow(2).sum().backward()
        optimizer.step()

    assert all(not p.equal(before[name]) for name, p in module.named_parameters())


def test_reduction_that_leaves_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention\[0\].reduction: must not exceed.*stage 2 has 16.*got 17"):
        model({"kind": "tea", "reduction": 17})
    model({"kind": "tea", "reduction": 17, "stages": [3, 4, 5]})

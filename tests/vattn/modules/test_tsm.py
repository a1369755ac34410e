"""TSM: which frame each channel shows."""

import pytest
import torch

from tests.vattn.support import model, site
from vattn.modules.tsm import TSMConfig


def frames_of(config: TSMConfig) -> list[list[int]]:
    """Return for each of 4 channels the frame that it shows in each of 3 frames; 0 is zero padding."""
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1, 1).expand(1, 4, 3, 2, 2).contiguous()
    return config.build(site(channels=4, size=2), 3)(x)[0, :, :, 0, 0].int().tolist()


def test_channels_take_the_next_the_previous_or_the_same_frame() -> None:
    assert frames_of(TSMConfig(div=4)) == [[2, 3, 0], [0, 1, 2], [1, 2, 3], [1, 2, 3]]


def test_online_shift_takes_no_later_frame() -> None:
    assert frames_of(TSMConfig(div=4, online=True)) == [[0, 1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3]]


def test_number_of_shifted_channels_is_rounded_down() -> None:
    # 4 // 3 = 1 channel in each direction.
    assert frames_of(TSMConfig(div=3)) == frames_of(TSMConfig(div=4))


def test_first_and_second_derivatives_are_exact() -> None:
    x = torch.randn(2, 8, 5, 3, 3, dtype=torch.double, requires_grad=True)

    assert torch.autograd.gradcheck(TSMConfig(div=4).build(site(channels=8), 5), x)
    assert torch.autograd.gradgradcheck(TSMConfig(div=4).build(site(channels=8), 5), x)


def test_div_that_leaves_no_channel_to_shift_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention\[0\].div: must not exceed.*stage 2 has 16.*got 17"):
        model({"kind": "tsm", "div": 17})

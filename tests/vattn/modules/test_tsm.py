"""TSM, frame by frame."""

import pytest
import torch

from tests.vattn.support import model, site
from vattn.modules.tsm import TSMConfig


def frames_of(config: TSMConfig) -> list[list[int]]:
    """The frame that each of 4 channels shows at each of 3 times; 0 is none."""
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1, 1).expand(1, 4, 3, 2, 2).contiguous()
    return config.build(site(channels=4, size=2), 3)(x)[0, :, :, 0, 0].int().tolist()


def test_a_part_looks_ahead_a_part_looks_back_and_the_rest_stays() -> None:
    assert frames_of(TSMConfig(div=4)) == [[2, 3, 0], [0, 1, 2], [1, 2, 3], [1, 2, 3]]


def test_online_no_channel_looks_ahead() -> None:
    assert frames_of(TSMConfig(div=4, online=True)) == [[0, 1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3]]


def test_div_rounds_the_part_down() -> None:
    # 4 // 3 = 1 channel each way.
    assert frames_of(TSMConfig(div=3)) == frames_of(TSMConfig(div=4))


def test_its_gradient_is_the_shift_back() -> None:
    x = torch.randn(2, 8, 5, 3, 3, dtype=torch.double, requires_grad=True)

    assert torch.autograd.gradcheck(TSMConfig(div=4).build(site(channels=8), 5), x)
    assert torch.autograd.gradgradcheck(TSMConfig(div=4).build(site(channels=8), 5), x)


def test_a_div_that_leaves_nothing_to_shift_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention\[0\].div: must not exceed.*stage 2 has 16.*got 17"):
        model({"kind": "tsm", "div": 17})

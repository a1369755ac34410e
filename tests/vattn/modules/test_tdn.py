"""TDN: the long-term difference module and the shift after it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.support import Always, site
from vattn.modules.tdn import LongTermDifference, TDNConfig


def difference_module(channels: int = 16, **options: int) -> LongTermDifference:
    module = TDNConfig.parse({"shift": False} | options).build(site(channels), frames=4).eval()
    assert isinstance(module, LongTermDifference)
    return module


def randomised(channels: int = 16) -> LongTermDifference:
    module = difference_module(channels, reduction=4)
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.5)
    return module


def test_differences_are_those_to_the_next_and_to_the_previous_frame() -> None:
    # Frames 1, 2, 4, 8 are smoothed to 2, 4, 8, 16. Forward: 4 - 1, 8 - 2, 16 - 4, 0. Backward: 0, 2 - 2, 4 - 4, 8 - 8.
    module = difference_module()
    nn.init.dirac_(module.smooth.weight)
    module.smooth.weight.data *= 2
    module.add_module("reduce", nn.Identity())
    frames = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 4, 1, 1).expand(1, 1, 4, 2, 2)

    differences = module._differences(frames)

    expected = torch.tensor([3.0, 6, 12, 0, 0, 0, 0, 0]).view(8, 1, 1, 1).expand(8, 1, 2, 2)
    torch.testing.assert_close(differences, expected)


def test_gates_of_both_directions_are_averaged() -> None:
    # Sigmoids of 0 and log 3 are 1/2 and 3/4. Their mean minus 1/2 is 1/8, so 8 becomes 9.
    module = difference_module()
    both = torch.cat([torch.zeros(4, 16, 6, 6), torch.full((4, 16, 6, 6), 3.0).log()])
    module.add_module("expand", Always(both))
    module.add_module("expand_norm", nn.Identity())
    x = torch.full((1, 16, 4, 6, 6), 8.0)

    torch.testing.assert_close(module(x), torch.full_like(x, 9.0))
    torch.testing.assert_close(module.gate(x), torch.full_like(x, 0.125))


def test_scales_are_averaged() -> None:
    # The difference is 3, its convolution at half the size 6, its convolution 12: the mean is 7.
    module = difference_module()
    outputs = {"coarse": torch.full((2, 1, 2, 2), 6.0), "fine": torch.full((2, 1, 5, 4), 12.0)}
    for name, value in outputs.items():
        module.add_module(name, Always(value))
        module.add_module(f"{name}_norm", nn.Identity())

    torch.testing.assert_close(module._scales(torch.full((2, 1, 5, 4), 3.0)), torch.full((2, 1, 5, 4), 7.0))


def test_defect_of_the_authors_code_feeds_the_forward_result_to_the_backward_branch() -> None:
    fixed, defect = randomised(), LongTermDifference(16, 4, authors_code=True).eval()
    defect.load_state_dict(fixed.state_dict())
    difference = torch.randn(6, 4, 4, 4)
    # With the defect, the fine branch does not depend on the backward half.
    for module in (fixed, defect):
        module.add_module("coarse", Always(torch.zeros(6, 4, 2, 2)))

    changed_difference = difference.clone()
    changed_difference[3:] = 0
    changed = defect._scales(difference) - defect._scales(changed_difference)

    torch.testing.assert_close(changed[3:], difference[3:] / 3)
    assert not torch.allclose(fixed._scales(difference)[3:] - fixed._scales(changed_difference)[3:], difference[3:] / 3)


@given(frame=st.integers(0, 5))
def test_frame_affects_itself_and_its_neighbours_only(frame: int) -> None:
    module, x = randomised().double(), torch.randn(1, 16, 6, 4, 4, dtype=torch.double)
    changed_x = x.clone()
    changed_x[:, :, frame] += torch.randn(1, 16, 4, 4)

    changed = (module(x) != module(changed_x)).any(dim=(0, 1, 3, 4))

    assert changed.tolist() == [abs(t - frame) <= 1 for t in range(6)]


def test_in_training_each_direction_has_its_own_statistics() -> None:
    module, x = difference_module(reduction=4).train(), torch.randn(2, 16, 4, 6, 6)
    module(x)

    assert module.expand_norm.num_batches_tracked == 2
    assert module.get_buffer("reduce.1.num_batches_tracked") == 1


def test_fresh_shift_follows_the_difference() -> None:
    module = TDNConfig(reduction=4).build(site(16), frames=3).eval()
    nn.init.zeros_(module.get_parameter("difference.expand_norm.weight"))
    x = torch.arange(1.0, 4.0).view(1, 1, 3, 1, 1).expand(1, 16, 3, 4, 4)

    y = module(x)[0, :, :, 0, 0]

    # 16 // 8 channels take the next frame, 2 the previous frame, 12 are unchanged.
    assert y[0:2].tolist() == [[2, 3, 0]] * 2
    assert y[2:4].tolist() == [[0, 1, 2]] * 2
    assert y[4:].tolist() == [[1, 2, 3]] * 12


def test_parameters_are_those_of_its_layers() -> None:
    # 64 -> 4 channels: 1x1 with norm, depthwise 3x3, two 3x3 with norms, 1x1 back with norm; then the shift.
    layers = (64 * 4 + 8) + 4 * 9 + 2 * (4 * 4 * 9 + 8) + (4 * 64 + 128)

    assert TDNConfig(shift=False).params(site(64), 8) == layers
    assert TDNConfig().params(site(64), 8) == layers + 64 * 3


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ({}, site(8), r"reduction: must not exceed the channels, of which stage 3 has 8 .*\(got 16\)"),
        ({"reduction": 4, "div": 16}, site(8), r"div: must not exceed the channels.*take 8 or less.*\(got 16\)"),
        ({}, site(16, size=4, width=1), r"stages: .*leave stage 3 out, or enlarge the crop \(got 4 x 1 pixels\)"),
    ],
)
def test_unsuitable_features_are_refused(options: dict, place: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TDNConfig.parse(options).check(place, 8)  # pyright: ignore[reportArgumentType]

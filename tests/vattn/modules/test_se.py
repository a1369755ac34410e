"""SE: gates each channel by the means of all channels."""

import pytest
import torch

from tests.vattn.support import Always, site
from vattn.modules.se import SEConfig


@pytest.mark.parametrize("squeeze", ["frame", "clip"])
def test_each_channel_is_multiplied_by_its_gate(squeeze: str) -> None:
    se = SEConfig.parse({"squeeze": squeeze, "reduction": 1}).build(site(2), 3)
    se.add_module("gate", Always(torch.tensor([[[0.5], [0.25]]])))

    y = se(torch.full((1, 2, 3, 4, 4), 8.0))

    torch.testing.assert_close(y[:, 0], torch.full((1, 3, 4, 4), 4.0))
    torch.testing.assert_close(y[:, 1], torch.full((1, 3, 4, 4), 2.0))


@pytest.mark.parametrize(("squeeze", "affected"), [("frame", [1]), ("clip", [0, 1, 2])])
def test_frames_affect_each_other_only_if_the_whole_clip_is_squeezed(squeeze: str, affected: list[int]) -> None:
    se = SEConfig.parse({"squeeze": squeeze, "reduction": 1}).build(site(4), 3)
    x = torch.rand(1, 4, 3, 4, 4)
    changed_x = x.clone()
    changed_x[:, :, 1] += 1

    changed = (se(x) != se(changed_x)).any(dim=(0, 1, 3, 4))

    assert changed.nonzero().flatten().tolist() == affected


def test_cost_is_two_layers_per_frame_or_per_clip() -> None:
    assert SEConfig().params(site(64), 8) == 2 * 64 * 4
    assert SEConfig().macs(site(64), 8) == 8 * 2 * 64 * 4
    assert SEConfig(squeeze="clip").macs(site(64), 8) == 2 * 64 * 4


def test_reduction_that_leaves_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reduction: must not exceed the channels, .*take 8 or less.*\(got 16\)"):
        SEConfig().check(site(8), 8)

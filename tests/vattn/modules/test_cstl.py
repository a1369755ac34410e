"""CSTL: the short term sees 3 and 5 frames, the long term all frames."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.support import Always, site
from vattn.modules.cstl import CSTLConfig, LongTerm, ShortTerm


def test_short_term_is_the_sum_of_both_convolutions() -> None:
    # A ramp 1, 2, 3, 4 under taps (1, 0, 0), zero padded: 0, 1, 2, 3; again: 0, 0, 1, 2; their sum.
    module = ShortTerm(1, groups=1).eval()
    module.first[1], module.second[1] = nn.Identity(), nn.Identity()
    for conv in (module.first[0], module.second[0]):
        conv.weight.data = torch.tensor([[[1.0, 0.0, 0.0]]])

    y = module(torch.arange(1.0, 5.0).view(1, 1, 4, 1, 1))

    assert y.flatten().tolist() == [0, 1, 3, 5]


def test_long_term_is_the_mean_weighted_by_scores() -> None:
    # Frames 1, 2, 6 with scores 1/2, 1/4, 1/4: (1/2 + 1/2 + 3/2) / 1 = 5/2 in each frame.
    module = CSTLConfig(term="long", reduction=1).build(site(2), 3).eval()
    assert isinstance(module, LongTerm)
    module.score = nn.Sequential(Always(torch.tensor([0.5, 0.25, 0.25]).view(1, 1, 3, 1, 1).expand(1, 2, 3, 2, 2)))

    y = module(torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1, 1).expand(1, 2, 3, 2, 2))

    torch.testing.assert_close(y, torch.full((1, 2, 3, 2, 2), 2.5))


@given(frame=st.integers(0, 7))
def test_short_term_sees_two_frames_in_each_direction(frame: int) -> None:
    module, x = CSTLConfig().build(site(4), 8).eval().double(), torch.randn(1, 4, 8, 3, 3, dtype=torch.double)
    changed_x = x.clone()
    changed_x[:, :, frame, 1, 1] += 1

    changed = (module(x) != module(changed_x)).any(dim=(0, 1))

    assert changed[:, 1, 1].tolist() == [abs(t - frame) <= 2 for t in range(8)]
    changed[:, 1, 1] = False
    assert not changed.any()


@pytest.mark.parametrize("term", ["short", "long"])
def test_groups_of_channels_are_processed_separately(term: str) -> None:
    config = CSTLConfig.parse({"term": term, "groups": 2, "reduction": 2})
    module, x = config.build(site(8), 4).eval(), torch.randn(1, 8, 4, 2, 2)
    changed_x = x.clone()
    changed_x[:, 0] += 1

    changed = (module(x) != module(changed_x)).any(dim=(0, 2, 3, 4))

    assert changed[:4].any()
    assert not changed[4:].any()


def test_parameters_are_those_of_the_convolutions_and_norms() -> None:
    # 64 channels in 4 groups of 16. Short: twice 3 x 16 weights per channel, two norms. Long: 64 -> 4 -> 64 channels.
    assert CSTLConfig(groups=4).params(site(64), 8) == 2 * (64 * 16 * 3 + 2 * 64)
    assert CSTLConfig(groups=4, term="long").params(site(64), 8) == 4 * 16 + 2 * 4 + 64 * 1


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"groups: must divide .* has 12 .*; take one of 1, 2, 3, 4, 6, 12 \(got 8\)"):
        CSTLConfig(groups=8).check(site(12), 8)


def test_reduction_that_leaves_no_channel_in_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reduction: .*has 32 at position b in 4 groups; lower .*\(got 16\)"):
        CSTLConfig(term="long", groups=4).check(site(32), 8)
    CSTLConfig(term="short", groups=4).check(site(32), 8)
